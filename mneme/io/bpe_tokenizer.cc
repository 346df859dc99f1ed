#include "mneme/io/bpe_tokenizer.h"

#include <xxhash.h>

#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/io/quote.h"
#include "mneme/io/utf8.h"
#include "mneme/io/word_cache.h"

namespace mneme {
namespace {

// GPT-2's spelling of bytes: printable Latin-1 characters stand for themselves, the other bytes are
// numbered from U+0100 on.
struct ByteAlphabet {
  std::array<std::string, 256> spelling;
  std::array<int16_t, 512> byte_of;  // by code point, -1: not in the alphabet

  ByteAlphabet() {
    byte_of.fill(-1);
    char32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      const char32_t code = printable ? static_cast<char32_t>(byte) : next++;
      append_utf8(spelling[static_cast<size_t>(byte)], code);
      byte_of[code] = static_cast<int16_t>(byte);
    }
  }
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet instance;
  return instance;
}

}  // namespace

BpeTokenizer::MergeTable::MergeTable(size_t count) {
  size_t size = 16;
  while (size < count * 2) size *= 2;
  entries_.resize(size);
}

size_t BpeTokenizer::MergeTable::slot(uint64_t pair) const {
  size_t at = (pair * 0x9e3779b97f4a7c15u >> 20) & (entries_.size() - 1);
  while (entries_[at].rank >= 0 && entries_[at].pair != pair) at = (at + 1) & (entries_.size() - 1);
  return at;
}

void BpeTokenizer::MergeTable::add(int32_t left, int32_t right, int32_t rank, int32_t joined) {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  Entry& entry = entries_[slot(pair)];
  if (entry.rank < 0) entry = {pair, rank, joined};
}

const BpeTokenizer::MergeTable::Entry* BpeTokenizer::MergeTable::find(int32_t left,
                                                                      int32_t right) const {
  if (left < 0 || right < 0) return nullptr;
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  const Entry& entry = entries_[slot(pair)];
  return entry.rank < 0 ? nullptr : &entry;
}

// Buffers of one encode() call.
struct BpeTokenizer::Scratch {
  struct Symbol {
    int32_t id;
    int32_t previous, next;  // positions, -1: none
  };
  struct Candidate {
    int32_t rank;
    int32_t position;  // of the left symbol
    int32_t left, right, joined;

    // For std::push_heap: the lowest rank on top, the leftmost of equals.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

BpeTokenizer::BpeTokenizer(VocabularyData data, const std::vector<std::string>& merges,
                           const PreTokenizerRule& rule)
    : TokenizerBase(std::move(data)),
      rule_(rule.rule),
      ignore_merges_(rule.ignore_merges),
      merges_(merges.size()) {
  for (size_t byte = 0; byte < 256; ++byte) {
    const int32_t id = vocabulary().find(alphabet().spelling[byte]);
    byte_ids_[byte] = id >= 0 && vocabulary().is_text(id) ? id : -1;
  }
  add_merges(merges);
  fingerprint_ =
      XXH3_64bits_withSeed(rule.name.data(), rule.name.size(), vocabulary().fingerprint());
  for (const std::string& merge : merges)
    fingerprint_ = XXH3_64bits_withSeed(merge.data(), merge.size(), fingerprint_);
}

void BpeTokenizer::add_merges(const std::vector<std::string>& merges) {
  const std::string& origin = vocabulary().data().origin;
  MNEME_CHECK(merges.size() < (size_t{1} << 30), origin, ": ", merges.size(),
              " merges, at most 2^30 are supported");
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string& merge = merges[rank];
    const size_t blank = merge.find(' ');
    MNEME_CHECK(blank != std::string::npos && blank > 0 && blank + 1 < merge.size() &&
                    merge.find(' ', blank + 1) == std::string::npos,
                origin, ": merge ", rank, " is ", quote(merge),
                ", expected two pieces with one blank between them");
    const auto text_id = [&](std::string_view piece) {
      const int32_t id = vocabulary().find(piece);
      MNEME_CHECK(id >= 0 && vocabulary().is_text(id), origin, ": merge ", rank, " (", quote(merge),
                  ") needs ", quote(piece), ", which is not a text piece");
      return id;
    };
    const std::string left = merge.substr(0, blank);
    const std::string right = merge.substr(blank + 1);
    const int32_t left_id = text_id(left);
    const int32_t right_id = text_id(right);
    merges_.add(left_id, right_id, static_cast<int32_t>(rank), text_id(left + right));
  }
}

std::vector<int32_t> BpeTokenizer::encode_fragments(
    const std::vector<TextFragment>& fragments) const {
  std::vector<int32_t> ids;
  Scratch scratch;
  WordCache cache;
  const auto add_word = [&](std::string_view word) {
    cache.append(word, ids, [&](std::string_view fresh) { encode_word(fresh, scratch, ids); });
  };
  for (const TextFragment& fragment : fragments) {
    if (fragment.id >= 0) {
      ids.push_back(fragment.id);
    } else {
      pretokenize(rule_, fragment.text, add_word);
    }
  }
  return ids;
}

void BpeTokenizer::encode_word(std::string_view word, Scratch& scratch,
                               std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    std::string spelled;
    for (const char c : word) spelled += alphabet().spelling[static_cast<uint8_t>(c)];
    const int32_t id = vocabulary().find(spelled);
    if (id >= 0 && vocabulary().is_text(id)) return ids.push_back(id);
  }
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  symbols.clear();
  const auto count = static_cast<int32_t>(word.size());
  for (int32_t i = 0; i < count; ++i) {
    const auto byte = static_cast<uint8_t>(word[static_cast<size_t>(i)]);
    symbols.push_back({byte_ids_[byte], i - 1, i + 1 < count ? i + 1 : -1});
  }
  const auto symbol = [&](int32_t at) -> Scratch::Symbol& {
    return symbols[static_cast<size_t>(at)];
  };
  const auto propose = [&](int32_t at) {
    if (at < 0 || symbol(at).next < 0) return;
    const int32_t left = symbol(at).id;
    const int32_t right = symbol(symbol(at).next).id;
    if (const MergeTable::Entry* merge = merges_.find(left, right)) {
      heap.push_back({merge->rank, at, left, right, merge->joined});
      std::push_heap(heap.begin(), heap.end());
    }
  };
  constexpr int32_t kGone = -2;  // joined into the symbol before it
  for (int32_t i = 0; i + 1 < count; ++i) propose(i);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Scratch::Candidate best = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbol(best.position);
    if (left.id != best.left || left.next < 0 || symbol(left.next).id != best.right) continue;
    Scratch::Symbol& right = symbol(left.next);
    left.id = best.joined;
    left.next = right.next;
    if (right.next >= 0) symbol(right.next).previous = best.position;
    right.id = kGone;
    propose(left.previous);
    propose(best.position);
  }
  for (int32_t at = 0; at >= 0; at = symbol(at).next)
    if (symbol(at).id >= 0) ids.push_back(symbol(at).id);
}

std::string BpeTokenizer::text_piece(int32_t id) const {
  const std::string& spelling = vocabulary().spelling(id);
  std::string bytes;
  for (size_t at = 0; at < spelling.size();) {
    const Utf8Char c = decode_utf8(spelling, at);
    // A piece outside the alphabet was never spelled in it.
    if (!c.valid || c.code_point >= 512 || alphabet().byte_of[c.code_point] < 0) return spelling;
    bytes.push_back(static_cast<char>(alphabet().byte_of[c.code_point]));
    at += c.length;
  }
  return bytes;
}

std::string BpeTokenizer::decode(const std::vector<int32_t>& ids, bool show_special) const {
  std::string text;
  for (const int32_t id : ids) text += piece(id, show_special);
  return text;
}

}  // namespace mneme
