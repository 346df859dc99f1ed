// A small seeded generator (SplitMix64) whose stream is the same on every machine and compiler.
#pragma once

#include <cstdint>

namespace mneme {

class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // Uniform in [0, 1), 53 bits.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // Uniform in [0, bound), bound > 0.
  int64_t below(int64_t bound) {
    return static_cast<int64_t>(
        (static_cast<unsigned __int128>(next()) * static_cast<uint64_t>(bound)) >> 64);
  }
  // Standard normal (Box-Muller, one of the pair).
  double normal();

  uint64_t state() const { return state_; }

 private:
  uint64_t state_;
};

}  // namespace mneme
