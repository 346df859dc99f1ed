#include "apps/mneme/command.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "mneme/core/error.h"
#include "mneme/io/mapped_file.h"

namespace mneme::app {
namespace {

std::atomic<bool> interrupt_seen{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_interrupt(int signal) {
  if (interrupt_seen.exchange(true)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

constexpr const char* kDemoModel = "build/models/smollm2-135m-instruct-q4_1.gguf";

}  // namespace

void ModelOptions::add_to(CLI::App& command) {
  command.add_option(
      "-m,--model", model,
      "GGUF file of the model (default: $MNEME_MODEL, then the one `make demo` fetched)");
  command.add_option("--threads", threads, "threads, 0: one for each core")
      ->check(CLI::Range(0, 1024));
  command.add_flag("--copy", copy,
                   "read the weights into private memory instead of mapping the file");
}

void ModelOptions::add_with_weights_to(CLI::App& command) {
  add_to(command);
  command
      .add_option("--weights", weights,
                  "form of the linear layers' weights: file (as stored), float (the same, float32 "
                  "products) or int8, see `mneme explain "
                  "int8`")
      ->capture_default_str();
}

std::unique_ptr<Engine> ModelOptions::open() const {
  const WeightFormat format = parse_weight_format(weights);
  std::string path = model;
  if (path.empty()) {
    const char* from_environment = std::getenv("MNEME_MODEL");
    if (from_environment != nullptr && *from_environment != '\0') path = from_environment;
  }
  if (path.empty()) path = kDemoModel;
  std::error_code ignored;
  MNEME_CHECK(!model.empty() || std::filesystem::exists(path, ignored),
              "no model: give --model FILE.gguf, or set MNEME_MODEL, or run `make demo` once (",
              path, " is not there)");
  return Engine::open(path, {.threads = threads, .copy_file = copy, .weights = format});
}

std::string read_prompt(const std::string& prompt, const std::string& file) {
  MNEME_CHECK(prompt.empty() != file.empty(),
              "give either --prompt TEXT or --file FILE ('-': standard input)");
  if (!prompt.empty()) return prompt;
  if (file == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  const MappedFile content(file, MappedFile::Mode::kCopy);
  return {reinterpret_cast<const char*>(content.data()), static_cast<size_t>(content.size())};
}

int64_t parse_bytes(const std::string& text) {
  struct Unit {
    std::string_view name;
    double bytes;
  };
  constexpr std::array<Unit, 10> kUnits = {{{"", 1},
                                            {"B", 1},
                                            {"KB", 1e3},
                                            {"MB", 1e6},
                                            {"GB", 1e9},
                                            {"KiB", 0x1p10},
                                            {"MiB", 0x1p20},
                                            {"GiB", 0x1p30},
                                            {"M", 0x1p20},
                                            {"G", 0x1p30}}};
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc()) {
    const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
    for (const Unit& known : kUnits) {
      const double bytes = value * known.bytes;
      if (known.name == unit && bytes >= 0 && bytes < 0x1p62) return static_cast<int64_t>(bytes);
    }
  }
  fail("expected a number of bytes such as 500000, 64MiB or 1.5GiB, got '", text, "'");
}

Progress::Style progress_style(bool quiet) {
  return quiet ? Progress::Style::kQuiet : Progress::style_for(stderr);
}

bool interrupted() { return interrupt_seen.load(); }

void watch_interrupts() { std::signal(SIGINT, on_interrupt); }

int run_command(CLI::App& app, int argc, char** argv, const Action& action) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    app.exit(error, std::cout, std::cerr);
    return kBadInput;
  }
  watch_interrupts();
  const int code = action();
  std::cout.flush();
  if (!std::cout || std::fflush(stdout) != 0) fail("standard output: ", std::strerror(errno));
  return code;
}

}  // namespace mneme::app
