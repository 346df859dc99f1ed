#include "mneme/eval/kept_tokens.h"

#include <algorithm>

#include "mneme/cache/paged_memory.h"
#include "mneme/core/error.h"

namespace mneme {

double KeptTokens::share(int64_t layer, int64_t head, int64_t bin) const {
  const int64_t size = bin_begin(bin + 1) - bin_begin(bin);
  const auto index = static_cast<size_t>((layer * heads + head) * bins + bin);
  return static_cast<double>(of_bin[index]) / static_cast<double>(size);
}

double KeptTokens::share(int64_t token) const {
  return static_cast<double>(of_token[static_cast<size_t>(token)]) /
         static_cast<double>(layers * heads);
}

std::optional<KeptTokens> kept_tokens(const SequenceMemory& memory, int64_t most_bins) {
  MNEME_CHECK(most_bins >= 1, "kept tokens: expected a number of bins above 0, got ", most_bins);
  const auto* paged = dynamic_cast<const PagedMemory*>(&memory);
  if (paged == nullptr || memory.filtered_tokens() > 0 || memory.length() == 0) return std::nullopt;
  const MemoryShape& shape = memory.shape();
  KeptTokens kept{.layers = shape.layers(),
                  .heads = shape.kv_heads,
                  .tokens = memory.length(),
                  .bins = std::min(most_bins, memory.length())};
  kept.of_bin.assign(static_cast<size_t>(kept.layers * kept.heads * kept.bins), 0);
  kept.of_token.assign(static_cast<size_t>(kept.tokens), 0);
  bool all = true;
  for (int64_t layer = 0; layer < kept.layers; ++layer) {
    for (int64_t head = 0; head < kept.heads; ++head) {
      const PagedRows& rows = paged->rows(layer, head);
      const RowWindow window = paged->policy().window(layer, head);
      const int64_t first = window.first(kept.tokens);
      int64_t bin = 0, seen = 0;
      for (int64_t slot = 0; slot < rows.slots(); ++slot) {
        if (rows.slot_hidden(slot)) continue;
        const int64_t position = rows.slot_position(slot);
        if (position < first && position >= window.sink) continue;
        ++seen;
        while (kept.bin_begin(bin + 1) <= position) ++bin;
        ++kept.of_bin[static_cast<size_t>((layer * kept.heads + head) * kept.bins + bin)];
        ++kept.of_token[static_cast<size_t>(position)];
      }
      all = all && seen == kept.tokens;
    }
  }
  if (all) return std::nullopt;
  return kept;
}

}  // namespace mneme
