// libFuzzer target: any bytes are a GGUF file or an Error, and tensors stay inside the bytes.
// Seeds: tests/fuzz/gguf/.
#include <cstddef>
#include <cstdint>

#include "mneme/core/error.h"
#include "mneme/io/gguf.h"
#include "mneme/io/tensor_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto file = mneme::GgufFile::parse(reinterpret_cast<const std::byte*>(data),
                                             static_cast<int64_t>(size), "fuzz");
    const auto* begin = reinterpret_cast<const std::byte*>(data);
    for (const mneme::TensorView& tensor : file->tensors()) {
      MNEME_ASSERT(tensor.data >= begin && tensor.data + tensor.bytes <= begin + size);
      mneme::count_non_finite(tensor);
    }
    for (const auto& [key, value] : file->metadata()) MNEME_ASSERT(file->has(key));
  } catch (const mneme::Error&) {
  }
  return 0;
}
