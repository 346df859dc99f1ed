#include "mneme/kernels/affine_quant.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/affine_quant.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = HWY_CAPPED(float, 16);

// The smallest and largest of x [n]; false when a value is not finite.
bool Range(const float* HWY_RESTRICT x, int64_t n, float* low, float* high) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  float lo = x[0], hi = x[0];
  bool finite = true;
  int64_t i = 0;
  if (n >= lanes) {
    auto lows = hn::LoadU(d, x), highs = lows;
    auto magnitude = hn::Zero(di);  // bits without the sign: infinity and NaN are the largest
    for (; i + lanes <= n; i += lanes) {
      const auto v = hn::LoadU(d, x + i);
      lows = hn::Min(lows, v);
      highs = hn::Max(highs, v);
      magnitude = hn::Max(magnitude, hn::BitCast(di, hn::Abs(v)));
    }
    lo = hn::GetLane(hn::MinOfLanes(d, lows));
    hi = hn::GetLane(hn::MaxOfLanes(d, highs));
    finite = hn::AllTrue(di, hn::Lt(magnitude, hn::Set(di, 0x7f800000)));
  }
  for (; i < n; ++i) {
    finite = finite && std::isfinite(x[i]);
    lo = std::min(lo, x[i]);
    hi = std::max(hi, x[i]);
  }
  *low = lo;
  *high = hi;
  return finite;
}

// codes [n] = clamp(rint((x - bias) / scale), 0, top)
void Encode(const float* HWY_RESTRICT x, int64_t n, float scale, float bias, float top,
            uint8_t* HWY_RESTRICT codes) {
  const Floats d;
  const hn::Rebind<uint8_t, Floats> db;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto step = hn::Div(hn::Sub(hn::LoadU(d, x + i), hn::Set(d, bias)), hn::Set(d, scale));
    const auto code = hn::NearestInt(hn::Min(hn::Max(step, hn::Zero(d)), hn::Set(d, top)));
    hn::StoreU(hn::DemoteTo(db, code), db, codes + i);
  }
  for (; i < n; ++i) {
    const float code = std::nearbyint((x[i] - bias) / scale);
    codes[i] = static_cast<uint8_t>(std::min(std::max(code, 0.0f), top));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(Range);
HWY_EXPORT(Encode);

namespace {

void check_bits(int bits) {
  MNEME_CHECK(bits == 2 || bits == 4 || bits == 8,
              "affine quantisation: expected 2, 4 or 8 bits, got ", bits);
}

void check_row(int64_t dim, int bits, int64_t group) {
  check_bits(bits);
  MNEME_CHECK(group > 0 && group % (32 / bits) == 0,
              "affine quantisation: expected a group that is a multiple of ", 32 / bits,
              " (whole words of ", bits, "-bit codes), got ", group);
  MNEME_CHECK(dim > 0 && dim % group == 0,
              "affine quantisation: expected a dimension that is a multiple of the group ", group,
              ", got ", dim);
}

}  // namespace

AffineParams affine_quantize_group(const float* x, int64_t n, int bits, uint8_t* codes) {
  check_bits(bits);
  MNEME_CHECK(n > 0, "affine quantisation: expected a group of at least one element, got ", n);
  float lo = 0, hi = 0;
  const bool finite = HWY_DYNAMIC_DISPATCH(Range)(x, n, &lo, &hi);
  MNEME_CHECK(finite && std::isfinite(hi - lo),
              "affine quantisation: expected finite values, got a group from ", lo, " to ", hi,
              finite ? "" : " with NaN or infinity in it");
  const float top = static_cast<float>((1 << bits) - 1);
  const bool low_edge = std::abs(lo) > std::abs(hi);
  float scale = std::max((hi - lo) / top, 1e-7f);
  if (!low_edge) scale = -scale;
  const float edge = low_edge ? lo : hi;
  const float steps = std::nearbyint(edge / scale);
  float bias = 0;
  if (steps != 0) {
    scale = edge / steps;
    bias = edge;
  }
  HWY_DYNAMIC_DISPATCH(Encode)(x, n, scale, bias, top, codes);
  return {scale, bias};
}

void affine_pack(const uint8_t* codes, int64_t n, int bits, uint32_t* words) {
  check_bits(bits);
  const int64_t per_word = 32 / bits;
  for (int64_t w = 0; w < n / per_word; ++w) {
    uint32_t word = 0;
    for (int64_t i = 0; i < per_word; ++i) word |= uint32_t{codes[w * per_word + i]} << (i * bits);
    words[w] = word;
  }
}

void affine_unpack(const uint32_t* words, int64_t n, int bits, uint8_t* codes) {
  check_bits(bits);
  const int64_t per_word = 32 / bits;
  const uint32_t mask = (1u << bits) - 1;
  for (int64_t i = 0; i < n; ++i) {
    codes[i] = static_cast<uint8_t>((words[i / per_word] >> (i % per_word * bits)) & mask);
  }
}

void affine_quantize_row(const float* x, int64_t dim, int bits, int64_t group, uint32_t* words,
                         float* scales, float* biases) {
  check_row(dim, bits, group);
  std::vector<uint8_t> codes(static_cast<size_t>(group));
  for (int64_t g = 0; g < dim / group; ++g) {
    const AffineParams params = affine_quantize_group(x + g * group, group, bits, codes.data());
    affine_pack(codes.data(), group, bits, words + g * group * bits / 32);
    scales[g] = params.scale;
    biases[g] = params.bias;
  }
}

int64_t affine_row_bytes(int64_t dim, int bits, int64_t group) {
  check_row(dim, bits, group);
  return dim * bits / 8 + dim / group * 4;
}

}  // namespace mneme
#endif
