#include "tests/support/gguf_builder.h"

namespace mneme::testing {

std::string gguf_text(std::string_view text, std::optional<uint64_t> length) {
  return bytes_of<uint64_t>(length.value_or(text.size())).append(text);
}

GgufBuilder& GgufBuilder::pair(std::string_view key, uint32_t type, std::string_view value) {
  return raw_pair(gguf_text(key), type, value);
}

GgufBuilder& GgufBuilder::raw_pair(std::string_view key_bytes, uint32_t type,
                                   std::string_view value) {
  pairs_.append(key_bytes).append(bytes_of(type)).append(value);
  ++pair_count_;
  return *this;
}

GgufBuilder& GgufBuilder::integer(std::string_view key, uint32_t value) {
  return pair(key, kU32, bytes_of(value));
}

GgufBuilder& GgufBuilder::real(std::string_view key, float value) {
  return pair(key, kF32, bytes_of(value));
}

GgufBuilder& GgufBuilder::boolean(std::string_view key, bool value) {
  return pair(key, kBool, bytes_of<uint8_t>(value ? 1 : 0));
}

GgufBuilder& GgufBuilder::text(std::string_view key, std::string_view value) {
  return pair(key, kText, gguf_text(value));
}

GgufBuilder& GgufBuilder::array(std::string_view key, uint32_t element_type, uint64_t count,
                                std::string_view elements) {
  return pair(key, kArray, (bytes_of(element_type) + bytes_of(count)).append(elements));
}

GgufBuilder& GgufBuilder::texts(std::string_view key, const std::vector<std::string>& values) {
  std::string elements;
  for (const std::string& value : values) elements += gguf_text(value);
  return array(key, kText, values.size(), elements);
}

GgufBuilder& GgufBuilder::integers(std::string_view key, const std::vector<int32_t>& values) {
  std::string elements;
  for (const int32_t value : values) elements += bytes_of(value);
  return array(key, kI32, values.size(), elements);
}

GgufBuilder& GgufBuilder::reals(std::string_view key, const std::vector<float>& values) {
  std::string elements;
  for (const float value : values) elements += bytes_of(value);
  return array(key, kF32, values.size(), elements);
}

GgufBuilder& GgufBuilder::tensor(std::string_view name, uint32_t ggml_type,
                                 std::vector<uint64_t> extents, std::string_view data,
                                 std::optional<uint64_t> offset) {
  data_.resize((data_.size() + alignment - 1) / alignment * alignment, '\0');
  table_ += gguf_text(name);
  table_ += bytes_of(claimed_dimensions.value_or(static_cast<uint32_t>(extents.size())));
  for (const uint64_t extent : extents) table_ += bytes_of(extent);
  table_ += bytes_of(ggml_type);
  table_ += bytes_of<uint64_t>(offset.value_or(data_.size()));
  data_.append(data);
  ++tensor_count_;
  return *this;
}

std::string GgufBuilder::build() const {
  std::string file = magic + bytes_of(version) + bytes_of(claimed_tensors.value_or(tensor_count_)) +
                     bytes_of(claimed_pairs.value_or(pair_count_)) + pairs_ + table_;
  if (tensor_count_ > 0) {
    file.resize((file.size() + alignment - 1) / alignment * alignment, '\0');
  }
  return file + data_;
}

}  // namespace mneme::testing
