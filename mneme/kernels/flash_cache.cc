#include "mneme/kernels/flash_cache.h"

#include <cstring>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/half.h"

namespace mneme {
namespace {

int64_t padding_of(const KvCache& cache, int64_t b) {
  return cache.left_padding == nullptr ? 0 : cache.left_padding[b];
}

float read(DType dtype, const std::byte* from, int64_t i) {
  if (dtype == DType::kF32) {
    float x = 0;
    std::memcpy(&x, from + i * 4, 4);
    return x;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, from + i * 2, 2);
  return dtype == DType::kBF16 ? bf16_to_float(bits) : f16_to_float(bits);
}

void write(DType dtype, float x, std::byte* to, int64_t i) {
  if (dtype == DType::kF32) {
    std::memcpy(to + i * 4, &x, 4);
    return;
  }
  const uint16_t bits = dtype == DType::kBF16 ? float_to_bf16(x) : float_to_f16(x);
  std::memcpy(to + i * 2, &bits, 2);
}

// Copies a head's values and turns the first 2 * half of them.
void copy_turned(const FlashAttention& config, const std::byte* from, const KvRotary& rotary,
                 int64_t position, std::byte* to) {
  const int64_t bytes = flash_element_bytes(config.dtype);
  std::memcpy(to, from, static_cast<size_t>(config.head_dim * bytes));
  for (int64_t i = 0; i < rotary.half; ++i) {
    const int64_t a = rotary.interleaved ? 2 * i : i;
    const int64_t b = rotary.interleaved ? 2 * i + 1 : rotary.half + i;
    const float x = read(config.dtype, from, a), y = read(config.dtype, from, b);
    const float c = rotary.cosines[position * rotary.half + i];
    const float s = rotary.sines[position * rotary.half + i];
    write(config.dtype, x * c - y * s, to, a);
    write(config.dtype, x * s + y * c, to, b);
  }
}

bool positions_advance(const FlashAttention& config) {
  return config.causal || config.window_left >= 0 || config.window_right >= 0;
}

int64_t cache_row(const KvCache& cache, int64_t b, int64_t token) {
  if (cache.block_table != nullptr) {
    return cache.block_table[b * cache.table_width + token / cache.capacity];
  }
  return cache.row_of == nullptr ? b : cache.row_of[b];
}

void check_sequence(const KvCache& cache, int64_t b, int64_t appended) {
  const int64_t held = cache.lengths[b];
  MNEME_CHECK(held >= 0, "kv cache: lengths[", b, "] must not be negative, got ", held);
  const int64_t padding = padding_of(cache, b);
  MNEME_CHECK(padding >= 0 && padding <= held, "kv cache: left_padding[", b, "] must be 0 to ",
              held, ", got ", padding);
  const int64_t room = cache.block_table == nullptr
                           ? cache.capacity
                           : checked_mul(cache.capacity, cache.table_width, "kv cache");
  MNEME_CHECK(held + appended <= room, "kv cache: sequence ", b, " holds ", held,
              " tokens and has room for ", room, ", so ", appended, " more do not fit");
  if (cache.block_table == nullptr) {
    const int64_t row = cache_row(cache, b, 0);
    MNEME_CHECK(row >= 0 && row < cache.rows, "kv cache: sequence ", b, " is in row ", row, " of ",
                cache.rows);
    return;
  }
  for (int64_t token = 0; token < held + appended; token += cache.capacity) {
    const int64_t page = cache_row(cache, b, token);
    MNEME_CHECK(page >= 0 && page < cache.rows, "kv cache: block_table[", b, ", ",
                token / cache.capacity, "] must be a page from 0 to ", cache.rows - 1, ", got ",
                page);
  }
}

}  // namespace

void check_kv_cache(const FlashAttention& config, const KvCache& cache, const KvAppend& append,
                    const KvRotary& rotary) {
  MNEME_CHECK(config.dtype != DType::kF64, "kv cache: expected F32, BF16 or F16, got F64");
  MNEME_CHECK(config.dropout == 0, "kv cache: dropout must be 0, got ", config.dropout);
  MNEME_CHECK(config.cu_q == nullptr && config.cu_k == nullptr,
              "kv cache: packed queries are not taken");
  MNEME_CHECK(cache.capacity >= 1 || cache.block_table == nullptr,
              "kv cache: pages must hold at least 1 token, got ", cache.capacity);
  MNEME_CHECK(cache.block_table == nullptr || cache.row_of == nullptr,
              "kv cache: row_of does not go with pages");
  MNEME_CHECK(append.tokens >= 0, "kv cache: appended tokens must not be negative, got ",
              append.tokens);
  MNEME_CHECK(rotary.half >= 0 && 2 * rotary.half <= config.head_dim,
              "kv cache: rotary embeddings turn at most ", config.head_dim, " values, got ",
              2 * rotary.half);
  for (int64_t b = 0; b < config.batch; ++b) {
    check_sequence(cache, b, append.tokens);
    const int64_t start = cache.lengths[b] - padding_of(cache, b);
    const int64_t queries = positions_advance(config) ? config.q_len : 1;
    const int64_t last = start + std::max(append.tokens, queries);
    MNEME_CHECK(rotary.half == 0 || last <= rotary.positions, "kv cache: sequence ", b,
                " reaches position ", last - 1, ", the rotary tables end at ",
                rotary.positions - 1);
  }
}

std::vector<FlashSequence> kv_sequences(const FlashAttention& config, const KvCache& cache,
                                        const KvAppend& append) {
  std::vector<FlashSequence> sequences;
  for (int64_t b = 0; b < config.batch; ++b) {
    FlashSequence s;
    s.index = s.q_batch = b;
    s.k_batch = cache.block_table == nullptr ? cache_row(cache, b, 0) : 0;
    s.k_begin = padding_of(cache, b);
    s.q_len = config.q_len;
    s.k_len = cache.lengths[b] + append.tokens - s.k_begin;
    s.lse_begin = b * config.q_heads * config.q_len;
    sequences.push_back(s);
  }
  return sequences;
}

void append_to_cache(const FlashAttention& config, const KvCache& cache, const KvAppend& append,
                     const KvRotary& rotary) {
  const int64_t bytes = flash_element_bytes(config.dtype);
  const KvRotary none;
  const auto copy = [&](const ConstHeads& from, const MutableHeads& to, const KvRotary& turn) {
    for (int64_t b = 0; b < config.batch; ++b) {
      for (int64_t t = 0; t < append.tokens; ++t) {
        const int64_t token = cache.lengths[b] + t;
        const int64_t slot = cache.block_table == nullptr ? token : token % cache.capacity;
        for (int64_t h = 0; h < config.kv_heads; ++h) {
          const int64_t source =
              b * from.strides.batch + t * from.strides.token + h * from.strides.head;
          const int64_t target = cache_row(cache, b, token) * to.strides.batch +
                                 slot * to.strides.token + h * to.strides.head;
          copy_turned(config, static_cast<const std::byte*>(from.data) + source * bytes, turn,
                      token - padding_of(cache, b),
                      static_cast<std::byte*>(to.data) + target * bytes);
        }
      }
    }
  };
  copy(append.k, cache.k, rotary);
  copy(append.v, cache.v, none);
}

ConstHeads turn_queries(const FlashAttention& config, const ConstHeads& q, const KvCache& cache,
                        const KvRotary& rotary, std::vector<std::byte>& to) {
  const int64_t bytes = flash_element_bytes(config.dtype);
  const HeadStrides strides = token_major(config.q_len, config.q_heads, config.head_dim);
  to.resize(static_cast<size_t>(config.batch * strides.batch * bytes));
  for (int64_t b = 0; b < config.batch; ++b) {
    for (int64_t t = 0; t < config.q_len; ++t) {
      const int64_t position =
          cache.lengths[b] - padding_of(cache, b) + (positions_advance(config) ? t : 0);
      for (int64_t h = 0; h < config.q_heads; ++h) {
        const int64_t source = b * q.strides.batch + t * q.strides.token + h * q.strides.head;
        const int64_t target = b * strides.batch + t * strides.token + h * strides.head;
        copy_turned(config, static_cast<const std::byte*>(q.data) + source * bytes, rotary,
                    position, to.data() + target * bytes);
      }
    }
  }
  return {to.data(), strides};
}

}  // namespace mneme
