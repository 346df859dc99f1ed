#include "mneme/kernels/int8_product.h"

#include <algorithm>
#include <cstring>

#include "mneme/kernels/int8_product_vnni.h"
#include "mneme/kernels/simd_targets.h"
#include "mneme/kernels/vnni.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/int8_product.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/int8_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

// Rows of a tile: as many as leave registers for the weights.
constexpr int64_t kProductRows = kManyRegisters ? 5 : kLanes >= 8 ? 4 : kLanes >= 4 ? 2 : 1;
constexpr int64_t kFloatRows = kManyRegisters ? 10 : kLanes >= 8 ? 6 : kLanes >= 4 ? 3 : 1;
constexpr int64_t kFloatPanels = kManyRegisters ? 2 : 1;
// A single row needs several panels for enough independent sums.
constexpr int64_t kRowPanels = kLanes >= 8 ? 4 : kLanes >= 4 ? 2 : 1;

// Calls tile(std::integral_constant<kRows>, m) for rows kMost at a time, then for what is left.
template <int64_t kMost, typename Tile>
HWY_INLINE void over_rows(int64_t rows, int64_t m, const Tile& tile) {
  for (; m + kMost <= rows; m += kMost) tile(std::integral_constant<int64_t, kMost>(), m);
  if constexpr (kMost > 1) over_rows<kMost - 1>(rows, m, tile);
}

// The same for panels: kMost, then half as many; none reaches into the next block.
template <int64_t kMost, typename Tile>
HWY_INLINE void within_block(int64_t end, int64_t p, const Tile& tile) {
  for (; p + kMost <= end; p += kMost) tile(std::integral_constant<int64_t, kMost>(), p);
  if constexpr (kMost > 1) within_block<kMost / 2>(end, p, tile);
}
template <int64_t kMost, typename Tile>
HWY_INLINE void over_panels(int64_t first, int64_t last, const Tile& tile) {
  for (int64_t p = first, end = 0; p < last; p = end) {
    end = HWY_MIN(last, (p / PackedInt8::kBlock + 1) * PackedInt8::kBlock);
    within_block<kMost>(end, p, tile);
  }
}

void Product(const uint8_t* biased, int64_t rows, int64_t a_stride, const PackedInt8& w,
             int64_t first, int64_t last, int32_t* c, int64_t c_stride) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  if (use_vnni()) return int8_product_vnni(biased, rows, a_stride, w, first, last, c, c_stride);
#endif
  const auto run = [&](auto panels, int64_t p, auto tile_rows, int64_t m) HWY_ATTR {
    product_tile<tile_rows(), panels()>(biased + m * a_stride, a_stride, w.panel(p),
                                        w.group_stride(p), w.groups(),
                                        c + m * c_stride + (p - first) * kPanel, c_stride);
  };
  if (rows == 1) {
    return over_panels<kRowPanels>(first, last, [&](auto panels, int64_t p) HWY_ATTR {
      run(panels, p, std::integral_constant<int64_t, 1>(), 0);
    });
  }
  over_panels<kManyRegisters ? 4 : 1>(first, last, [&](auto panels, int64_t p) HWY_ATTR {
    over_rows<kProductRows>(
        rows, 0, [&](auto tile_rows, int64_t m) HWY_ATTR { run(panels, p, tile_rows, m); });
  });
}

void FloatProduct(const float* x, int64_t rows, int64_t x_stride, const float* columns,
                  int64_t count, int64_t width, float* y, int64_t y_stride) {
  over_panels<kFloatPanels>(0, width / kPanel, [&](auto panels, int64_t p) HWY_ATTR {
    over_rows<kFloatRows>(rows, 0, [&](auto tile_rows, int64_t m) HWY_ATTR {
      float_tile<tile_rows(), panels()>(x + m * x_stride, x_stride, columns + p * kPanel, count,
                                        width, y + m * y_stride + p * kPanel, y_stride);
    });
  });
}

// The codes of input j of the group at `from`, a panel wide, as floats.
template <int kInput>
HWY_INLINE void expand_input(const int8_t* HWY_RESTRICT from, float* HWY_RESTRICT to) {
  HWY_UNROLL(16)
  for (int64_t v = 0; v < kParts; ++v) {
    const VI codes = load_codes(from + v * kLanes * kGroup);
    hn::StoreU(hn::ConvertTo(DF(), hn::ShiftRight<24>(hn::ShiftLeft<24 - 8 * kInput>(codes))), DF(),
               to + v * kLanes);
  }
}

void ExpandPanels(const PackedInt8& w, int64_t first, int64_t last, const int32_t* chosen,
                  int64_t columns, float* to) {
  const int64_t width = (last - first) * kPanel;
  for (int64_t i = 0; i < columns; ++i) {
    const int64_t k = chosen[i];
    for (int64_t p = first; p < last; ++p) {
      const int8_t* from = w.panel(p) + k / kGroup * w.group_stride(p);
      float* out = to + i * width + (p - first) * kPanel;
      switch (k % kGroup) {
        case 0:
          expand_input<0>(from, out);
          break;
        case 1:
          expand_input<1>(from, out);
          break;
        case 2:
          expand_input<2>(from, out);
          break;
        default:
          expand_input<3>(from, out);
      }
    }
  }
}

// y [n] from n elements of the parts, each array whole.
template <typename V, typename D>
HWY_INLINE void epilogue(D d, const int32_t* c, const float* f, float row_scale,
                         const Int8Epilogue& parts, int64_t i, float* y) {
  const hn::RebindToSigned<D> di;
  auto value = hn::Zero(d);
  if (c != nullptr) {
    const auto scale = hn::Mul(hn::Set(d, row_scale), hn::LoadU(d, parts.scales + i));
    value = hn::Mul(hn::ConvertTo(d, hn::LoadU(di, c + i)), scale);
  }
  if (f != nullptr && parts.float_scales != nullptr) {
    value = hn::MulAdd(hn::LoadU(d, f + i), hn::LoadU(d, parts.float_scales + i), value);
  } else if (f != nullptr) {
    value = hn::Add(value, hn::LoadU(d, f + i));
  }
  if (parts.bias != nullptr) value = hn::Add(value, hn::LoadU(d, parts.bias + i));
  hn::StoreU(value, d, y + i);
}

void Epilogue(const int32_t* c, const float* f, float row_scale, const Int8Epilogue& parts,
              int64_t count, float* y) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) epilogue<VF>(DF(), c, f, row_scale, parts, i, y);
  using D1 = hn::CappedTag<float, 1>;
  for (; i < count; ++i) epilogue<hn::Vec<D1>>(D1(), c, f, row_scale, parts, i, y);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(Product);
HWY_EXPORT(FloatProduct);
HWY_EXPORT(ExpandPanels);
HWY_EXPORT(Epilogue);

void int8_product(const uint8_t* biased, int64_t rows, int64_t a_stride, const PackedInt8& w,
                  int64_t first, int64_t last, int32_t* c, int64_t c_stride) {
  HWY_DYNAMIC_DISPATCH(Product)(biased, rows, a_stride, w, first, last, c, c_stride);
}

void float_product(const float* x, int64_t rows, int64_t x_stride, const float* columns,
                   int64_t count, int64_t width, float* y, int64_t y_stride) {
  HWY_DYNAMIC_DISPATCH(FloatProduct)(x, rows, x_stride, columns, count, width, y, y_stride);
}

void expand_panels(const PackedInt8& w, int64_t first, int64_t last, const int32_t* chosen,
                   int64_t columns, float* to) {
  HWY_DYNAMIC_DISPATCH(ExpandPanels)(w, first, last, chosen, columns, to);
}

void int8_epilogue(const int32_t* c, const float* f, float row_scale, const Int8Epilogue& parts,
                   int64_t count, float* y) {
  HWY_DYNAMIC_DISPATCH(Epilogue)(c, f, row_scale, parts, count, y);
}

}  // namespace mneme
#endif
