#include "mneme/kernels/packed_matmul.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/simd_targets.h"
#include "mneme/kernels/vnni.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/packed_matmul.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef MNEME_KERNELS_PRODUCT_PART_
#define MNEME_KERNELS_PRODUCT_PART_
namespace mneme {
// The tiles and the rows of a product that one task makes.
struct ProductPart {
  int64_t first_tile, last_tile;
  int64_t first_row, last_row;
};
}  // namespace mneme
#endif

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#define MNEME_TILE_NAMESPACE base
#include "mneme/kernels/packed_tile-inl.h"
#undef MNEME_TILE_NAMESPACE

#if HWY_TARGET == HWY_AVX3
}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni")
namespace mneme {
namespace HWY_NAMESPACE {

#define MNEME_TILE_NAMESPACE vnni
#define MNEME_TILE_VNNI
#include "mneme/kernels/packed_tile-inl.h"
#undef MNEME_TILE_VNNI
#undef MNEME_TILE_NAMESPACE

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_POP_ATTRIBUTES
HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
#endif

void MultiplyTiles(const PackedWeight& weight, const ProductPart& part, const ActivationPlanes& x,
                   float* y, int64_t y_stride, [[maybe_unused]] bool vnni) {
#if HWY_TARGET == HWY_AVX3
  if (vnni) return vnni::MultiplyTiles(weight, part, x, y, y_stride);
#endif
  base::MultiplyTiles(weight, part, x, y, y_stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(MultiplyTiles);

namespace {

// Tiles a task takes: with few rows enough to be worth handing over, with many so few that a task's
// weights stay in the second-level cache while the rows pass by.
constexpr int64_t kFewRowsTaskBytes = 48 << 10;
constexpr int64_t kManyRowsTaskBytes = 160 << 10;
constexpr int64_t kFewRows = 4;
// Many rows are cut into parts, so many for each thread: a worker of the pool begins with the same
// part of every loop, and finds there what it wrote.
constexpr int64_t kThreadParts = 2;
constexpr int64_t kLeastPartRows = 32;

int64_t rows_of_part(int64_t rows, int threads) {
  if (threads == 1 || rows < kLeastPartRows * threads) return rows;
  return std::max(kLeastPartRows,
                  checked_round_up(ceil_div(rows, kThreadParts * threads), 8, "packed_matmul"));
}

// The same number of tasks for every thread where the rows are of one part.
int64_t task_tiles(const PackedWeight& weight, int64_t rows, int threads) {
  const int64_t bytes = rows <= kFewRows ? kFewRowsTaskBytes : kManyRowsTaskBytes;
  const int64_t most = std::max<int64_t>(1, bytes / weight.layout().tile_bytes());
  int64_t tasks = ceil_div(weight.tiles(), most);
  tasks = std::min(weight.tiles(), ceil_div(tasks, threads) * threads);
  return ceil_div(weight.tiles(), tasks);
}

}  // namespace

void packed_matmul(std::span<const PackedProduct> products, const ActivationPlanes& x,
                   ThreadPool& pool) {
  constexpr size_t kMostProducts = 8;
  MNEME_CHECK(products.size() <= kMostProducts, "packed_matmul: expected at most ", kMostProducts,
              " products at once, got ", products.size());
  const int64_t part_rows = rows_of_part(x.rows(), pool.size());
  const int threads = part_rows < x.rows() ? 1 : pool.size();
  int64_t per_task[kMostProducts], end[kMostProducts], part_tasks = 0;
  for (size_t i = 0; i < products.size(); ++i) {
    const PackedWeight& weight = *products[i].weight;
    MNEME_CHECK(weight.in() == x.in(), "packed_matmul: ", weight.name(), " has ", weight.in(),
                " inputs, the activations ", x.in());
    MNEME_CHECK(products[i].y_stride >= weight.out(), "packed_matmul: ", weight.name(),
                " needs a y_stride of at least ", weight.out(), ", got ", products[i].y_stride);
    if (weight.out() > 0) {
      per_task[i] = task_tiles(weight, x.rows(), threads);
      part_tasks += ceil_div(weight.tiles(), per_task[i]);
    }
    end[i] = part_tasks;
  }
  if (x.rows() == 0 || part_tasks == 0) return;
  const bool vnni = use_vnni();
  pool.run(ceil_div(x.rows(), part_rows) * part_tasks, [&](int64_t task, int) {
    const int64_t row = task / part_tasks * part_rows, in_part = task % part_tasks;
    size_t i = 0;
    while (in_part >= end[i]) ++i;
    const PackedWeight& weight = *products[i].weight;
    const int64_t tile = (in_part - (i == 0 ? 0 : end[i - 1])) * per_task[i];
    const ProductPart part{tile, std::min(weight.tiles(), tile + per_task[i]), row,
                           std::min(x.rows(), row + part_rows)};
    HWY_DYNAMIC_DISPATCH(MultiplyTiles)
    (weight, part, x, products[i].y, products[i].y_stride, vnni);
  });
}

}  // namespace mneme
#endif
