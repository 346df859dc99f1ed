// Text repeats its words: the ids of a word met before are copied from where they already stand in
// the output. Lives for one encode() call; the words must outlive it. Tests: bpe_tokenizer_test.cc
// and spm_tokenizer_test.cc.
#pragma once

#include <xxhash.h>

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mneme {

class WordCache {
 public:
  // Appends the ids of `word` to `ids`, always the same vector: encode(word) does it the first
  // time.
  template <typename Encode>
  void append(std::string_view word, std::vector<int32_t>& ids, Encode encode) {
    const auto [known, fresh] = words_.try_emplace(word, Range{ids.size(), 0});
    Range& range = known->second;
    if (fresh) {
      encode(word);
      range.count = ids.size() - range.begin;
      return;
    }
    for (size_t i = 0; i < range.count; ++i) {
      const int32_t id = ids[range.begin + i];
      ids.push_back(id);
    }
  }

 private:
  struct Range {
    size_t begin, count;
  };
  struct Hash {
    size_t operator()(std::string_view text) const { return XXH3_64bits(text.data(), text.size()); }
  };
  std::unordered_map<std::string_view, Range, Hash> words_;
};

}  // namespace mneme
