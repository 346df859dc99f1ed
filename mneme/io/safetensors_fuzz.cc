// libFuzzer target: any bytes are a safetensors file or an Error, and tensors cover the data
// exactly. Seeds: tests/fuzz/safetensors/.
#include <cstddef>
#include <cstdint>

#include "mneme/core/error.h"
#include "mneme/io/safetensors.h"
#include "mneme/io/tensor_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto file = mneme::SafetensorsFile::parse(reinterpret_cast<const std::byte*>(data),
                                                    static_cast<int64_t>(size), "fuzz");
    const auto* end = reinterpret_cast<const std::byte*>(data + size);
    if (!file->tensors().empty()) {
      MNEME_ASSERT(file->tensors().back().data + file->tensors().back().bytes == end);
    }
    for (const mneme::TensorView& tensor : file->tensors()) {
      mneme::count_non_finite(tensor);
      MNEME_ASSERT(file->find(tensor.name) == &tensor);
    }
  } catch (const mneme::Error&) {
  }
  return 0;
}
