// Speed of a whole model in tokens a second, under one memory: prompts of 512 and 2,048 tokens, and
// single tokens after 128, 2,048 and 4,096. One JSON object on standard output, for
// tools/bench/compare_llama_cpp.py to set beside llama.cpp's.
//
//   bench_model --model model.gguf --threads 2 --memory full [--json]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>

#include "bench/bench.h"
#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "mneme/runtime/engine.h"
#include "mneme/runtime/session.h"

namespace mneme::bench {
namespace {

constexpr int64_t kDecodedTokens = 64;
constexpr int64_t kCheckedTokens = 48;

// Text of no meaning: the work does not depend on it.
std::vector<int32_t> random_tokens(const Engine& engine, int64_t count) {
  Rng rng(7);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens)
    token = static_cast<int32_t>(
        1000 + rng.below(std::min<int64_t>(20000, engine.model().config().vocabulary - 1000)));
  return tokens;
}

Session new_session(Engine& engine, const std::string& spec) {
  return {engine.model(), engine.pool(), engine.make_memory(spec)};
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A prompt in one step and token by token must give the same bits, else no figure means anything.
void check(Engine& engine, const std::string& spec) {
  const std::vector<int32_t> tokens = random_tokens(engine, kCheckedTokens);
  Session whole = new_session(engine, spec);
  Session single = new_session(engine, spec);
  whole.append(tokens);
  single.append(tokens, 1);
  MNEME_CHECK(std::ranges::equal(whole.logits(), single.logits()),
              "bench_model: a prompt at once and token by token differ: no figures");
}

nlohmann::ordered_json measure(Engine& engine, const std::string& spec, int64_t chunk) {
  nlohmann::ordered_json rates;
  const std::vector<int32_t> tokens = random_tokens(engine, 4096 + kDecodedTokens);
  const auto part = [&](int64_t first, int64_t count) {
    return std::span(tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
  };
  for (const int64_t length : {512, 2048}) {
    Session session = new_session(engine, spec);
    rates["prefill_" + std::to_string(length)] =
        static_cast<double>(length) / seconds([&] { session.append(part(0, length), chunk); });
  }
  Session session = new_session(engine, spec);
  int64_t done = 0;
  for (const int64_t context : {128, 2048, 4096}) {
    session.append(part(done, context - done), chunk);
    Session decoding = session.fork();
    const double elapsed = seconds([&] { decoding.append(part(context, kDecodedTokens), 1); });
    rates["decode_" + std::to_string(context)] = static_cast<double>(kDecodedTokens) / elapsed;
    done = context;
  }
  rates["memory_bytes"] = session.memory().resident_bytes();
  return rates;
}

int run(int argc, char** argv) {
  CLI::App app{"Speed of a whole model in tokens a second"};
  std::string model, memory = "full";
  int threads = 0;
  int64_t chunk = Session::kDefaultChunk;
  bool json = false;
  app.add_option("--model", model, "GGUF file")->required();
  app.add_option("--threads", threads, "0: one for each core");
  app.add_option("--memory", memory, "memory spec")->capture_default_str();
  app.add_option("--chunk", chunk, "prompt tokens in one step")->capture_default_str();
  app.add_flag("--json", json, "print one JSON object");
  CLI11_PARSE(app, argc, argv);
  const auto engine = Engine::open(model, {.threads = threads});
  check(*engine, memory);
  const nlohmann::ordered_json rates = measure(*engine, memory, chunk);
  if (json) {
    std::cout << rates.dump() << "\n";
  } else {
    for (const auto& [name, rate] : rates.items())
      std::printf("%-14s %12.1f\n", name.c_str(), rate.get<double>());
  }
  return 0;
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  try {
    return mneme::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "bench_model: " << error.what() << "\n";
    return 2;
  }
}
