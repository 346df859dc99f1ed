// The grid of a CUDA launch, for the CUDA launcher and for the emulator.
#pragma once

#include <cstdint>

namespace mneme::cuda {

struct LaunchGrid {
  int64_t x = 1, y = 1, z = 1;
};

}  // namespace mneme::cuda
