// Attention over quantised rows as papers/05 section 3.3 defines it: every golden case that holds
// queries, keys, values and left padding.
#include <gtest/gtest.h>

#include <cstring>

#include "mneme/kernels/attention_testing.h"
#include "mneme/kernels/paged_attention.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::GoldenCase;
using testing::GoldenFile;
using testing::PagedRows;

// Words of a packed half row, as the golden file's integers.
std::vector<int64_t> words_of(const std::byte* packed, int64_t dim, int bits) {
  std::vector<uint32_t> words(static_cast<size_t>(dim * bits / 32));
  std::memcpy(words.data(), packed, words.size() * 4);
  return {words.begin(), words.end()};
}

std::vector<int64_t> slice(const std::vector<int64_t>& all, int64_t row, int64_t width) {
  return {all.begin() + row * width, all.begin() + (row + 1) * width};
}

void check_case(const GoldenCase& golden) {
  const auto& config = golden.config();
  const int64_t batch = config["B"], q_heads = config["n_q_heads"], kv_heads = config["n_kv_heads"];
  const int64_t queries = config["L"], tokens = config["S"];
  const int bits = config["bits"];
  ASSERT_TRUE(bits == 4 || bits == 8) << "pages hold 4- and 8-bit codes";
  ASSERT_TRUE(config["causal"]);
  const int64_t k_dim = golden.shape("in.k").back(), v_dim = golden.shape("in.v").back();
  const RowFormat format{bits == 4 ? RowEncoding::kQ4 : RowEncoding::kQ8, k_dim, v_dim,
                         config["group_size"], true};
  const PagedAttention attention{format, q_heads, kv_heads, config["scale"]};
  const std::vector<float> q = golden.floats("in.q"), k = golden.floats("in.k"),
                           v = golden.floats("in.v");
  std::vector<float> want = golden.floats("out.o"), got(want.size());
  const std::vector<int64_t> padding = golden.integers("in.left_padding");
  const std::vector<int64_t> k_words = golden.integers("out.k_words"),
                             v_words = golden.integers("out.v_words");
  ThreadPool pool(2);
  AttentionScratch scratch;
  for (int64_t b = 0; b < batch; ++b) {
    PagedRows rows(format, kv_heads);
    for (int64_t h = 0; h < kv_heads; ++h) {
      for (int64_t s = padding[static_cast<size_t>(b)]; s < tokens; ++s) {
        const int64_t row = (b * kv_heads + h) * tokens + s;
        rows.append(h, static_cast<int32_t>(s), k.data() + row * k_dim, v.data() + row * v_dim);
      }
    }
    const auto& heads = rows.views();
    for (int64_t h = 0; h < kv_heads; ++h) {
      int64_t row = (b * kv_heads + h) * tokens + padding[static_cast<size_t>(b)];
      for (const PageView& page : heads[static_cast<size_t>(h)]) {
        for (int64_t slot = 0; slot < page.rows; ++slot, ++row) {
          std::vector<std::byte> packed(static_cast<size_t>(format.row_bytes()));
          pack_row(format, page.data, slot, packed.data());
          const std::byte* values =
              packed.data() + k_dim * bits / 8 + k_dim / format.group * 2 * sizeof(float);
          EXPECT_EQ(words_of(packed.data(), k_dim, bits), slice(k_words, row, k_dim * bits / 32));
          EXPECT_EQ(words_of(values, v_dim, bits), slice(v_words, row, v_dim * bits / 32));
        }
      }
    }
    // The file holds [B, heads, L, dim]; queries are the last L positions.
    std::vector<float> asked(static_cast<size_t>(queries * q_heads * k_dim)),
        answered(static_cast<size_t>(queries * q_heads * v_dim));
    for (int64_t h = 0; h < q_heads; ++h) {
      for (int64_t t = 0; t < queries; ++t) {
        const float* from = q.data() + ((b * q_heads + h) * queries + t) * k_dim;
        std::copy(from, from + k_dim, asked.data() + (t * q_heads + h) * k_dim);
      }
    }
    paged_attention(attention, queries, tokens - queries, asked.data(), heads, answered.data(),
                    scratch, pool);
    for (int64_t h = 0; h < q_heads; ++h) {
      for (int64_t t = 0; t < queries; ++t) {
        const float* from = answered.data() + (t * q_heads + h) * v_dim;
        const int64_t at = ((b * q_heads + h) * queries + t) * v_dim;
        std::copy(from, from + v_dim, got.data() + at);
        // Queries inside the padding see nothing: their stored value need not match.
        if (tokens - queries + t < padding[static_cast<size_t>(b)]) {
          std::copy(from, from + v_dim, want.data() + at);
        }
      }
    }
  }
  testing::expect_close(got, want, golden.abs_tolerance(), golden.rel_tolerance(),
                        golden.name() + " out.o");
}

TEST(GoldenAttention, OverQuantisedRowsOfEveryCase) {
  const auto file = GoldenFile::open("05-agent-memory-q4");
  if (!file) GTEST_SKIP();
  int seen = 0;
  for (const GoldenCase& golden : file->cases()) {
    if (!golden.has("in.q") || !golden.has("in.k") || !golden.has("in.left_padding")) continue;
    SCOPED_TRACE(golden.name());
    ++seen;
    check_case(golden);
  }
  EXPECT_GT(seen, 0);
}

}  // namespace
}  // namespace mneme
