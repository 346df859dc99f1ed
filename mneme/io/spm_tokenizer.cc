#include "mneme/io/spm_tokenizer.h"

#include <xxhash.h>

#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/io/utf8.h"

namespace mneme {
namespace {

constexpr std::string_view kBlank = "\u2581";

struct Symbol {
  size_t begin = 0, length = 0;      // bytes of the spelled text; length 0: joined to the left
  int32_t id = -1;                   // of the piece, -1: none
  int32_t previous = -1, next = -1;  // positions
};

struct Candidate {
  double score;
  int32_t left, right;  // positions
  size_t length;        // of the join: differs once either side has grown
  int32_t id;

  // For std::push_heap: the highest score on top, the leftmost of equals.
  bool operator<(const Candidate& other) const {
    return score != other.score ? score < other.score : left > other.left;
  }
};

}  // namespace

SpmTokenizer::SpmTokenizer(VocabularyData data, bool add_space_prefix)
    : TokenizerBase(std::move(data)), add_space_prefix_(add_space_prefix) {
  if (unknown() >= 0) return;
  for (int byte = 0; byte < 256; ++byte)
    MNEME_CHECK(vocabulary().byte_id(static_cast<uint8_t>(byte)) >= 0, vocabulary().data().origin,
                ": no piece for byte ", byte, " and no unknown token to stand for it");
}

int32_t SpmTokenizer::find_text(std::string_view text) const {
  if (text.size() > vocabulary().longest()) return -1;
  const int32_t id = vocabulary().find(text);
  return id >= 0 && vocabulary().is_text(id) ? id : -1;
}

void SpmTokenizer::encode_text(std::string_view text, bool after_special,
                               std::vector<int32_t>& ids) const {
  std::string spelled;
  spelled.reserve(text.size() + text.size() / 2);
  if (add_space_prefix_ && after_special) spelled += kBlank;
  for (const char c : text) {
    if (c == ' ') {
      spelled += kBlank;
    } else {
      spelled += c;
    }
  }

  std::vector<Symbol> symbols;
  symbols.reserve(spelled.size());
  for (size_t at = 0; at < spelled.size();) {
    const size_t length = decode_utf8(spelled, at).length;
    const auto position = static_cast<int32_t>(symbols.size());
    symbols.push_back({at, length, find_text(std::string_view(spelled).substr(at, length)),
                       position - 1, position + 1});
    at += length;
  }
  symbols.back().next = -1;

  const auto symbol = [&](int32_t at) -> Symbol& { return symbols[static_cast<size_t>(at)]; };
  std::vector<Candidate> heap;
  const auto propose = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    const size_t length = symbol(left).length + symbol(right).length;
    const int32_t id = find_text(std::string_view(spelled).substr(symbol(left).begin, length));
    if (id < 0) return;
    heap.push_back({vocabulary().score(id), left, right, length, id});
  };
  for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols.size()); ++i) propose(i, i + 1);
  std::make_heap(heap.begin(), heap.end());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = symbol(best.left);
    Symbol& right = symbol(best.right);
    if (left.length == 0 || right.length == 0 || left.length + right.length != best.length)
      continue;
    left.length = best.length;
    left.id = best.id;
    left.next = right.next;
    right.length = 0;
    if (right.next >= 0) symbol(right.next).previous = best.left;
    for (const auto& [a, b] : {std::pair{left.previous, best.left}, {best.left, left.next}}) {
      const size_t before = heap.size();
      propose(a, b);
      if (heap.size() > before) std::push_heap(heap.begin(), heap.end());
    }
  }

  for (int32_t at = 0; at >= 0; at = symbol(at).next) {
    const Symbol& s = symbol(at);
    if (s.id >= 0) {
      ids.push_back(s.id);
      continue;
    }
    for (size_t i = 0; i < s.length; ++i) {
      const int32_t id = vocabulary().byte_id(static_cast<uint8_t>(spelled[s.begin + i]));
      ids.push_back(id >= 0 ? id : unknown());
    }
  }
}

std::string SpmTokenizer::text_piece(int32_t id) const {
  const std::string& spelling = vocabulary().spelling(id);
  std::string text;
  for (size_t at = 0; at < spelling.size();) {
    const bool blank = spelling.compare(at, kBlank.size(), kBlank) == 0;
    text.push_back(blank ? ' ' : spelling[at]);
    at += blank ? kBlank.size() : 1;
  }
  return text;
}

std::string SpmTokenizer::decode(const std::vector<int32_t>& ids, bool show_special) const {
  std::string text;
  bool after_special = true;
  for (const int32_t id : ids) {
    std::string bytes = piece(id, show_special);
    const bool special = vocabulary().is_special(id);
    if (add_space_prefix_ && after_special && !special && !bytes.empty() && bytes[0] == ' ')
      bytes.erase(0, 1);
    text += bytes;
    after_special = special;
  }
  return text;
}

uint64_t SpmTokenizer::fingerprint() const {
  const uint8_t rules[] = {'s', 'p', 'm', add_space_prefix_};
  return XXH3_64bits_withSeed(rules, sizeof(rules), vocabulary().fingerprint());
}

}  // namespace mneme
