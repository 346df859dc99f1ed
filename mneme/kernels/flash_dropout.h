// The keep mask of attention dropout: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as
// easy as 1, 2, 3", 2011), a generator whose output is a function of a counter, so that the
// backward pass makes the mask again instead of storing it, whatever the tiles of either pass.
//
// Key: the seed. Counter: (j / 4, i, b * q_heads + h, offset). Word j % 4 of the output decides
// about the weight of query i and key j: it is kept iff word >= p * 2^32. The vector twin is in
// flash_mask-inl.h. Tests: flash_dropout_test.cc (the authors' known answers, statistics).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace mneme {

inline constexpr uint32_t kPhiloxM0 = 0xD2511F53u, kPhiloxM1 = 0xCD9E8D57u;
inline constexpr uint32_t kPhiloxW0 = 0x9E3779B9u, kPhiloxW1 = 0xBB67AE85u;
inline constexpr int kPhiloxRounds = 10;

inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, uint64_t seed) {
  auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t a = uint64_t{kPhiloxM0} * counter[0], b = uint64_t{kPhiloxM1} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(a)};
    key0 += kPhiloxW0;
    key1 += kPhiloxW1;
  }
  return counter;
}

// The smallest word that is kept at drop probability p in [0, 1).
inline uint32_t dropout_threshold(double p) { return static_cast<uint32_t>(p * 0x1p32); }

// Whether the weight of query i and key j survives; row = b * q_heads + h.
inline bool dropout_keeps(uint64_t seed, uint32_t offset, int64_t row, int64_t i, int64_t j,
                          double p) {
  const auto words = philox(
      {static_cast<uint32_t>(j / 4), static_cast<uint32_t>(i), static_cast<uint32_t>(row), offset},
      seed);
  return words[static_cast<size_t>(j % 4)] >= dropout_threshold(p);
}

}  // namespace mneme
