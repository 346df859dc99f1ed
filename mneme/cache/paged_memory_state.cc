// Saving and loading of PagedMemory: rows leave and come back as the bits they are stored in.
#include <algorithm>
#include <cstring>

#include "mneme/cache/paged_memory.h"
#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

std::string head_name(int64_t layer, int64_t head, const char* part) {
  return concat("L", layer, "_H", head, "_", part);
}

struct Run {
  int32_t first;
  int32_t count;
};

std::vector<Run> runs_of(const PagedRows& rows) {
  std::vector<Run> runs;
  for (int64_t row = 0; row < rows.rows(); ++row) {
    const int32_t position = rows.position(row);
    if (runs.empty() || position != runs.back().first + runs.back().count)
      runs.push_back({position, 0});
    ++runs.back().count;
  }
  return runs;
}

const TensorView& tensor(const TensorSource& state, const std::string& name, DType dtype,
                         int64_t columns) {
  const TensorView* found = state.find(name);
  MNEME_CHECK(found != nullptr, state.origin(), ": ", name, " is missing");
  MNEME_CHECK(found->dtype == dtype && found->shape.size() == 2 && found->shape[1] == columns,
              state.origin(), ": ", name, " is ", dtype_name(found->dtype), " ",
              shape_text(found->shape), ", expected ", dtype_name(dtype), " [n, ", columns, "]");
  return *found;
}

// The rows of one head, every number checked against the length of the text.
PagedRows load_rows(const TensorSource& state, const RowFormat& format, int64_t layer, int64_t head,
                    int64_t length) {
  const TensorView& packed =
      tensor(state, head_name(layer, head, "rows"), DType::kU8, format.row_bytes());
  const TensorView& run_table = tensor(state, head_name(layer, head, "runs"), DType::kI32, 2);
  PagedRows rows(format);
  int64_t next_position = 0;
  int64_t row = 0;
  for (int64_t r = 0; r < run_table.shape[0]; ++r) {
    Run run;
    std::memcpy(&run, run_table.data + r * static_cast<int64_t>(sizeof run), sizeof run);
    const int64_t end = int64_t{run.first} + run.count;
    MNEME_CHECK(run.count > 0 && run.first >= next_position && end <= length &&
                    row + run.count <= packed.shape[0],
                state.origin(), ": ", run_table.name, ": run ", r, " (", run.first, ", ", run.count,
                ") does not fit ", length, " tokens and ", packed.shape[0], " rows");
    rows.reserve(run.first, run.count);
    for (int64_t position = run.first; position < end; ++position, ++row) {
      rows.append_packed(static_cast<int32_t>(position), packed.data + row * format.row_bytes());
    }
    next_position = end;
  }
  MNEME_CHECK(row == packed.shape[0], state.origin(), ": ", run_table.name, " names ", row,
              " positions for ", packed.shape[0], " rows");
  return rows;
}

}  // namespace

std::vector<StateTensor> PagedMemory::save_state() const {
  MNEME_CHECK(step_tokens_ == 0, "save: a step is under way");
  std::vector<StateTensor> state;
  const int64_t row_bytes = format_.row_bytes();
  for (int64_t layer = 0; layer < shape_.layers(); ++layer) {
    for (int64_t head = 0; head < shape_.kv_heads; ++head) {
      const PagedRows& held = rows(layer, head);
      StateTensor packed{head_name(layer, head, "rows"), DType::kU8, {held.rows(), row_bytes}, {}};
      packed.bytes.resize(static_cast<size_t>(held.rows() * row_bytes));
      for (int64_t row = 0; row < held.rows(); ++row)
        held.pack(row, packed.bytes.data() + row * row_bytes);
      state.push_back(std::move(packed));

      const std::vector<Run> runs = runs_of(held);
      StateTensor table{
          head_name(layer, head, "runs"), DType::kI32, {static_cast<int64_t>(runs.size()), 2}, {}};
      table.bytes.resize(runs.size() * sizeof(Run));
      if (!runs.empty()) std::memcpy(table.bytes.data(), runs.data(), table.bytes.size());
      state.push_back(std::move(table));
    }
  }
  return state;
}

void PagedMemory::load_state(const TensorSource& state, int64_t length) {
  MNEME_CHECK(step_tokens_ == 0, "load: a step is under way");
  MNEME_CHECK(length >= 0 && (length <= shape_.context || policy_->bounded()), state.origin(), ": ",
              length, " tokens do not fit the context of ", shape_.context);
  std::vector<PagedRows> loaded;
  for (int64_t layer = 0; layer < shape_.layers(); ++layer) {
    for (int64_t head = 0; head < shape_.kv_heads; ++head)
      loaded.push_back(load_rows(state, format_, layer, head, length));
  }
  std::swap(rows_, loaded);
  std::swap(length_, length);
  const std::string reason = cannot_trim_to(length_);
  if (!reason.empty()) {
    std::swap(rows_, loaded);
    std::swap(length_, length);
    fail(state.origin(), ": ", reason);
  }
  peak_bytes_ = std::max(peak_bytes_, resident_bytes());
}

}  // namespace mneme
