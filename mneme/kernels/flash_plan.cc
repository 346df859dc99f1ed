#include "mneme/kernels/flash_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/flash_dropout.h"

namespace mneme {
namespace {

constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max() / 2;

void check_config(const FlashAttention& c) {
  flash_element_bytes(c.dtype);
  MNEME_CHECK(c.batch >= 0 && c.q_len >= 0 && c.k_len >= 0,
              "flash attention: batch, q_len and k_len must not be negative, got ", c.batch, ", ",
              c.q_len, ", ", c.k_len);
  MNEME_CHECK(c.q_len <= kMaxTokens && c.k_len <= kMaxTokens, "flash attention: at most ",
              kMaxTokens, " tokens, got ", c.q_len, " queries and ", c.k_len, " keys");
  MNEME_CHECK(c.kv_heads >= 1 && c.q_heads >= 1 && c.q_heads % c.kv_heads == 0,
              "flash attention: query heads must be a multiple of KV heads, got ", c.q_heads,
              " and ", c.kv_heads);
  MNEME_CHECK(c.head_dim >= 1 && c.head_dim <= kMaxFlashDim,
              "flash attention: head_dim must be 1 to ", kMaxFlashDim, ", got ", c.head_dim);
  MNEME_CHECK(std::isfinite(c.scale), "flash attention: scale must be finite, got ", c.scale);
  MNEME_CHECK(c.window_left >= -1 && c.window_right >= -1,
              "flash attention: window must be -1 (unlimited) or more on each side, got (",
              c.window_left, ", ", c.window_right, ")");
  MNEME_CHECK(std::isfinite(c.softcap) && c.softcap >= 0,
              "flash attention: softcap must be 0 (none) or positive, got ", c.softcap);
  MNEME_CHECK(c.dropout >= 0 && c.dropout < 1, "flash attention: dropout must be in [0, 1), got ",
              c.dropout);
  MNEME_CHECK((c.cu_q == nullptr) == (c.cu_k == nullptr),
              "flash attention: packed sequences need both cu_q and cu_k");
}

void check_lengths(const char* name, const int32_t* cu, int64_t batch, int64_t total) {
  MNEME_CHECK(cu[0] == 0, "flash attention: ", name, "[0] must be 0, got ", cu[0]);
  for (int64_t b = 0; b < batch; ++b) {
    MNEME_CHECK(cu[b + 1] >= cu[b], "flash attention: ", name, " must not decrease, got ", cu[b],
                " then ", cu[b + 1], " at ", b + 1);
  }
  MNEME_CHECK(cu[batch] == total, "flash attention: the last of ", name,
              " must be the number of packed tokens ", total, ", got ", cu[batch]);
}

}  // namespace

int64_t flash_element_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 8;
    case DType::kF32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    default:
      fail("flash attention: expected F32, BF16, F16 or F64, got ", dtype_name(dtype));
  }
}

bool machine_multiplies_bf16() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx512bf16") != 0;
  return has;
#else
  return false;
#endif
}

bool bf16_products_pay() {
#if defined(__x86_64__)
  static const bool pay = machine_multiplies_bf16() && !__builtin_cpu_is("intel");
  return pay;
#else
  return false;
#endif
}

float* FloatCarver::take(int64_t floats) {
  float* part = memory_ == nullptr ? nullptr : memory_ + used_;
  used_ = checked_add(used_, checked_round_up(floats, 16, "flash attention"), "flash attention");
  return part;
}

FlashPlan::FlashPlan(const FlashAttention& attention) : config(attention) {
  check_config(config);
  const bool packed = config.cu_q != nullptr;
  if (packed) {
    check_lengths("cu_q", config.cu_q, config.batch, config.q_len);
    check_lengths("cu_k", config.cu_k, config.batch, config.k_len);
  }
  lse_head_stride = config.q_len;
  for (int64_t b = 0; b < config.batch; ++b) {
    FlashSequence s;
    s.index = b;
    if (packed) {
      s.q_begin = s.lse_begin = config.cu_q[b];
      s.k_begin = config.cu_k[b];
      s.q_len = config.cu_q[b + 1] - config.cu_q[b];
      s.k_len = config.cu_k[b + 1] - config.cu_k[b];
    } else {
      s.q_batch = s.k_batch = b;
      s.q_len = config.q_len;
      s.k_len = config.k_len;
      s.lse_begin = b * config.q_heads * config.q_len;
    }
    sequences.push_back(s);
  }
  set_up();
}

FlashPlan::FlashPlan(const FlashAttention& attention, std::vector<FlashSequence> rows)
    : config(attention), sequences(std::move(rows)), lse_head_stride(attention.q_len) {
  check_config(config);
  set_up();
}

void FlashPlan::set_up() {
  ratio = config.q_heads / config.kv_heads;
  right = config.causal ? 0 : config.window_right;
  for (FlashSequence& sequence : sequences) {
    sequence.first_tile = tiles;
    tiles += tiles_of(sequence) * config.kv_heads;
  }
  cap = static_cast<float>(config.softcap);
  factor = static_cast<float>(config.softcap > 0 ? config.scale / config.softcap : config.scale);
  keep_scale = static_cast<float>(1 / (1 - config.dropout));
  keep_from = dropout_threshold(config.dropout);
}

int64_t FlashPlan::tiles_of(const FlashSequence& sequence) const {
  return ceil_div(sequence.q_len * ratio, kFlashRows);
}

RowTile FlashPlan::tile(int64_t index) const {
  const auto after = std::upper_bound(
      sequences.begin(), sequences.end(), index,
      [](int64_t tile, const FlashSequence& sequence) { return tile < sequence.first_tile; });
  const FlashSequence& sequence = *(after - 1);
  const int64_t local = index - sequence.first_tile;
  const int64_t last = tiles_of(sequence) - 1;
  return tile_of(sequence, local % config.kv_heads, last - local / config.kv_heads);
}

RowTile FlashPlan::tile_of(const FlashSequence& sequence, int64_t kv_head, int64_t number) const {
  RowTile tile;
  tile.sequence = &sequence;
  tile.kv_head = kv_head;
  tile.first_row = number * kFlashRows;
  tile.rows = std::min(kFlashRows, sequence.q_len * ratio - tile.first_row);
  const int64_t offset = sequence.k_len - sequence.q_len;
  const int64_t first = query_of(tile, 0) + offset, last = query_of(tile, tile.rows - 1) + offset;
  const int64_t keys = sequence.k_len;
  const int64_t left = config.window_left;
  const int64_t begin = left < 0 ? 0 : std::max<int64_t>(0, first - left);
  tile.key_begin = begin / kFlashKeyStep * kFlashKeyStep;
  tile.key_end = right < 0 ? keys : std::clamp<int64_t>(last + right + 1, 0, keys);
  if (begin >= tile.key_end) tile.key_begin = tile.key_end = 0;
  tile.full_begin = left < 0 ? 0 : std::max<int64_t>(0, last - left);
  tile.full_end = right < 0 ? keys : std::min<int64_t>(first + right + 1, keys);
  return tile;
}

void FlashPlan::fill_lanes(const RowTile& tile, RowLanes& lanes) const {
  const FlashSequence& sequence = *tile.sequence;
  const int64_t offset = sequence.k_len - sequence.q_len;
  const int64_t far = int64_t{1} << 30;
  for (int64_t lane = 0; lane < kFlashRows; ++lane) {
    const int64_t row = std::min(lane, tile.rows - 1);
    const int64_t i = query_of(tile, row), head = head_of(tile, row);
    const int64_t low = config.window_left < 0 ? -far : i + offset - config.window_left;
    const int64_t high = right < 0 ? far : i + offset + right;
    lanes.low[lane] = static_cast<int32_t>(std::clamp(low, -far, far));
    lanes.high[lane] = static_cast<int32_t>(std::clamp(high, -far, far));
    lanes.position[lane] = static_cast<float>(i + offset);
    const int64_t slope = config.alibi_per_batch ? sequence.index * config.q_heads + head : head;
    lanes.slope[lane] = config.alibi_slopes == nullptr ? 0 : -config.alibi_slopes[slope];
    lanes.query[lane] = static_cast<uint32_t>(i);
    lanes.row[lane] = static_cast<uint32_t>(sequence.index * config.q_heads + head);
  }
}

}  // namespace mneme
