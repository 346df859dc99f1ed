#include "mneme/cache/memory.h"

#include <algorithm>

#include "mneme/core/error.h"

namespace mneme {
namespace {

// "[n, 64]" of {-1, 64}
std::string expected_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t extent : shape)
    text += (text.empty() ? "" : ", ") + (extent < 0 ? "n" : std::to_string(extent));
  return "[" + text + "]";
}

}  // namespace

const TensorView& saved_tensor(const TensorSource& state, const std::string& name, DType dtype,
                               const std::vector<int64_t>& shape) {
  const TensorView* found = state.find(name);
  MNEME_CHECK(found != nullptr, state.origin(), ": ", name, " is missing");
  const bool fits = std::ranges::equal(
      found->shape, shape, [](int64_t got, int64_t want) { return want < 0 || got == want; });
  MNEME_CHECK(found->dtype == dtype && fits, state.origin(), ": ", name, " is ",
              dtype_name(found->dtype), " ", shape_text(found->shape), ", expected ",
              dtype_name(dtype), " ", expected_text(shape));
  return *found;
}

}  // namespace mneme
