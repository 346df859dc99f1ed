#include "mneme/io/safetensors.h"

#include <bit>
#include <cstring>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/io/quote.h"
#include "mneme/io/safetensors_header.h"

namespace mneme {
namespace {

static_assert(std::endian::native == std::endian::little, "tensor bytes are used as they lie");

constexpr int64_t kLengthBytes = 8;

// Bytes of a tensor of this type and shape; throws Error ("size overflow") when int64 cannot hold
// them.
int64_t tensor_bytes(const SafetensorsEntry& entry) {
  int64_t elements = 1;
  for (const int64_t extent : entry.shape) elements = checked_mul(elements, extent, "shape");
  return checked_mul(elements, dtype_info(entry.dtype).block_bytes, "shape times dtype");
}

// Checks one tensor against the bytes before it and the size of the data.
void check_entry(const SafetensorsEntry& entry, int64_t expected_begin, int64_t data_bytes,
                 const std::string& origin) {
  const std::string where = concat(origin, ": tensor ", quote(entry.name), ": ");
  MNEME_CHECK(entry.end <= data_bytes, where, "data_offsets [", entry.begin, ", ", entry.end,
              "] end beyond the ", data_bytes, " bytes of data in the file");
  MNEME_CHECK(entry.begin >= expected_begin, where, "data_offsets begin at ", entry.begin,
              ", out of order or overlapping the tensor before, which ends at ", expected_begin);
  MNEME_CHECK(entry.begin <= expected_begin, where, "data_offsets begin at ", entry.begin,
              " and leave a hole after ", expected_begin);
  int64_t bytes = 0;
  try {
    bytes = tensor_bytes(entry);
  } catch (const Error& error) {
    fail(where, error.what(), " (", dtype_name(entry.dtype), " ", shape_text(entry.shape), ")");
  }
  MNEME_CHECK(bytes == entry.end - entry.begin, where, dtype_name(entry.dtype), " ",
              shape_text(entry.shape), " takes ", bytes, " bytes, data_offsets give ",
              entry.end - entry.begin);
}

}  // namespace

std::unique_ptr<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  MappedFile mapped(path);
  auto file = parse(mapped.data(), mapped.size(), path);
  file->file_ = std::move(mapped);
  return file;
}

std::unique_ptr<SafetensorsFile> SafetensorsFile::parse(const std::byte* data, int64_t size,
                                                        std::string origin) {
  MNEME_CHECK(size > kLengthBytes, origin, ": header too small: the file has ", size,
              " bytes, a safetensors file more than ", kLengthBytes);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, data, kLengthBytes);
  MNEME_CHECK(header_bytes > 0, origin, ": header too small: its length is 0");
  MNEME_CHECK(header_bytes <= kLargestSafetensorsHeader, origin,
              ": header too large: its length is ", header_bytes, ", at most ",
              kLargestSafetensorsHeader);
  const int64_t data_bytes = size - kLengthBytes - static_cast<int64_t>(header_bytes);
  MNEME_CHECK(data_bytes >= 0, origin, ": header too large: its length is ", header_bytes,
              ", the file has ", size - kLengthBytes, " bytes after it");

  const std::string_view json(reinterpret_cast<const char*>(data + kLengthBytes), header_bytes);
  SafetensorsHeader header = parse_safetensors_header(json, origin);

  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile);
  const std::byte* tensor_data = data + kLengthBytes + header_bytes;
  int64_t end = 0;
  for (SafetensorsEntry& entry : header.entries) {
    check_entry(entry, end, data_bytes, origin);
    end = entry.end;
    file->index_.emplace(entry.name, file->tensors_.size());
    file->tensors_.push_back({.name = std::move(entry.name),
                              .dtype = entry.dtype,
                              .shape = std::move(entry.shape),
                              .data = tensor_data + entry.begin,
                              .bytes = entry.end - entry.begin});
  }
  MNEME_CHECK(end == data_bytes, origin, ": ", data_bytes - end,
              " bytes after the last tensor belong to none");
  file->metadata_ = std::move(header.metadata);
  file->origin_ = std::move(origin);
  return file;
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace mneme
