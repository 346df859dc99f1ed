// The pieces of a tokenizer and what is known about them, checked once when it is built: every
// piece is non-empty, at most 64 KiB and there once; types, scores and special ids fit. Tests:
// vocabulary_test.cc.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mneme {

// `tokenizer.ggml.token_type` of GGUF.
enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,  // matched in text as a whole, before anything else
  kUnused = 5,
  kByte = 6,  // spelled <0xNN>
};

struct VocabularyData {
  std::string origin;                        // names the file in errors
  std::vector<std::string> pieces;           // by id
  std::vector<int64_t> types;                // as many as pieces, or none: all normal
  std::vector<double> scores;                // as many as pieces, or none: all 0
  int64_t bos = -1, eos = -1, unknown = -1;  // ids, or -1 for none
  std::vector<int64_t> end_ids;              // further ids that end a turn
  bool adds_bos = false;
};

class Vocabulary {
 public:
  // Throws Error naming the origin, the id and the fault.
  explicit Vocabulary(VocabularyData data);

  int64_t size() const { return static_cast<int64_t>(data_.pieces.size()); }
  // The piece as the file spells it. Throws Error for an id outside [0, size()).
  const std::string& spelling(int64_t id) const;
  PieceType type(int64_t id) const { return types_[static_cast<size_t>(id)]; }
  double score(int64_t id) const { return scores_[static_cast<size_t>(id)]; }
  // Whether merging text may give this piece: only what no text can forge is left out.
  bool is_text(int64_t id) const;
  // Whether encode() matches it in text as a whole (user-defined), or may when asked to.
  bool is_special(int64_t id) const;

  int32_t find(std::string_view spelling) const;                   // or -1
  int32_t byte_id(uint8_t byte) const { return byte_ids_[byte]; }  // of <0xNN>, or -1
  uint8_t byte_value(int64_t id) const;                            // of a kByte piece
  size_t longest() const { return longest_; }                      // bytes
  bool ends_generation(int64_t id) const;
  const VocabularyData& data() const { return data_; }
  uint64_t fingerprint() const;

 private:
  void read_types();
  void read_pieces();
  void read_special_ids();

  // Open addressing: most look-ups while merging find nothing and cost one cache line.
  struct Slot {
    uint32_t tag = 0;  // upper half of the hash
    int32_t id = -1;   // -1: empty
  };
  // The slot of `spelling`, or the empty one where it belongs.
  size_t slot(std::string_view spelling) const;

  VocabularyData data_;
  std::vector<PieceType> types_;
  std::vector<double> scores_;
  std::vector<Slot> slots_;  // a power of two
  std::array<int32_t, 256> byte_ids_;
  std::vector<bool> ends_generation_;
  size_t longest_ = 0;
};

}  // namespace mneme
