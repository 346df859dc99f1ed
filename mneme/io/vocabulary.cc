#include "mneme/io/vocabulary.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"
#include "mneme/io/quote.h"

namespace mneme {
namespace {

constexpr size_t kLongestPiece = 64 * 1024;

// Pieces that end a turn in the chat formats in use. Their names are taken as control tokens
// whatever type the file gives them, as llama.cpp does: otherwise a user could write one.
constexpr std::string_view kEndNames[] = {
    "<|im_end|>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end|>",
    "<|return|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "</s>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
};

bool is_end_name(std::string_view name) {
  for (std::string_view known : kEndNames)
    if (known == name) return true;
  return false;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// The value of a piece spelled <0xNN>, or -1.
int parse_byte(std::string_view piece) {
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return -1;
  const int high = hex_digit(piece[3]);
  const int low = hex_digit(piece[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

uint64_t hash_of(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }
uint32_t tag_of(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }

}  // namespace

Vocabulary::Vocabulary(VocabularyData data) : data_(std::move(data)) {
  const std::string& origin = data_.origin;
  const size_t count = data_.pieces.size();
  MNEME_CHECK(count > 0, origin, ": the vocabulary is empty, expected at least one piece");
  MNEME_CHECK(count < (size_t{1} << 30), origin, ": the vocabulary has ", count,
              " pieces, at most 2^30 are supported");
  MNEME_CHECK(data_.types.empty() || data_.types.size() == count, origin, ": ", data_.types.size(),
              " token types for ", count, " pieces, expected one for each");
  MNEME_CHECK(data_.scores.empty() || data_.scores.size() == count, origin, ": ",
              data_.scores.size(), " scores for ", count, " pieces, expected one for each");
  read_types();
  read_pieces();
  read_special_ids();
}

void Vocabulary::read_types() {
  types_.assign(data_.pieces.size(), PieceType::kNormal);
  for (size_t id = 0; id < data_.types.size(); ++id) {
    const int64_t type = data_.types[id];
    MNEME_CHECK(type >= 1 && type <= 6, data_.origin, ": piece ", id, " has token type ", type,
                ", expected 1 to 6");
    types_[id] = static_cast<PieceType>(type);
  }
  scores_ = data_.scores;
  scores_.resize(data_.pieces.size(), 0.0);
  for (size_t id = 0; id < scores_.size(); ++id)
    MNEME_CHECK(std::isfinite(scores_[id]), data_.origin, ": piece ", id, " has score ",
                scores_[id], ", expected a finite number");
}

void Vocabulary::read_pieces() {
  byte_ids_.fill(-1);
  size_t slots = 16;
  while (slots < data_.pieces.size() * 2) slots *= 2;
  slots_.resize(slots);
  for (size_t id = 0; id < data_.pieces.size(); ++id) {
    const std::string& piece = data_.pieces[id];
    MNEME_CHECK(!piece.empty(), data_.origin, ": piece ", id, " is empty");
    MNEME_CHECK(piece.size() <= kLongestPiece, data_.origin, ": piece ", id, " has ", piece.size(),
                " bytes, at most ", kLongestPiece, " are accepted");
    Slot& place = slots_[slot(piece)];
    MNEME_CHECK(place.id < 0, data_.origin, ": piece ", quote(piece), " has two ids, ", place.id,
                " and ", id);
    place = {tag_of(hash_of(piece)), static_cast<int32_t>(id)};
    longest_ = std::max(longest_, piece.size());
    if (is_end_name(piece)) types_[id] = PieceType::kControl;
    if (types_[id] != PieceType::kByte) continue;
    const int value = parse_byte(piece);
    MNEME_CHECK(value >= 0, data_.origin, ": piece ", id, " is a byte spelled ", quote(piece),
                ", expected <0xNN> with two hexadecimal digits");
    int32_t& byte_id = byte_ids_[static_cast<size_t>(value)];
    MNEME_CHECK(byte_id < 0, data_.origin, ": pieces ", byte_id, " and ", id,
                " both stand for the byte ", quote(piece));
    byte_id = static_cast<int32_t>(id);
  }
}

void Vocabulary::read_special_ids() {
  const auto check = [&](const char* what, int64_t id) {
    MNEME_CHECK(id >= -1 && id < size(), data_.origin, ": the ", what, " token is ", id,
                ", expected an id below ", size());
  };
  check("beginning-of-text", data_.bos);
  check("end-of-text", data_.eos);
  check("unknown", data_.unknown);
  MNEME_CHECK(!data_.adds_bos || data_.bos >= 0, data_.origin,
              ": prompts begin with the beginning-of-text token, but none is named");
  ends_generation_.assign(data_.pieces.size(), false);
  for (size_t id = 0; id < data_.pieces.size(); ++id)
    ends_generation_[id] = is_end_name(data_.pieces[id]);
  if (data_.eos >= 0) ends_generation_[static_cast<size_t>(data_.eos)] = true;
  for (const int64_t id : data_.end_ids) {
    check("end-of-turn", id);
    if (id >= 0) ends_generation_[static_cast<size_t>(id)] = true;
  }
}

const std::string& Vocabulary::spelling(int64_t id) const {
  MNEME_CHECK(id >= 0 && id < size(), "token ", id, " is outside the vocabulary of ", size(),
              " pieces");
  return data_.pieces[static_cast<size_t>(id)];
}

bool Vocabulary::is_text(int64_t id) const {
  const PieceType kind = type(id);
  return kind == PieceType::kNormal || kind == PieceType::kUserDefined ||
         kind == PieceType::kUnused;
}

bool Vocabulary::is_special(int64_t id) const {
  const PieceType kind = type(id);
  return kind == PieceType::kControl || kind == PieceType::kUnknown ||
         kind == PieceType::kUserDefined;
}

size_t Vocabulary::slot(std::string_view spelling) const {
  const uint64_t hash = hash_of(spelling);
  size_t at = hash & (slots_.size() - 1);
  while (slots_[at].id >= 0 && (slots_[at].tag != tag_of(hash) ||
                                data_.pieces[static_cast<size_t>(slots_[at].id)] != spelling))
    at = (at + 1) & (slots_.size() - 1);
  return at;
}

int32_t Vocabulary::find(std::string_view spelling) const { return slots_[slot(spelling)].id; }

uint8_t Vocabulary::byte_value(int64_t id) const {
  return static_cast<uint8_t>(parse_byte(spelling(id)));
}

bool Vocabulary::ends_generation(int64_t id) const {
  return id >= 0 && id < size() && ends_generation_[static_cast<size_t>(id)];
}

uint64_t Vocabulary::fingerprint() const {
  uint64_t hash = static_cast<uint64_t>(size());
  const auto add = [&](const void* bytes, size_t count) {
    hash = XXH3_64bits_withSeed(bytes, count, hash);
  };
  for (const std::string& piece : data_.pieces) add(piece.data(), piece.size());
  add(types_.data(), types_.size());
  add(scores_.data(), scores_.size() * sizeof(double));
  const int64_t ids[] = {data_.bos, data_.eos, data_.unknown, data_.adds_bos};
  add(ids, sizeof(ids));
  add(data_.end_ids.data(), data_.end_ids.size() * sizeof(int64_t));
  return hash;
}

}  // namespace mneme
