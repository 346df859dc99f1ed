// Which tokens of a text a memory still has for its next query, head by head: what eviction looks like.
// Read from the positions of the rows of a PagedMemory; rows that lie in a page still but are out of
// every later query's window are not counted. Tests: kept_tokens_test.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "mneme/cache/memory.h"

namespace mneme {

struct KeptTokens {
  int64_t layers = 0, heads = 0;  // KV heads
  int64_t tokens = 0;             // of the text
  int64_t bins = 0;  // of positions: bin i holds [i * tokens / bins, (i + 1) * tokens / bins)
  std::vector<int32_t> of_bin;    // [layers, heads, bins] tokens of the bin that the head holds
  std::vector<int32_t> of_token;  // [tokens] layers and heads that hold it

  int64_t bin_begin(int64_t bin) const { return bin * tokens / bins; }
  // Share of the bin's tokens that a head holds, 0 to 1.
  double share(int64_t layer, int64_t head, int64_t bin) const;
  // Share of all layers and heads that hold a token, 0 to 1.
  double share(int64_t token) const;

  bool operator==(const KeptTokens&) const = default;
};

// Nothing where the memory holds everything it has seen, where it is no PagedMemory, and where a prompt
// filter chose tokens before they were written (their positions are others). At most `most_bins`.
std::optional<KeptTokens> kept_tokens(const SequenceMemory& memory, int64_t most_bins = 64);

}  // namespace mneme
