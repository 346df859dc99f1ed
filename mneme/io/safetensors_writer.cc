#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/io/atomic_file.h"
#include "mneme/io/quote.h"
#include "mneme/io/safetensors.h"
#include "mneme/io/safetensors_header.h"
#include "mneme/io/utf8.h"

namespace mneme {
namespace {

void check_tensor(const TensorView& tensor, const std::string& path) {
  const std::string where = concat(path, ": tensor ", quote(tensor.name), ": ");
  MNEME_CHECK(!tensor.name.empty() && tensor.name != "__metadata__" && is_utf8(tensor.name), where,
              "expected a name in UTF-8 that is not empty and not __metadata__");
  MNEME_CHECK(is_safetensors_dtype(tensor.dtype), where, "safetensors has no dtype ",
              dtype_name(tensor.dtype));
  int64_t bytes = dtype_info(tensor.dtype).block_bytes;
  for (const int64_t extent : tensor.shape) {
    MNEME_CHECK(extent >= 0, where, "negative extent in shape ", shape_text(tensor.shape));
    bytes = checked_mul(bytes, extent, "write_safetensors");
  }
  MNEME_CHECK(bytes == tensor.bytes, where, dtype_name(tensor.dtype), " ", shape_text(tensor.shape),
              " takes ", bytes, " bytes, got ", tensor.bytes);
  MNEME_CHECK(tensor.data != nullptr || bytes == 0, where, "no data");
}

// Text as JSON; its quotes, control bytes and backslashes escaped.
std::string json_text(const std::string& text) { return nlohmann::json(text).dump(); }

// Wide types first, the caller's order among equals: every tensor then lies aligned to its type.
std::vector<const TensorView*> file_order(const std::vector<TensorView>& tensors) {
  std::vector<const TensorView*> order;
  order.reserve(tensors.size());
  for (const TensorView& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const TensorView* a, const TensorView* b) {
    return dtype_info(a->dtype).block_bytes > dtype_info(b->dtype).block_bytes;
  });
  return order;
}

std::string header_text(const std::vector<const TensorView*>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      if (text.back() != '{') text += ',';
      text += json_text(key) + ':' + json_text(value);
    }
    text += '}';
  }
  int64_t begin = 0;
  for (const TensorView* tensor : tensors) {
    const int64_t end = checked_add(begin, tensor->bytes, "write_safetensors");
    if (text.size() > 1) text += ',';
    text += concat(json_text(tensor->name), ":{\"dtype\":\"", dtype_name(tensor->dtype),
                   "\",\"shape\":", nlohmann::json(tensor->shape).dump(), ",\"data_offsets\":[",
                   begin, ",", end, "]}");
    begin = end;
  }
  text += '}';
  // Tensor bytes start at a multiple of 8 in the file; spaces are the format's padding.
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

void write_safetensors(const std::string& path, const std::vector<TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::set<std::string_view> names;
  for (const TensorView& tensor : tensors) {
    check_tensor(tensor, path);
    MNEME_CHECK(names.insert(tensor.name).second, path, ": duplicate tensor ", quote(tensor.name));
  }
  for (const auto& [key, value] : metadata) {
    MNEME_CHECK(is_utf8(key) && is_utf8(value), path, ": metadata ", quote(key), " is not UTF-8");
  }
  const std::vector<const TensorView*> order = file_order(tensors);
  const std::string header = header_text(order, metadata);
  MNEME_CHECK(header.size() <= kLargestSafetensorsHeader, path, ": header of ", header.size(),
              " bytes, at most ", kLargestSafetensorsHeader);

  AtomicFile file(path);
  const auto header_bytes = static_cast<uint64_t>(header.size());
  file.write(&header_bytes, sizeof(header_bytes));
  file.write(header.data(), static_cast<int64_t>(header.size()));
  for (const TensorView* tensor : order) file.write(tensor->data, tensor->bytes);
  file.commit();
}

}  // namespace mneme
