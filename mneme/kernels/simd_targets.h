// The instruction sets the kernels are built for; include before any header of Highway. Those
// without fixed vector sizes cannot hold arrays of vectors, and SSSE3 alone is found only on
// machines too old to run a model.
#pragma once

// Some files ask for AVX3_DL on top. Highway chooses a target by an inline function that knows the
// sets of the file it stands in; without optimisation there is one such function for all files, so
// all must then be built for the same sets (parts of a sanitized build are not optimised either).
#if defined(MNEME_SANITIZED) || !defined(__OPTIMIZE__)
#undef HWY_WANT_AVX3_DL
#endif

// Under sanitizers only the widest set and the fallback are built: they cover both shapes of every
// loop, and each set costs a minute of compiling there.
// -DMNEME_FEWER_TARGETS="(HWY_SSE4 | HWY_AVX2 | ...)" leaves sets out while a kernel is being written.
#if defined(MNEME_FEWER_TARGETS)
#elif defined(MNEME_SANITIZED)
#define MNEME_FEWER_TARGETS (HWY_SSE4 | HWY_AVX2)
#else
#define MNEME_FEWER_TARGETS 0
#endif
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_RVV | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | MNEME_FEWER_TARGETS)
