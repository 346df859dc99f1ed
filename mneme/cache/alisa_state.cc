// Saving and loading of AlisaMemory: blocks of both tiers leave and come back as they lie.
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "mneme/cache/alisa_memory.h"
#include "mneme/cache/policy/policy_state.h"
#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

constexpr const char* kSettings = "alisa_settings";
constexpr const char* kState = "alisa_state";

std::string layer_name(int64_t layer, const char* part) { return concat("L", layer, "_", part); }

}  // namespace

// Everything that decides what lies in the blocks and which of them are there. Where the slow tier
// lies is not part of it.
std::string AlisaMemory::settings_text() const {
  std::ostringstream text;
  text << std::setprecision(17) << "ratio " << options_.ratio << ", fast tier " << options_.capacity
       << " tokens of " << dtype_name(options_.dtype) << " in blocks of " << options_.block
       << ", slow bits " << options_.slow_bits << ", alpha " << options_.schedule.alpha << ", beta "
       << options_.schedule.beta << ", p1 "
       << (options_.p1_at_overflow ? "at overflow" : concat(options_.schedule.p1)) << ", p2 "
       << options_.schedule.p2;
  return text.str();
}

std::vector<StateTensor> AlisaMemory::save_state() const {
  MNEME_CHECK(step_.tokens == 0, "save: a step is under way");
  const std::string settings = settings_text();
  const auto* const letters = reinterpret_cast<const std::byte*>(settings.data());
  std::vector<StateTensor> state = {
      {kSettings, DType::kU8, {std::ssize(settings)}, {letters, letters + settings.size()}}};
  const TierPlacement placed = placement();
  state.push_back(state_tensor<int64_t>(
      kState, {first_text_, prompt_, in_text_, placed.slow_end, placed.deleted}));
  const auto add = [&](std::string name, int64_t blocks, int64_t bytes, const auto& block) {
    StateTensor tensor{std::move(name), DType::kU8, {blocks, bytes}, {}};
    tensor.bytes.reserve(static_cast<size_t>(blocks * bytes));
    for (int64_t i = 0; i < blocks; ++i)
      tensor.bytes.insert(tensor.bytes.end(), block(i), block(i) + bytes);
    state.push_back(std::move(tensor));
  };
  for (int64_t i = 0; i < shape_.layers(); ++i) {
    const TieredTokens& tokens = at(i).tokens;
    add(layer_name(i, "fast"), tokens.fast_blocks(), layout_.fast_bytes(),
        [&](int64_t block) { return tokens.fast_block(block); });
    add(layer_name(i, "slow"), tokens.slow_blocks(), layout_.slow_bytes(),
        [&](int64_t block) { return tokens.slow_block(block); });
    if (shape_.sees_all(i)) at(i).history.save(layer_name(i, "history_"), state);
  }
  slow_store_->release_pages();
  return state;
}

void AlisaMemory::load_state(const TensorSource& state, int64_t length) {
  MNEME_CHECK(step_.tokens == 0, "load: a step is under way");
  MNEME_CHECK(length >= 0 && length <= shape_.context, state.origin(), ": ", length,
              " tokens do not fit the context of ", shape_.context);
  const TensorView* const found = state.find(kSettings);
  MNEME_CHECK(found != nullptr, state.origin(), ": ", kSettings, " is missing");
  const std::string settings(reinterpret_cast<const char*>(found->data),
                             static_cast<size_t>(found->bytes));
  MNEME_CHECK(settings == settings_text(), state.origin(), ": was saved with '", settings,
              "', this memory has '", settings_text(), "'");
  const std::vector<int64_t> numbers = read_state<int64_t>(state, kState, 5);
  const int64_t block = options_.block, first_text = numbers[0], prompt = numbers[1];
  const TierPlacement placed{numbers[3], numbers[4]};
  MNEME_CHECK(first_text >= 0 && first_text <= length && prompt >= 0 && prompt <= length &&
                  (numbers[2] == 0 || numbers[2] == 1) && placed.deleted >= 0 &&
                  placed.deleted <= first_text && placed.deleted <= placed.slow_end &&
                  placed.slow_end <= length && placed.slow_end % block == 0 &&
                  placed.deleted % block == 0,
              state.origin(), ": ", kState, " does not fit ", length, " tokens");
  const auto load = [&](const std::string& name, int64_t blocks, int64_t bytes, const auto& take) {
    const std::byte* const data = saved_tensor(state, name, DType::kU8, {blocks, bytes}).data;
    for (int64_t i = 0; i < blocks; ++i) take(data + i * bytes);
  };
  std::vector<Layer> loaded;
  std::vector<float> k(static_cast<size_t>(shape_.kv_heads * shape_.k_dim)),
      v(static_cast<size_t>(shape_.kv_heads * shape_.v_dim)), scratch;
  std::vector<std::byte> room(
      static_cast<size_t>(rows().token_bytes() + RowListAttention::kOverhang));
  for (int64_t i = 0; i < shape_.layers(); ++i) {
    Layer& layer = loaded.emplace_back(new_layer());
    const int64_t gone = shape_.sees_all(i)
                             ? placed.deleted
                             : std::max<int64_t>(0, length - window_of(i) + 1) / block * block;
    const int64_t slow_end = shape_.sees_all(i) ? placed.slow_end : gone;
    layer.tokens.begin_loading(gone);
    load(layer_name(i, "slow"), (slow_end - gone) / block, layout_.slow_bytes(),
         [&](const std::byte* bytes) { layer.tokens.load_slow_block(bytes); });
    load(layer_name(i, "fast"), ceil_div(length - slow_end, block), layout_.fast_bytes(),
         [&](const std::byte* bytes) { layer.tokens.load_fast_block(bytes); });
    const auto finite = [](float x) { return std::isfinite(x); };
    for (int64_t position = gone; position < length; ++position) {
      const std::byte* from = room.data();
      if (position < slow_end) {
        layer.tokens.load_slow(position, room.data(), scratch);
      } else {
        from = layer.tokens.fast(position);
      }
      rows().read_token(from, k.data(), v.data());
      MNEME_CHECK(std::ranges::all_of(k, finite) && std::ranges::all_of(v, finite), state.origin(),
                  ": layer ", i, " holds a number at position ", position, " that is not finite");
    }
    if (!shape_.sees_all(i)) continue;
    layer.history =
        AttentionHistory::load(state, layer_name(i, "history_"), options_.ratio, length);
    if (length > 0 && numbers[2] == 0) layer.history.choose(length + 1, layer.chosen);
  }
  std::swap(layers_, loaded);
  length_ = length;
  first_text_ = first_text;
  prompt_ = prompt;
  in_text_ = numbers[2] != 0;
  traffic_ = {};
  slow_store_->release_pages();
  peak_bytes_ = std::max(peak_bytes_, resident_bytes());
}

}  // namespace mneme
