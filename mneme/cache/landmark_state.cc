// Saving and loading of LandmarkMemory: blocks leave and come back as they are stored; landmarks are
// made again from them.
#include <cstring>
#include <iomanip>
#include <sstream>

#include "mneme/cache/landmark_memory.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

constexpr const char* kSettings = "landmark_settings";

std::string layer_name(int64_t layer, const char* part) { return concat("L", layer, "_", part); }

}  // namespace

// Everything that decides what lies in the blocks and which of them are there.
std::string LandmarkMemory::settings_text() const {
  std::ostringstream text;
  text << std::setprecision(17) << "block " << options_.block << ", landmark "
       << (grouped() ? concat("token ", options_.landmark_token) : "mean") << ", window "
       << options_.window << ", keeps " << options_.blocks << ", " << dtype_name(options_.dtype);
  for (size_t layer = 0; layer < shape_.rotary.size(); ++layer) {
    const RotaryPositions& rotary = shape_.rotary[layer];
    if (layer > 0 && rotary == shape_.rotary[layer - 1]) continue;
    text << "; from layer " << layer << " rotary "
         << (rotary.pairs == RopePairs::kHalves ? "halves" : "interleaved") << " base "
         << rotary.base << " scale " << rotary.scale;
    for (const float factor : rotary.factors) text << " " << factor;
  }
  return text.str();
}

std::vector<StateTensor> LandmarkMemory::save_state() const {
  MNEME_CHECK(step_.tokens == 0, "save: a step is under way");
  const std::string settings = settings_text();
  const auto* const letters = reinterpret_cast<const std::byte*>(settings.data());
  std::vector<StateTensor> state = {
      {kSettings, DType::kU8, {std::ssize(settings)}, {letters, letters + settings.size()}}};
  const int64_t bytes = memory_->block_bytes();
  const auto add = [&](std::string name, const BlockRows& rows, int64_t first, int64_t end) {
    StateTensor tensor{std::move(name), DType::kU8, {end - first, bytes}, {}};
    tensor.bytes.reserve(static_cast<size_t>((end - first) * bytes));
    for (int64_t block = first; block < end; ++block) {
      const std::byte* const from = rows.whole(block);
      tensor.bytes.insert(tensor.bytes.end(), from, from + bytes);
    }
    state.push_back(std::move(tensor));
  };
  for (int64_t layer = 0; layer < shape_.layers(); ++layer) {
    const BlockRows& rows = layers_[static_cast<size_t>(layer)];
    const int64_t complete = rows.complete_blocks();
    add(layer_name(layer, "blocks"), rows, rows.first_block(), complete);
    add(layer_name(layer, "open"), rows, complete,
        complete + (length_ % options_.block > 0 ? 1 : 0));
  }
  store_->release_pages();
  return state;
}

void LandmarkMemory::load_state(const TensorSource& state, int64_t length) {
  MNEME_CHECK(step_.tokens == 0, "load: a step is under way");
  MNEME_CHECK(length >= 0 && (length <= shape_.context || capabilities().beyond_context),
              state.origin(), ": ", length, " tokens do not fit the context of ", shape_.context);
  const TensorView* const found = state.find(kSettings);
  MNEME_CHECK(found != nullptr, state.origin(), ": ", kSettings, " is missing");
  const std::string settings(reinterpret_cast<const char*>(found->data),
                             static_cast<size_t>(found->bytes));
  MNEME_CHECK(settings == settings_text(), state.origin(), ": was saved with '", settings,
              "', this memory has '", settings_text(), "'");
  std::vector<BlockRows> loaded;
  const int64_t bytes = memory_->block_bytes(), rows_left = length % options_.block;
  const auto check = [&](const std::byte* block, int64_t rows, const std::string& name) {
    for (int64_t head = 0; head < shape_.kv_heads; ++head) {
      MNEME_CHECK(layout_.finite(block + head * layout_.bytes(), rows), state.origin(), ": ", name,
                  " holds a number that is not finite");
    }
  };
  for (int64_t layer = 0; layer < shape_.layers(); ++layer) {
    BlockRows& rows =
        loaded.emplace_back(layout_, shape_.kv_heads, fetches(layer), memory_, store_);
    const int64_t first = first_block(layer, length), complete = length / options_.block;
    const std::string blocks_name = layer_name(layer, "blocks"),
                      open_name = layer_name(layer, "open");
    const std::byte* const blocks =
        saved_tensor(state, blocks_name, DType::kU8, {complete - first, bytes}).data;
    const std::byte* const open =
        saved_tensor(state, open_name, DType::kU8, {rows_left > 0 ? 1 : 0, bytes}).data;
    rows.begin_loading(first);
    for (int64_t i = 0; i < complete - first; ++i) {
      check(blocks + i * bytes, options_.block, blocks_name);
      rows.load_complete(blocks + i * bytes);
      if (!fetches(layer)) continue;
      for (int64_t head = 0; head < shape_.kv_heads; ++head)
        close_block(rows, layer, head, first + i);
    }
    if (rows_left > 0) {
      check(open, rows_left, open_name);
      rows.load_open(open);
    }
  }
  std::swap(layers_, loaded);
  length_ = length;
  store_->release_pages();
  peak_bytes_ = std::max(peak_bytes_, resident_bytes());
}

}  // namespace mneme
