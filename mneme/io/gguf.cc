#include "mneme/io/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/io/byte_cursor.h"
#include "mneme/io/quote.h"

namespace mneme {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies");

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kLargestKey = 65535;  // of the format
constexpr uint64_t kLargestTensorName = 1024;
constexpr uint32_t kMostDimensions = 4;
constexpr int64_t kDefaultAlignment = 32;
constexpr int64_t kSmallestAlignment = 8;  // of the format
constexpr int64_t kLargestAlignment = 1 << 20;
constexpr std::string_view kAlignmentKey = "general.alignment";

// The smallest entries that a file can hold: what its counts are measured against before anything
// is stored.
constexpr int64_t kSmallestKeyValue = 8 + 1 + 4 + 1;  // key length, key, type, value
// Name length, name, dimensions, type, offset.
constexpr int64_t kSmallestTensor = 8 + 1 + 4 + 4 + 8;

enum ValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// ggml's number of a tensor type.
constexpr std::pair<uint32_t, DType> kGgmlTypes[] = {
    {0, DType::kF32},   {1, DType::kF16},   {2, DType::kQ4_0}, {3, DType::kQ4_1},
    {6, DType::kQ5_0},  {7, DType::kQ5_1},  {8, DType::kQ8_0}, {12, DType::kQ4_K},
    {13, DType::kQ5_K}, {14, DType::kQ6_K}, {24, DType::kI8},  {25, DType::kI16},
    {26, DType::kI32},  {27, DType::kI64},  {28, DType::kF64}, {30, DType::kBF16}};

std::optional<DType> dtype_of_ggml(uint32_t type) {
  for (const auto& [number, dtype] : kGgmlTypes) {
    if (number == type) return dtype;
  }
  return std::nullopt;
}

}  // namespace

// Reads one file front to back: header, metadata, tensor table, data.
class GgufParser {
 public:
  GgufParser(const std::byte* data, int64_t size, std::string origin)
      : data_(data), size_(size), file_(new GgufFile), cursor_(data, size, file_->origin_) {
    file_->origin_ = std::move(origin);
  }

  std::unique_ptr<GgufFile> parse() {
    const auto magic = cursor_.take<uint32_t>("the magic");
    MNEME_CHECK(magic == kMagic, origin(), ": not a GGUF file: it begins with ",
                quote({reinterpret_cast<const char*>(data_), 4}), ", expected 'GGUF'");
    const auto version = cursor_.take<uint32_t>("the version");
    MNEME_CHECK((version & 0xffff) != 0 || version == 0, origin(),
                ": big-endian GGUF files are not supported (version read as ", version, ")");
    MNEME_CHECK(version == 2 || version == 3, origin(), ": GGUF version ", version,
                ", expected 2 or 3");
    const auto tensors = cursor_.take<uint64_t>("the tensor count");
    const auto pairs = cursor_.take<uint64_t>("the metadata count");
    cursor_.check_count(tensors, "the tensor count", kSmallestTensor);
    cursor_.check_count(pairs, "the metadata count", kSmallestKeyValue);
    for (uint64_t i = 0; i < pairs; ++i) read_pair();
    cursor_.check_count(tensors, "the tensor count", kSmallestTensor);
    file_->tensors_.reserve(tensors);
    for (uint64_t i = 0; i < tensors; ++i) read_tensor();
    place_tensors();
    return std::move(file_);
  }

 private:
  const std::string& origin() const { return file_->origin_; }

  void read_pair() {
    const std::string key(cursor_.take_string("a metadata key", kLargestKey));
    MNEME_CHECK(!key.empty(), origin(), ": empty metadata key before byte ", cursor_.position());
    MNEME_CHECK(!file_->has(key), origin(), ": duplicate metadata key ", quote(key));
    key_ = &key;
    const auto type = cursor_.take<uint32_t>("a metadata type");
    if (key == kAlignmentKey) {
      MNEME_CHECK(type == kU32, origin(), ": ", kAlignmentKey, " has type ", type,
                  ", expected 4 (u32)");
    }
    GgufValue value = type == kArray ? read_array() : read_value(type);
    file_->metadata_.emplace(key, std::move(value));
    if (key == kAlignmentKey) set_alignment(file_->integer(key));
  }

  void set_alignment(int64_t value) {
    MNEME_CHECK(value >= kSmallestAlignment && value <= kLargestAlignment &&
                    std::has_single_bit(static_cast<uint64_t>(value)),
                origin(), ": ", kAlignmentKey, " is ", value, ", expected a power of two from ",
                kSmallestAlignment, " to ", kLargestAlignment);
    alignment_ = value;
  }

  GgufValue read_value(uint32_t type) {
    switch (type) {
      case kBool:
        return read_bool();
      case kF32:
      case kF64:
        return read_real(type);
      case kString:
        return std::string(cursor_.take_string("a metadata text", kNoLimit));
      default:
        return read_integer(type);
    }
  }

  GgufValue read_array() {
    const auto type = cursor_.take<uint32_t>("an array's element type");
    MNEME_CHECK(type != kArray, where(), "arrays of arrays are not supported");
    const int64_t count = cursor_.take_count("an array's length", smallest_element(type));
    switch (type) {
      case kBool:
        return read_elements<bool>(count, [&] { return read_bool(); });
      case kF32:
      case kF64:
        return read_elements<double>(count, [&] { return read_real(type); });
      case kString:
        return read_elements<std::string>(
            count, [&] { return std::string(cursor_.take_string("an array's text", kNoLimit)); });
      default:
        return read_elements<int64_t>(count, [&] { return read_integer(type); });
    }
  }

  template <typename T, typename Read>
  std::vector<T> read_elements(int64_t count, Read read) {
    std::vector<T> values;
    values.reserve(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) values.push_back(read());
    return values;
  }

  int64_t smallest_element(uint32_t type) const {
    switch (type) {
      case kU8:
      case kI8:
      case kBool:
        return 1;
      case kU16:
      case kI16:
        return 2;
      case kU32:
      case kI32:
      case kF32:
        return 4;
      case kU64:
      case kI64:
      case kF64:
      case kString:
        return 8;
      default:
        fail_type(type);
    }
  }

  bool read_bool() {
    const auto byte = cursor_.take<uint8_t>("a metadata value");
    MNEME_CHECK(byte <= 1, where(), "a bool is ", int{byte}, ", expected 0 or 1");
    return byte == 1;
  }

  double read_real(uint32_t type) {
    return type == kF32 ? double{cursor_.take<float>("a metadata value")}
                        : cursor_.take<double>("a metadata value");
  }

  int64_t read_integer(uint32_t type) {
    constexpr const char* kWhat = "a metadata value";
    switch (type) {
      case kU8:
        return cursor_.take<uint8_t>(kWhat);
      case kI8:
        return cursor_.take<int8_t>(kWhat);
      case kU16:
        return cursor_.take<uint16_t>(kWhat);
      case kI16:
        return cursor_.take<int16_t>(kWhat);
      case kU32:
        return cursor_.take<uint32_t>(kWhat);
      case kI32:
        return cursor_.take<int32_t>(kWhat);
      case kI64:
        return cursor_.take<int64_t>(kWhat);
      case kU64: {
        const auto value = cursor_.take<uint64_t>(kWhat);
        MNEME_CHECK(value <= kLargestInteger, where(), value, " is beyond 2^63 - 1");
        return static_cast<int64_t>(value);
      }
      default:
        fail_type(type);
    }
  }

  [[noreturn]] void fail_type(uint32_t type) const {
    fail(where(), "unknown value type ", type, ", expected 0 to 12");
  }

  std::string where() const { return concat(origin(), ": metadata ", quote(*key_), ": "); }

  void read_tensor() {
    TensorView tensor;
    tensor.name = cursor_.take_string("a tensor name", kLargestTensorName);
    MNEME_CHECK(!tensor.name.empty(), origin(), ": empty tensor name before byte ",
                cursor_.position());
    const std::string where = concat(origin(), ": tensor ", quote(tensor.name), ": ");
    MNEME_CHECK(file_->index_.emplace(tensor.name, file_->tensors_.size()).second, where,
                "duplicate name");
    const auto dimensions = cursor_.take<uint32_t>("a tensor's dimensions");
    MNEME_CHECK(dimensions <= kMostDimensions, where, dimensions, " dimensions, at most ",
                kMostDimensions);
    tensor.shape.resize(dimensions);
    // The innermost comes first in the file. No dimensions are a scalar.
    for (uint32_t i = 0; i < dimensions; ++i) {
      const auto extent = cursor_.take<uint64_t>("a tensor's extents");
      MNEME_CHECK(extent > 0, where, "extent ", i, " is 0, expected at least 1");
      MNEME_CHECK(extent <= kLargestInteger, where, "size overflow: extent ", i, " is ", extent);
      tensor.shape[dimensions - 1 - i] = static_cast<int64_t>(extent);
    }
    const auto type = cursor_.take<uint32_t>("a tensor's type");
    const auto dtype = dtype_of_ggml(type);
    MNEME_CHECK(dtype, where, "unsupported ggml type ", type);
    tensor.dtype = *dtype;
    tensor.bytes = tensor_bytes(tensor, where);
    const auto offset = cursor_.take<uint64_t>("a tensor's offset");
    MNEME_CHECK(offset <= kLargestInteger, where, "size overflow: offset ", offset);
    offsets_.push_back(static_cast<int64_t>(offset));
    file_->tensors_.push_back(std::move(tensor));
  }

  static int64_t tensor_bytes(const TensorView& tensor, const std::string& where) {
    const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
    try {
      int64_t elements = 1;
      for (const int64_t extent : tensor.shape) elements = checked_mul(elements, extent, "shape");
      return checked_mul(dtype_row_bytes(tensor.dtype, row), elements / row, "bytes");
    } catch (const Error& error) {
      fail(where, shape_text(tensor.shape), ": ", error.what());
    }
  }

  // Turns offsets into addresses. Tensors may lie in any order and with gaps, never over another or
  // beyond the end. The alignment counts from the start of the data, which is aligned in the file.
  void place_tensors() {
    const int64_t start = checked_round_up(cursor_.position(), alignment_, "tensor data");
    for (size_t i = 0; i < offsets_.size(); ++i) {
      TensorView& tensor = file_->tensors_[i];
      const std::string where = concat(origin(), ": tensor ", quote(tensor.name), ": ");
      MNEME_CHECK(offsets_[i] % alignment_ == 0, where, "offset ", offsets_[i],
                  " is not a multiple of the alignment ", alignment_);
      const int64_t room = size_ - start;  // negative when the file ends before its data
      MNEME_CHECK(offsets_[i] <= room && tensor.bytes <= room - offsets_[i], where, "its ",
                  tensor.bytes, " bytes at offset ", offsets_[i],
                  " of the data, which starts at byte ", start,
                  ", lie beyond the end of the file at ", size_);
      tensor.data = data_ + start + offsets_[i];
    }
    std::vector<const TensorView*> order;
    for (const TensorView& tensor : file_->tensors_) order.push_back(&tensor);
    std::sort(order.begin(), order.end(),
              [](const TensorView* a, const TensorView* b) { return a->data < b->data; });
    for (size_t i = 1; i < order.size(); ++i) {
      MNEME_CHECK(order[i - 1]->data + order[i - 1]->bytes <= order[i]->data, origin(), ": tensor ",
                  quote(order[i]->name), " overlaps ", quote(order[i - 1]->name));
    }
  }

  static constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();
  static constexpr auto kLargestInteger =
      static_cast<uint64_t>(std::numeric_limits<int64_t>::max());

  const std::byte* data_;
  int64_t size_;
  std::unique_ptr<GgufFile> file_;
  ByteCursor cursor_;
  const std::string* key_ = nullptr;  // whose value is being read
  std::vector<int64_t> offsets_;
  int64_t alignment_ = kDefaultAlignment;
};

std::unique_ptr<GgufFile> GgufFile::open(const std::string& path, MappedFile::Mode mode) {
  MappedFile mapped(path, mode);
  auto file = parse(mapped.data(), mapped.size(), path);
  file->file_ = std::move(mapped);
  return file;
}

std::unique_ptr<GgufFile> GgufFile::parse(const std::byte* data, int64_t size, std::string origin) {
  return GgufParser(data, size, std::move(origin)).parse();
}

const TensorView* GgufFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace mneme
