// One tile of 16 outputs of packed_matmul.h for a few rows of activations, for the SIMD target of
// the including file. MNEME_TILE_NAMESPACE names the copy; with MNEME_TILE_VNNI defined the byte dot
// products are AVX-512 VNNI's, for which the includer has pushed the attributes. Deliberately
// without a guard: packed_matmul.cc includes it twice for the targets that have both.
namespace MNEME_TILE_NAMESPACE {

using DF = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<DF>;
using DU = hn::RebindToUnsigned<DF>;
using VF = hn::Vec<DF>;
using VI = hn::Vec<DI>;
using VU = hn::Vec<DU>;  // four codes of each output
constexpr int64_t kLanes = HWY_LANES(float);
// Vectors that hold the 16 outputs of a tile.
constexpr int64_t kParts = kTileOutputs / kLanes;
constexpr int64_t kLineBytes = 64;
constexpr int64_t kPartBytes = kLineBytes / kParts;

// Four consecutive bytes of a plane in every lane.
HWY_INLINE VI broadcast4(const int8_t* HWY_RESTRICT plane) {
  int32_t four;
  memcpy(&four, plane, sizeof four);
  return hn::Set(DI(), four);
}

#if !defined(MNEME_TILE_VNNI) && \
    (HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4)
// The sums over the four bytes of each lane of weight (0 to 127: more would saturate) times x.
HWY_INLINE VI sum4(VU weight, VI x) {
#if HWY_TARGET == HWY_AVX3
  const __m512i pairs = _mm512_maddubs_epi16(weight.raw, x.raw);
  return VI{_mm512_madd_epi16(pairs, _mm512_set1_epi16(1))};
#elif HWY_TARGET == HWY_AVX2
  const __m256i pairs = _mm256_maddubs_epi16(weight.raw, x.raw);
  return VI{_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))};
#else
  const __m128i pairs = _mm_maddubs_epi16(weight.raw, x.raw);
  return VI{_mm_madd_epi16(pairs, _mm_set1_epi16(1))};
#endif
}
#endif

// acc + the sum over the four bytes of each lane of weight (kBits each) times x (signed), exactly.
template <int kBits>
HWY_INLINE VI dot4(VI acc, VU weight, VI x) {
#if defined(MNEME_TILE_VNNI)
  return VI{_mm512_dpbusd_epi32(acc.raw, weight.raw, x.raw)};
#elif HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4
  if constexpr (kBits < 8) return hn::Add(acc, sum4(weight, x));
  const VU half = hn::And(hn::ShiftRight<1>(weight), hn::Set(DU(), 0x7f7f7f7f));
  const VU rest = hn::And(weight, hn::Set(DU(), 0x01010101));
  return hn::Add(acc, hn::Add(hn::ShiftLeft<1>(sum4(half, x)), sum4(rest, x)));
#else
  const VU byte = hn::Set(DU(), 255);
  const auto product = [&](VU code, VI plane) {
    return hn::Mul(hn::BitCast(DI(), code), hn::ShiftRight<24>(plane));
  };
  acc = hn::Add(acc, product(hn::And(weight, byte), hn::ShiftLeft<24>(x)));
  acc = hn::Add(acc, product(hn::And(hn::ShiftRight<8>(weight), byte), hn::ShiftLeft<16>(x)));
  acc = hn::Add(acc, product(hn::And(hn::ShiftRight<16>(weight), byte), hn::ShiftLeft<8>(x)));
  return hn::Add(acc, product(hn::ShiftRight<24>(weight), x));
#endif
}

HWY_INLINE VU load_line(const uint8_t* HWY_RESTRICT bytes) {
#if HWY_TARGET == HWY_SCALAR
  uint32_t four;
  memcpy(&four, bytes, sizeof four);
  return hn::Set(DU(), four);
#else
  return hn::LoadU(DU(), reinterpret_cast<const uint32_t*>(bytes));
#endif
}

// Bits of a byte moved to bit 4 and those above, the others cleared.
template <int kFrom, int kMask>
HWY_INLINE VU upper_bits(VU words) {
  const auto mask = hn::Set(DU(), uint32_t{0x01010101} * kMask);
  if constexpr (kFrom <= 4) {
    return hn::And(hn::ShiftLeft<4 - kFrom>(words), mask);
  } else {
    return hn::And(hn::ShiftRight<kFrom - 4>(words), mask);
  }
}

// The codes of inputs 4t..4t+3 of a block, t = 2j and 2j + 1.
template <int kBits, int64_t j>
HWY_INLINE void load_codes(const uint8_t* HWY_RESTRICT block, VU& first, VU& second) {
  if constexpr (kBits == 8) {
    first = load_line(block + 2 * j * kLineBytes);
    second = load_line(block + (2 * j + 1) * kLineBytes);
  } else {
    const VU line = load_line(block + j * kLineBytes);
    const VU low = hn::Set(DU(), 0x0f0f0f0f);
    first = hn::And(line, low);
    second = hn::And(hn::ShiftRight<4>(line), low);
    if constexpr (kBits == 5) {
      const VU fifth = load_line(block + 4 * kLineBytes);
      first = hn::Or(first, upper_bits<2 * j, 0x10>(fifth));
      second = hn::Or(second, upper_bits<2 * j + 1, 0x10>(fifth));
    } else if constexpr (kBits == 6) {
      const VU pairs = load_line(block + (4 + j / 2) * kLineBytes);
      first = hn::Or(first, upper_bits<j % 2 * 4, 0x30>(pairs));
      second = hn::Or(second, upper_bits<j % 2 * 4 + 2, 0x30>(pairs));
    }
  }
}

HWY_INLINE VF load_f16(const uint8_t* HWY_RESTRICT bytes) {
  const hn::Rebind<hwy::float16_t, DF> d16;
  return hn::PromoteTo(DF(), hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(bytes)));
}

template <typename T>
HWY_INLINE VF load_small(const uint8_t* HWY_RESTRICT bytes) {
  const auto small = hn::LoadU(hn::Rebind<T, DF>(), reinterpret_cast<const T*>(bytes));
  return hn::ConvertTo(DF(), hn::PromoteTo(DI(), small));
}

// Scales of a block for the outputs of one vector; of both halves where they differ.
template <PackedLayout::Head kHead>
struct Scales {
  static constexpr bool kHalves = kHead == PackedLayout::Head::kHalfSubScales;
  static constexpr bool kMinimum =
      kHead == PackedLayout::Head::kScaleMinimum || kHead == PackedLayout::Head::kSubScaleMinimum;
  VF scale[kHalves ? 2 : 1];
  VF minimum;

  HWY_INLINE Scales(const uint8_t* HWY_RESTRICT head, const uint8_t* HWY_RESTRICT unit,
                    int64_t part) {
    constexpr int64_t kF16 = 2 * kLanes;
    if constexpr (kHead == PackedLayout::Head::kScale) {
      scale[0] = load_f16(head + part * kF16);
    } else if constexpr (kHead == PackedLayout::Head::kScaleMinimum) {
      scale[0] = load_f16(head + part * kF16);
      minimum = load_f16(head + 2 * kTileOutputs + part * kF16);
    } else if constexpr (kHead == PackedLayout::Head::kSubScaleMinimum) {
      const VF d = load_f16(unit + part * kF16);
      const VF dmin = load_f16(unit + 2 * kTileOutputs + part * kF16);
      scale[0] = hn::Mul(d, load_small<uint8_t>(head + part * kLanes));
      minimum = hn::Neg(hn::Mul(dmin, load_small<uint8_t>(head + kTileOutputs + part * kLanes)));
    } else {
      const VF d = load_f16(unit + part * kF16);
      scale[0] = hn::Mul(d, load_small<int8_t>(head + part * kLanes));
      scale[1] = hn::Mul(d, load_small<int8_t>(head + kTileOutputs + part * kLanes));
    }
  }
};

// What a tile reads of `kRows` rows of activations.
struct TileRows {
  const int8_t* high;  // of the first row; rows are row_bytes apart, low lies `in` behind high
  int64_t row_bytes, in;
  const float* scales;  // rows `blocks` apart
  const float* totals;  // likewise
  const int32_t* sums;  // rows 2 * blocks apart
  int64_t blocks;
};

// y [kRows, 16] of a tile's outputs, rows y_stride apart.
template <int kBits, PackedLayout::Head kHead, int kCentreShift, int64_t kRows>
HWY_INLINE void tile(const uint8_t* HWY_RESTRICT packed, const TileRows& x, float* HWY_RESTRICT y,
                     int64_t y_stride) {
  using S = Scales<kHead>;
  constexpr int64_t kCodeBytes = PackedLayout::code_bytes_of(kBits);
  constexpr int64_t kHeadBytes = PackedLayout::head_bytes_of(kHead);
  constexpr int64_t kUnitBytes = PackedLayout::unit_bytes_of(kHead);
  constexpr int64_t kGroup = PackedLayout::group_of(kHead);
  constexpr int64_t kHalves = S::kHalves ? 2 : 1;
  for (int64_t part = 0; part < kParts; ++part) {
    VF total[kRows];
    HWY_UNROLL(8)
    for (int64_t m = 0; m < kRows; ++m) total[m] = hn::Zero(DF());
    const uint8_t* HWY_RESTRICT unit = packed;
    const uint8_t* HWY_RESTRICT codes = packed;
    for (int64_t b = 0; b < x.blocks; ++b, codes += kCodeBytes) {
      if (b % kGroup == 0) {
        unit = codes;
        codes += kUnitBytes + kGroup * kHeadBytes;
      }
      const S scales(unit + kUnitBytes + b % kGroup * kHeadBytes, unit, part);
      VI upper[kRows], lower[kRows];
      const auto clear = [&](int64_t half) __attribute__((always_inline)) {
        HWY_UNROLL(8)
        for (int64_t m = 0; m < kRows; ++m) {
          upper[m] = hn::Zero(DI());
          if constexpr (kCentreShift == 0) {
            lower[m] = hn::Zero(DI());
          } else {
            const int32_t* HWY_RESTRICT sums = x.sums + (m * x.blocks + b) * 2;
            const int32_t sum = kHalves == 2 ? sums[half] : sums[0] + sums[1];
            lower[m] = hn::Set(DI(), -(sum << kCentreShift));
          }
        }
      };
      const auto multiply = [&](auto j) __attribute__((always_inline)) {
        VU first, second;
        load_codes<kBits, decltype(j)::value>(codes + part * kPartBytes, first, second);
        HWY_UNROLL(8)
        for (int64_t m = 0; m < kRows; ++m) {
          const int8_t* HWY_RESTRICT high =
              x.high + m * x.row_bytes + b * kPackedBlock + 8 * decltype(j)::value;
          const int8_t* HWY_RESTRICT low = high + x.in;
          upper[m] = dot4<kBits>(upper[m], first, broadcast4(high));
          lower[m] = dot4<kBits>(lower[m], first, broadcast4(low));
          upper[m] = dot4<kBits>(upper[m], second, broadcast4(high + 4));
          lower[m] = dot4<kBits>(lower[m], second, broadcast4(low + 4));
        }
      };
      const auto scale = [&](int64_t half) __attribute__((always_inline)) {
        HWY_UNROLL(8)
        for (int64_t m = 0; m < kRows; ++m) {
          const VI sum = hn::Add(hn::ShiftLeft<kPlaneShift>(upper[m]), lower[m]);
          const VF x_scale = hn::Set(DF(), x.scales[m * x.blocks + b]);
          total[m] =
              hn::MulAdd(hn::Mul(scales.scale[half], x_scale), hn::ConvertTo(DF(), sum), total[m]);
        }
      };
      clear(0);
      multiply(std::integral_constant<int64_t, 0>());
      multiply(std::integral_constant<int64_t, 1>());
      if constexpr (kHalves == 2) {
        scale(0);
        clear(1);
      }
      multiply(std::integral_constant<int64_t, 2>());
      multiply(std::integral_constant<int64_t, 3>());
      scale(kHalves - 1);
      if constexpr (S::kMinimum) {
        HWY_UNROLL(8)
        for (int64_t m = 0; m < kRows; ++m) {
          const VF sum = hn::Set(DF(), x.totals[m * x.blocks + b]);
          total[m] = hn::MulAdd(scales.minimum, sum, total[m]);
        }
      }
    }
    HWY_UNROLL(8)
    for (int64_t m = 0; m < kRows; ++m) {
      hn::StoreU(total[m], DF(), y + m * y_stride + part * kLanes);
    }
  }
}

// Registers hold three vectors a row beside the codes.
constexpr int64_t kMostRows = kLanes >= 16 ? 8 : 3;

// y [rows, outputs] of the part's tiles, rows y_stride apart; the weight's outputs end the last tile.
template <int kBits, PackedLayout::Head kHead, int kCentreShift>
void tiles(const PackedWeight& weight, const ProductPart& part, const ActivationPlanes& x,
           float* HWY_RESTRICT y, int64_t y_stride) {
  const auto run = [&](int64_t row, auto count) {
    constexpr int64_t kRows = decltype(count)::value;
    const TileRows rows = {x.high(row),   2 * x.in(),  x.in(),    x.scales(row),
                           x.totals(row), x.sums(row), x.blocks()};
    for (int64_t index = part.first_tile; index < part.last_tile; ++index) {
      const int64_t output = index * kTileOutputs;
      const int64_t outputs = HWY_MIN(kTileOutputs, weight.out() - output);
      float* HWY_RESTRICT to = y + row * y_stride + output;
      if (outputs == kTileOutputs) {
        tile<kBits, kHead, kCentreShift, kRows>(weight.tile(index), rows, to, y_stride);
        continue;
      }
      alignas(64) float all[kRows * kTileOutputs];
      tile<kBits, kHead, kCentreShift, kRows>(weight.tile(index), rows, all, kTileOutputs);
      for (int64_t m = 0; m < kRows; ++m) {
        memcpy(to + m * y_stride, all + m * kTileOutputs,
               static_cast<size_t>(outputs) * sizeof(float));
      }
    }
  };
  int64_t row = part.first_row;
  for (; row + kMostRows <= part.last_row; row += kMostRows)
    run(row, std::integral_constant<int64_t, kMostRows>());
  if constexpr (kMostRows > 4) {
    if (row + 4 <= part.last_row) {
      run(row, std::integral_constant<int64_t, 4>());
      row += 4;
    }
  }
  if (row + 2 <= part.last_row) {
    run(row, std::integral_constant<int64_t, 2>());
    row += 2;
  }
  if (row < part.last_row) run(row, std::integral_constant<int64_t, 1>());
}

void MultiplyTiles(const PackedWeight& weight, const ProductPart& part, const ActivationPlanes& x,
                   float* y, int64_t y_stride) {
  using Head = PackedLayout::Head;
  const auto call = [&]<int kBits, Head kHead, int kCentreShift>() {
    tiles<kBits, kHead, kCentreShift>(weight, part, x, y, y_stride);
  };
  switch (weight.dtype()) {
    case DType::kQ4_0:
      return call.template operator()<4, Head::kScale, 3>();
    case DType::kQ5_0:
      return call.template operator()<5, Head::kScale, 4>();
    case DType::kQ8_0:
      return call.template operator()<8, Head::kScale, 7>();
    case DType::kQ4_1:
      return call.template operator()<4, Head::kScaleMinimum, 0>();
    case DType::kQ5_1:
      return call.template operator()<5, Head::kScaleMinimum, 0>();
    case DType::kQ4_K:
      return call.template operator()<4, Head::kSubScaleMinimum, 0>();
    case DType::kQ5_K:
      return call.template operator()<5, Head::kSubScaleMinimum, 0>();
    default:
      return call.template operator()<6, Head::kHalfSubScales, 5>();
  }
}

}  // namespace MNEME_TILE_NAMESPACE
