// Finds the pieces that stand in text as wholes (control and user-defined tokens) before the rest
// is tokenised. Longer pieces are taken first over the whole text, equal lengths from left to
// right; an occurrence that overlaps one already taken is not one: the order of llama.cpp, without
// its pass for each piece. Linear in the text for a given vocabulary. Tests:
// special_splitter_test.cc.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "mneme/io/tokenizer.h"
#include "mneme/io/vocabulary.h"

namespace mneme {

struct TextFragment {
  std::string_view text;
  int32_t id = -1;  // of the special piece, or -1: plain text
};

class SpecialSplitter {
 public:
  // Throws Error for a special piece longer than 1 KiB: the time of split() grows with it.
  explicit SpecialSplitter(const Vocabulary& vocabulary);

  // With kAsText only user-defined pieces are matched. No fragment is empty.
  std::vector<TextFragment> split(std::string_view text, SpecialTokens mode) const;

 private:
  struct Node {  // of a trie over bytes; children are a linked list
    uint8_t byte = 0;
    bool user_defined = false;
    int32_t id = -1;
    int32_t first_child = -1;
    int32_t next_sibling = -1;
  };
  struct Match {
    size_t length = 0;  // 0: none
    int32_t id = -1;
  };

  void insert(std::string_view piece, int32_t id, bool user_defined);
  int32_t child(int32_t node, uint8_t byte) const;
  // The longest special piece at the start of `text`.
  Match longest(std::string_view text, SpecialTokens mode) const;

  std::vector<Node> nodes_;
  std::array<int32_t, 256> roots_;
};

}  // namespace mneme
