#include "mneme/models/load_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "mneme/cache/memory_registry.h"
#include "mneme/models/tiny_model_testing.h"
#include "tests/support/error_of.h"
#include "tests/support/tiny_gguf.h"

namespace mneme {
namespace {

using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyGguf;

std::unique_ptr<DecoderModel> load(const std::string& bytes) {
  return load_model(GgufFile::parse(reinterpret_cast<const std::byte*>(bytes.data()),
                                    static_cast<int64_t>(bytes.size()), "tiny.gguf"));
}

std::vector<float> logits_of(DecoderModel& model, std::span<const int32_t> tokens) {
  ThreadPool pool(1);
  const auto memory = MemoryRegistry::builtin().build("full(dtype=f32)", model.memory_shape());
  const SequenceStep step{tokens, memory.get(), Logits::kAll};
  const auto rows = model.forward({&step, 1}, pool);
  return {rows.begin(), rows.end()};
}

std::string refusal(TinyGguf file, const std::function<void(TinyGguf&)>& change) {
  change(file);
  const std::string bytes = file.build();
  return error_of([&] { load(bytes); });
}

TEST(LoadModel, LlamaFilesAndStateDictsAreTheSameModel) {
  const TinyGguf file = testing::tiny_llama_gguf();
  const std::string bytes = file.build();
  const auto from_gguf = load(bytes);
  // GGUF's rows of a head interleave the two halves of the state dict's: (0, dim/2, 1, dim/2 + 1,
  // ...).
  auto tensors = std::make_shared<testing::OwnedTensors>();
  const auto unpermuted = [&](const std::string& name, int64_t heads) {
    const testing::TinyTensor& source = file.tensors.at(name);
    const int64_t width = source.shape[1];
    const int64_t dim = source.shape[0] / heads;
    std::vector<float> values(source.values.size());
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t i = 0; i < dim; ++i) {
        const int64_t from = head * dim + (i < dim / 2 ? 2 * i : 2 * (i - dim / 2) + 1);
        std::copy_n(source.values.begin() + from * width, width,
                    values.begin() + (head * dim + i) * width);
      }
    }
    return values;
  };
  const auto copy = [&](const std::string& to, const std::string& from) {
    tensors->add(to, file.tensors.at(from).shape, file.tensors.at(from).values);
  };
  copy("model.embed_tokens.weight", "token_embd.weight");
  copy("model.norm.weight", "output_norm.weight");
  for (int layer = 0; layer < 2; ++layer) {
    const std::string to = "model.layers." + std::to_string(layer) + ".";
    const std::string from = "blk." + std::to_string(layer) + ".";
    tensors->add(to + "self_attn.q_proj.weight", {128, 64}, unpermuted(from + "attn_q.weight", 4));
    tensors->add(to + "self_attn.k_proj.weight", {64, 64}, unpermuted(from + "attn_k.weight", 2));
    copy(to + "self_attn.v_proj.weight", from + "attn_v.weight");
    copy(to + "self_attn.o_proj.weight", from + "attn_output.weight");
    copy(to + "input_layernorm.weight", from + "attn_norm.weight");
    copy(to + "post_attention_layernorm.weight", from + "ffn_norm.weight");
    copy(to + "mlp.gate_proj.weight", from + "ffn_gate.weight");
    copy(to + "mlp.up_proj.weight", from + "ffn_up.weight");
    copy(to + "mlp.down_proj.weight", from + "ffn_down.weight");
  }
  const auto from_state_dict = load_llama_state_dict(
      R"({"model_type": "llama", "vocab_size": 260, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512, "rms_norm_eps": 1e-5})",
      tensors);
  std::vector<int32_t> tokens(40);
  std::iota(tokens.begin(), tokens.end(), 60);
  const std::vector<float> a = logits_of(*from_gguf, tokens);
  const std::vector<float> b = logits_of(*from_state_dict, tokens);
  testing::expect_close(a, b, 2e-5, 2e-5, "logits");
}

TEST(LoadModel, Gemma3RunsAndItsWindowLayersForget) {
  const std::string bytes = testing::tiny_gemma3_gguf().build();
  const auto model = load(bytes);
  const std::vector<int64_t> windows = {16, 16, 16, 16, 16, 0, 16};
  EXPECT_EQ(model->config().windows, windows);
  std::vector<int32_t> tokens(60, 70);
  const std::vector<float> logits = logits_of(*model, tokens);
  for (const float logit : logits) ASSERT_TRUE(std::isfinite(logit));
}

TEST(LoadModel, ListsTheFirstFiveDifferencesOfTheTensors) {
  const std::string text = refusal(testing::tiny_llama_gguf(), [](TinyGguf& file) {
    file.tensors.erase("blk.0.attn_q.weight");
    file.tensors["blk.0.attn_k.weight"].shape = {32, 128};
    file.tensors["blk.9.surplus.weight"] = {{1}, {0.0f}};
    for (const char* name : {"attn_norm", "ffn_norm", "ffn_up", "ffn_down"})
      file.tensors.erase(std::string("blk.1.") + name + ".weight");
  });
  EXPECT_THAT(text, AllOf(HasSubstr("(7 differences)"), HasSubstr("blk.0.attn_q.weight is missing"),
                          HasSubstr("blk.0.attn_k.weight is [32, 128], expected [64, 64]")));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5);
  EXPECT_THAT(refusal(testing::tiny_gemma3_gguf(),
                      [](TinyGguf& file) {
                        file.tensors["spare"] = {{1}, {0.0f}};
                      }),
              HasSubstr("spare is not part of this model"));
}

TEST(LoadModel, EveryImpossibleConfigurationHasItsMessage) {
  const auto llama = [](const std::function<void(TinyGguf&)>& change) {
    return refusal(testing::tiny_llama_gguf(), change);
  };
  const auto gemma = [](const std::function<void(TinyGguf&)>& change) {
    return refusal(testing::tiny_gemma3_gguf(), change);
  };
  EXPECT_THAT(llama([](TinyGguf& f) { f.architecture = "rwkv"; }),
              HasSubstr("architecture 'rwkv' is not supported; llama and gemma3 are"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.integers["attention.head_count_kv"] = 3; }),
              HasSubstr("4 attention heads are not divisible by 3 KV heads"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.integers["attention.head_count_kv"] = 0; }),
              HasSubstr("the number of KV heads must be 1 to"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.integers["block_count"] = 0; }),
              HasSubstr("the number of layers must be 1 to 4096, got 0"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.integers["block_count"] = 2000000000; }),
              HasSubstr("the number of layers"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.integers["attention.head_count"] = 0; }),
              HasSubstr("attention heads"));
  EXPECT_THAT(llama([](TinyGguf& f) {
                f.integers["attention.key_length"] = f.integers["rope.dimension_count"] = 0;
              }),
              HasSubstr("the head size must be 1 to 512, got 0"));
  EXPECT_THAT(llama([](TinyGguf& f) {
                f.integers["attention.key_length"] = f.integers["rope.dimension_count"] = 33;
              }),
              HasSubstr("even head size, got 33"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.integers["rope.dimension_count"] = 16; }),
              HasSubstr("over 16 of 32 head dimensions"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.integers["context_length"] = 0; }),
              HasSubstr("the context length"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.integers["feed_forward_length"] = 0; }),
              HasSubstr("the feed-forward size"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.integers.erase("embedding_length"); }),
              HasSubstr("llama.embedding_length"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.reals["rope.freq_base"] = 0; }),
              HasSubstr("rope base must be a positive number, got 0"));
  EXPECT_THAT(llama([](TinyGguf& f) {
                f.reals["rope.freq_base"] = std::numeric_limits<double>::quiet_NaN();
              }),
              HasSubstr("rope base"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.reals["attention.layer_norm_rms_epsilon"] = 0; }),
              HasSubstr("norm epsilon"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.texts["rope.scaling.type"] = "yarn"; }),
              HasSubstr("rope scaling 'yarn' is not supported"));
  EXPECT_THAT(llama([](TinyGguf& f) { f.tensors.erase("token_embd.weight"); }),
              HasSubstr("token_embd.weight is missing"));
  EXPECT_THAT(gemma([](TinyGguf& f) { f.integers["attention.sliding_window"] = 0; }),
              HasSubstr("the sliding window must be positive, got 0"));
  EXPECT_THAT(gemma([](TinyGguf& f) { f.integers["attention.value_length"] = 32; }),
              HasSubstr("value heads of 32 beside key heads of 64"));
  EXPECT_THAT(gemma([](TinyGguf& f) { f.integers["embedding_length"] = 0; }),
              HasSubstr("the hidden size"));
}

TEST(LoadModel, StateDictConfigurationsAreCheckedToo) {
  const auto message = [](const std::string& config) {
    return error_of([&] { load_llama_state_dict(config, testing::tiny_tensors(1)); });
  };
  const auto with = [](const std::string& from, const std::string& to) {
    std::string config = testing::tiny_config();
    const size_t at = config.find(from);
    EXPECT_NE(at, std::string::npos);
    return config.replace(at, from.size(), to);
  };
  EXPECT_THAT(message("[1]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(message("{"), HasSubstr("not a JSON object"));
  EXPECT_THAT(message("{}"), HasSubstr("config lacks 'vocab_size'"));
  EXPECT_THAT(message(with("\"vocab_size\": 50", "\"vocab_size\": 0")),
              HasSubstr("the vocabulary size"));
  EXPECT_THAT(message(with("\"vocab_size\": 50", "\"vocab_size\": \"x\"")),
              HasSubstr("config 'vocab_size' must be an integer, got \"x\""));
  EXPECT_THAT(message(with("{", R"({"model_type": "mamba", )")),
              HasSubstr("model type 'mamba' is not supported"));
  EXPECT_THAT(message(with("{", R"({"hidden_act": "relu", )")),
              HasSubstr("activation 'relu' is not supported"));
  EXPECT_THAT(message(with("{", R"({"attention_bias": true, )")),
              HasSubstr("biases are not supported"));
  EXPECT_THAT(message(with("\"rope_theta\": 10000.0", "\"rope_theta\": -1")),
              HasSubstr("rope base"));
}

TEST(LoadModel, AFingerprintTellsModelsApart) {
  TinyGguf file = testing::tiny_llama_gguf();
  const std::string bytes = file.build();
  const std::string fingerprint = model_fingerprint(*load(bytes));
  EXPECT_EQ(fingerprint.size(), 32u);
  EXPECT_EQ(model_fingerprint(*load(bytes)), fingerprint);
  file.tensors["blk.1.ffn_up.weight"].values[5] += 1e-6f;
  const std::string other_weights = file.build();
  EXPECT_NE(model_fingerprint(*load(other_weights)), fingerprint);
  file = testing::tiny_llama_gguf();
  file.reals["rope.freq_base"] = 10001;
  const std::string other_config = file.build();
  EXPECT_NE(model_fingerprint(*load(other_config)), fingerprint);
}

}  // namespace
}  // namespace mneme
