// Vector 2^x and tanh(x), per SIMD target. Tests: attention_tile_test.cc (error against double on
// every target).
#if defined(MNEME_KERNELS_EXP2_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_EXP2_INL_H_
#undef MNEME_KERNELS_EXP2_INL_H_
#else
#define MNEME_KERNELS_EXP2_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// (2^f - 1) / f on [-1/2, 1/2]: weighted minimax of degree 5, so that 2^f errs by at most 1.6e-8
// before rounding.
template <class V>
HWY_INLINE V exp2m1_over(V f) {
  const hn::DFromV<V> d;
  V y = hn::Set(d, 0x1.41fba0p-13f);
  y = hn::MulAdd(y, f, hn::Set(d, 0x1.5f3e50p-10f));
  y = hn::MulAdd(y, f, hn::Set(d, 0x1.3b2d4ep-7f));
  y = hn::MulAdd(y, f, hn::Set(d, 0x1.c6aee8p-5f));
  y = hn::MulAdd(y, f, hn::Set(d, 0x1.ebfbdcp-3f));
  return hn::MulAdd(y, f, hn::Set(d, 0x1.62e430p-1f));
}

// Splits x (|x| < 2^21) into an integer and f in [-1/2, 1/2]. The integer sits in the low bits of
// the result, whose shift by 23 is the exponent to add: adding 1.5 * 2^23 rounds to nearest even.
template <class V>
HWY_INLINE V split_exponent(V x, V& f) {
  const hn::DFromV<V> d;
  const V magic = hn::Set(d, 12582912.0f);
  const V shifted = hn::Add(x, magic);
  f = hn::Sub(x, hn::Sub(shifted, magic));
  return shifted;
}

// 2^x for x <= 127, within 2.4e-7 of it relatively; exactly 1 at 0, exactly 0 below
// -100 and at -infinity, NaN at NaN. Weights that small cannot change a float32 sum that holds a
// weight of 1, and the cut keeps subnormals out of the products that follow.
template <class V>
HWY_INLINE V exp2_of(V x) {
  const hn::DFromV<V> d;
  const hn::RebindToSigned<decltype(d)> di;
  const V cut = hn::Set(d, -100.0f);
  V f;
  const V shifted = split_exponent(hn::Max(cut, x), f);  // the second of both where one is NaN
  const V y = hn::MulAdd(exp2m1_over(f), f, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::IfThenZeroElse(hn::Lt(x, cut), hn::BitCast(d, hn::Add(hn::BitCast(di, y), exponent)));
}

// tanh(x) with a relative error of at most 4e-7, small x included: through e^(-2|x|) - 1, whose
// polynomial has no constant to cancel.
template <class V>
HWY_INLINE V tanh_of(V x) {
  const hn::DFromV<V> d;
  const hn::RebindToSigned<decltype(d)> di;
  const V one = hn::Set(d, 1.0f);
  // Above 10 the result is 1 to the last bit.
  const V z = hn::Mul(hn::Min(hn::Abs(x), hn::Set(d, 10.0f)), hn::Set(d, -2.8853900817779268f));
  V f;
  const V shifted = split_exponent(z, f);
  const V power =
      hn::BitCast(d, hn::Add(hn::BitCast(di, one), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
  const V minus = hn::MulAdd(power, hn::Mul(exp2m1_over(f), f), hn::Sub(power, one));
  return hn::CopySign(hn::Div(minus, hn::Add(minus, hn::Set(d, 2.0f))), x);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#endif
