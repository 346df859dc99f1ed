// GGUF v3 (and v2) files: typed metadata and the weights of a model, mapped and checked. Nothing in
// the file is trusted: counts, sizes, offsets and types are bounded before they are used, and
// memory stays within a small multiple of the file. Tests: gguf_test.cc, gguf_corrupt_test.cc (one
// story per corrupt file), gguf_fuzz.cc.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "mneme/core/tensor_view.h"
#include "mneme/io/mapped_file.h"

namespace mneme {

// A metadata value: every integer type as int64 (u64 beyond int64 is refused), floats as double,
// arrays by element type.
using GgufValue = std::variant<bool, int64_t, double, std::string, std::vector<bool>,
                               std::vector<int64_t>, std::vector<double>, std::vector<std::string>>;

class GgufFile : public TensorSource {
 public:
  static std::unique_ptr<GgufFile> open(const std::string& path,
                                        MappedFile::Mode mode = MappedFile::Mode::kMap);
  static std::unique_ptr<GgufFile> parse(const std::byte* data, int64_t size, std::string origin);

  // Shapes are outermost first: GGUF's ne reversed.
  const TensorView* find(std::string_view name) const override;
  const std::vector<TensorView>& tensors() const override { return tensors_; }
  const std::string& origin() const override { return origin_; }
  int64_t release(const TensorView& tensor) const override {
    return file_.release(tensor.data, tensor.bytes);
  }

  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  bool has(std::string_view key) const { return metadata_.contains(key); }
  // Typed access; throws Error naming the key, the file and the type found when it is missing or of
  // another type.
  int64_t integer(std::string_view key) const;
  double real(std::string_view key) const;  // accepts integers
  bool boolean(std::string_view key) const;
  const std::string& text(std::string_view key) const;
  const std::vector<std::string>& texts(std::string_view key) const;
  const std::vector<int64_t>& integers(std::string_view key) const;
  const std::vector<double>& reals(std::string_view key) const;
  // The same with a default for a missing key; a wrong type still throws.
  int64_t integer_or(std::string_view key, int64_t fallback) const;
  double real_or(std::string_view key, double fallback) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  std::string text_or(std::string_view key, std::string fallback) const;

 private:
  GgufFile() = default;
  friend class GgufParser;

  MappedFile file_;
  std::string origin_;
  std::vector<TensorView> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
};

}  // namespace mneme
