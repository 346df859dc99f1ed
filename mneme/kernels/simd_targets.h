// The instruction sets the kernels are built for; include before any header of Highway. Those
// without fixed vector sizes cannot hold arrays of vectors, and SSSE3 alone is found only on
// machines too old to run a model.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_RVV | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
