#include "mneme/io/spm_tokenizer.h"

#include <xxhash.h>

#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/io/utf8.h"
#include "mneme/io/word_cache.h"

namespace mneme {
namespace {

constexpr std::string_view kBlank = "\u2581";

bool blank_at(std::string_view text, size_t at) {
  return text.compare(at, kBlank.size(), kBlank) == 0;
}

// Whether a blank that something else precedes stands at `at` (> 0).
bool blank_begins(std::string_view text, size_t at) {
  return blank_at(text, at) && !(at >= kBlank.size() && blank_at(text, at - kBlank.size()));
}

}  // namespace

// Buffers of one encode() call.
struct SpmTokenizer::Scratch {
  struct Symbol {
    size_t begin = 0, length = 0;      // bytes of the word; length 0: joined to the left
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
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

SpmTokenizer::SpmTokenizer(VocabularyData data, bool add_space_prefix)
    : TokenizerBase(std::move(data)), add_space_prefix_(add_space_prefix) {
  for (int32_t id = 0; id < vocabulary().size(); ++id) {
    const std::string_view piece = vocabulary().spelling(id);
    for (size_t at = 1; vocabulary().is_text(id) && at < piece.size(); ++at)
      if (blank_begins(piece, at)) joins_blank_.set(static_cast<uint8_t>(piece[at - 1]));
  }
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

std::vector<int32_t> SpmTokenizer::encode_fragments(
    const std::vector<TextFragment>& fragments) const {
  // All text is spelled first: the words that are met keep pointing into it.
  std::string spelled;
  std::vector<size_t> ends;
  bool after_special = true;
  for (const TextFragment& fragment : fragments) {
    if (fragment.id < 0) append_spelled(fragment.text, after_special, spelled);
    ends.push_back(spelled.size());
    after_special = fragment.id >= 0;
  }

  std::vector<int32_t> ids;
  Scratch scratch;
  WordCache cache;
  size_t begin = 0;
  for (size_t i = 0; i < fragments.size(); ++i) {
    if (fragments[i].id >= 0) ids.push_back(fragments[i].id);
    const std::string_view text = std::string_view(spelled).substr(0, ends[i]);
    while (begin < text.size()) {
      const size_t end = word_end(text, begin);
      cache.append(text.substr(begin, end - begin), ids,
                   [&](std::string_view fresh) { encode_word(fresh, scratch, ids); });
      begin = end;
    }
  }
  return ids;
}

void SpmTokenizer::append_spelled(std::string_view text, bool after_special,
                                  std::string& spelled) const {
  if (add_space_prefix_ && after_special) spelled += kBlank;
  for (const char c : text) {
    if (c == ' ') {
      spelled += kBlank;
    } else {
      spelled += c;
    }
  }
}

size_t SpmTokenizer::word_end(std::string_view spelled, size_t begin) const {
  for (size_t at = begin + 1; at < spelled.size(); ++at)
    if (spelled[at] == kBlank[0] && blank_begins(spelled, at) &&
        !joins_blank_[static_cast<uint8_t>(spelled[at - 1])])
      return at;
  return spelled.size();
}

void SpmTokenizer::encode_word(std::string_view word, Scratch& scratch,
                               std::vector<int32_t>& ids) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  symbols.clear();
  for (size_t at = 0; at < word.size();) {
    const size_t length = decode_utf8(word, at).length;
    const auto position = static_cast<int32_t>(symbols.size());
    symbols.push_back({at, length, find_text(word.substr(at, length)), position - 1, position + 1});
    at += length;
  }
  symbols.back().next = -1;

  const auto symbol = [&](int32_t at) -> Scratch::Symbol& {
    return symbols[static_cast<size_t>(at)];
  };
  const auto propose = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    const size_t length = symbol(left).length + symbol(right).length;
    const int32_t id = find_text(word.substr(symbol(left).begin, length));
    if (id < 0) return;
    heap.push_back({vocabulary().score(id), left, right, length, id});
    std::push_heap(heap.begin(), heap.end());
  };
  for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols.size()); ++i) propose(i, i + 1);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Scratch::Candidate best = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbol(best.left);
    Scratch::Symbol& right = symbol(best.right);
    if (left.length == 0 || right.length == 0 || left.length + right.length != best.length)
      continue;
    left.length = best.length;
    left.id = best.id;
    left.next = right.next;
    right.length = 0;
    if (right.next >= 0) symbol(right.next).previous = best.left;
    propose(left.previous, best.left);
    propose(best.left, left.next);
  }

  for (int32_t at = 0; at >= 0; at = symbol(at).next) {
    const Scratch::Symbol& s = symbol(at);
    if (s.id >= 0) {
      ids.push_back(s.id);
      continue;
    }
    for (size_t i = 0; i < s.length; ++i) {
      const int32_t id = vocabulary().byte_id(static_cast<uint8_t>(word[s.begin + i]));
      ids.push_back(id >= 0 ? id : unknown());
    }
  }
}

std::string SpmTokenizer::text_piece(int32_t id) const {
  const std::string& spelling = vocabulary().spelling(id);
  std::string text;
  for (size_t at = 0; at < spelling.size();) {
    const bool blank = blank_at(spelling, at);
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
