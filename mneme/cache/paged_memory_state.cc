// Saving and loading of PagedMemory: rows leave and come back as the bits they are stored in.
#include <algorithm>
#include <cstring>

#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/policy_state.h"
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
  for (int64_t slot = 0; slot < rows.slots(); ++slot) {
    const int32_t position = rows.slot_position(slot);
    if (runs.empty() || position != runs.back().first + runs.back().count)
      runs.push_back({position, 0});
    ++runs.back().count;
  }
  return runs;
}

// The rows of one head, every number checked against the length of the text.
PagedRows load_rows(const TensorSource& state, const RowFormat& format, int64_t layer, int64_t head,
                    int64_t length) {
  const TensorView& packed =
      saved_tensor(state, head_name(layer, head, "rows"), DType::kU8, {-1, format.row_bytes()});
  const TensorView& run_table =
      saved_tensor(state, head_name(layer, head, "runs"), DType::kI32, {-1, 2});
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
  const std::string hidden = head_name(layer, head, "hidden");
  if (state.find(hidden) == nullptr) return rows;
  const TensorView& slots = saved_tensor(state, hidden, DType::kI32, {-1, 1});
  int64_t before = -1;
  for (int64_t i = 0; i < slots.shape[0]; ++i) {
    int32_t slot;
    std::memcpy(&slot, slots.data + i * static_cast<int64_t>(sizeof slot), sizeof slot);
    MNEME_CHECK(slot > before && slot < rows.slots(), state.origin(), ": ", hidden,
                ": expected rows in increasing order below ", rows.slots(), ", got ", slot,
                " after ", before);
    rows.hide_slot(slot);
    before = slot;
  }
  return rows;
}

}  // namespace

std::vector<StateTensor> PagedMemory::save_state() const {
  MNEME_CHECK(step_.tokens == 0, "save: a step is under way");
  MNEME_CHECK(!queries_, "save: a text is being read in parts, of which only some have come");
  std::vector<StateTensor> state;
  const int64_t row_bytes = format_.row_bytes();
  for (int64_t layer = 0; layer < shape().layers(); ++layer) {
    for (int64_t head = 0; head < shape().kv_heads; ++head) {
      const PagedRows& held = rows(layer, head);
      StateTensor packed{head_name(layer, head, "rows"), DType::kU8, {held.slots(), row_bytes}, {}};
      packed.bytes.resize(static_cast<size_t>(held.slots() * row_bytes));
      for (int64_t slot = 0; slot < held.slots(); ++slot)
        held.pack_slot(slot, packed.bytes.data() + slot * row_bytes);
      state.push_back(std::move(packed));

      const std::vector<Run> runs = runs_of(held);
      StateTensor table{
          head_name(layer, head, "runs"), DType::kI32, {static_cast<int64_t>(runs.size()), 2}, {}};
      table.bytes.resize(runs.size() * sizeof(Run));
      if (!runs.empty()) std::memcpy(table.bytes.data(), runs.data(), table.bytes.size());
      state.push_back(std::move(table));

      std::vector<int32_t> slots;
      for (int64_t slot = 0; slot < held.slots(); ++slot)
        if (held.slot_hidden(slot)) slots.push_back(static_cast<int32_t>(slot));
      if (slots.empty()) continue;
      StateTensor hidden{head_name(layer, head, "hidden"), DType::kI32, {std::ssize(slots), 1}, {}};
      hidden.bytes.resize(slots.size() * sizeof(int32_t));
      std::memcpy(hidden.bytes.data(), slots.data(), hidden.bytes.size());
      state.push_back(std::move(hidden));
    }
  }
  if (rerotate_) state.push_back(state_tensor("renumbered", std::vector{filtered_tokens_}));
  for (StateTensor& tensor : policy_->save_state()) state.push_back(std::move(tensor));
  return state;
}

void PagedMemory::load_state(const TensorSource& state, int64_t length) {
  MNEME_CHECK(step_.tokens == 0, "load: a step is under way");
  MNEME_CHECK(length >= 0 && (length <= shape().context || policy_->bounded()), state.origin(),
              ": ", length, " tokens do not fit the context of ", shape().context);
  std::vector<PagedRows> loaded;
  for (int64_t layer = 0; layer < shape().layers(); ++layer) {
    for (int64_t head = 0; head < shape().kv_heads; ++head)
      loaded.push_back(load_rows(state, format_, layer, head, length));
  }
  std::unique_ptr<CachePolicy> policy = policy_->clone();
  policy->load_state(state);
  int64_t renumbered = 0;
  if (rerotate_) renumbered = read_state<int64_t>(state, "renumbered", 1).front();
  MNEME_CHECK(renumbered >= 0 && renumbered <= INT64_MAX - length, state.origin(),
              ": renumbered: expected 0 to ", INT64_MAX - length, ", got ", renumbered);
  const auto exchange = [&] {
    std::swap(rows_, loaded);
    std::swap(policy_, policy);
    std::swap(length_, length);
    std::swap(filtered_tokens_, renumbered);
  };
  exchange();
  const std::string missing = policy_->evicts() ? "" : missing_row(length_);
  if (!missing.empty()) {
    exchange();
    fail(state.origin(), ": ", missing);
  }
  in_text_ = false;
  queries_.reset();
  peak_bytes_ = std::max(peak_bytes_, resident_bytes());
}

}  // namespace mneme
