// Cuts text into the words that byte-level BPE never merges across. Each rule has the meaning of
// the regular expressions that llama.cpp attaches to the same `tokenizer.ggml.pre` name, written by
// hand over Unicode categories so that it runs in linear time:
//
//   gpt-2      's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//   smollm     every \p{N} alone, then gpt-2 on what lies between
//   default    [\p{P}$+<=>^~|]+, then gpt-2 on each part, then \p{N}+, then [0-9][0-9][0-9]
//   llama-bpe  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
//              ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//   qwen2      llama-bpe with \p{N} alone
//
// Tests: pretokenizer_test.cc.
#pragma once

#include <string_view>

#include "mneme/core/function_ref.h"

namespace mneme {

enum class PreTokenizer { kGpt2, kSmolLm, kDefault, kLlama3, kQwen2 };

// What a `tokenizer.ggml.pre` name stands for.
struct PreTokenizerRule {
  std::string_view name;
  PreTokenizer rule;
  bool ignore_merges = false;  // a word that is a piece is taken whole, without merging
  bool adds_bos = false;       // unless the file says otherwise
};

// Throws Error listing the known names for any other.
const PreTokenizerRule& find_pretokenizer(std::string_view name);

// Calls `emit` with each word of `text` (valid UTF-8) in order; together they are `text`.
void pretokenize(PreTokenizer rule, std::string_view text,
                 FunctionRef<void(std::string_view)> emit);

}  // namespace mneme
