// The tensors of a saved memory without a file, for tests that spoil some of them.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "mneme/cache/memory.h"

namespace mneme::testing {

// Tensors of a saved memory, as a file would give them back.
class SavedState final : public TensorSource {
 public:
  explicit SavedState(const SequenceMemory& memory) : SavedState(memory.save_state()) {}
  explicit SavedState(std::vector<StateTensor> state) : state_(std::move(state)) {
    for (const StateTensor& tensor : state_)
      views_.push_back(
          {tensor.name, tensor.dtype, tensor.shape, tensor.bytes.data(), std::ssize(tensor.bytes)});
  }
  const TensorView* find(std::string_view name) const override {
    const auto found = std::ranges::find(views_, name, &TensorView::name);
    return found == views_.end() ? nullptr : &*found;
  }
  const std::vector<TensorView>& tensors() const override { return views_; }
  const std::string& origin() const override { return origin_; }
  TensorView& view(std::string_view name) {
    return *std::ranges::find(views_, name, &TensorView::name);
  }

 private:
  std::vector<StateTensor> state_;
  std::vector<TensorView> views_;
  std::string origin_ = "saved";
};

}  // namespace mneme::testing
