#include "mneme/cache/policy/flux_router.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <map>
#include <mutex>
#include <tuple>

#include "mneme/core/error.h"
#include "mneme/io/safetensors.h"
#include "mneme/kernels/matmul.h"

namespace mneme {
namespace {

constexpr int64_t kFeatureLinears = 2;  // of cls_feat_extractor; the others are the head's

float silu(float x) { return x / (1 + std::exp(-x)); }

// [D, 8D, 2D] and [2D, 4D, D, n]: inputs of linear `index`.
int64_t inputs_of(int64_t index, int64_t dim) {
  return std::array<int64_t, kFluxLinears>{1, 8, 2, 4, 1}[static_cast<size_t>(index)] * dim;
}

const TensorView& parameter(const TensorSource& source, const std::string& name) {
  const TensorView* tensor = source.find(name);
  MNEME_CHECK(tensor != nullptr, source.origin(), ": the router's ", name, " is missing");
  MNEME_CHECK(
      tensor->dtype == DType::kF32 || tensor->dtype == DType::kBF16 || tensor->dtype == DType::kF16,
      source.origin(), ": ", name, " is ", dtype_name(tensor->dtype),
      ", expected F32, BF16 or F16");
  return *tensor;
}

std::vector<float> values_of(const TensorSource& source, const std::string& name,
                             const std::vector<int64_t>& shape) {
  const TensorView& tensor = parameter(source, name);
  MNEME_CHECK(tensor.shape == shape, source.origin(), ": ", name, " is ", shape_text(tensor.shape),
              ", expected ", shape_text(shape));
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  TensorView row = tensor;
  row.shape = {1, tensor.elements()};
  dequantize_row(row, 0, values.data());
  for (const float value : values)
    MNEME_CHECK(std::isfinite(value), source.origin(), ": ", name, " holds ", value);
  return values;
}

}  // namespace

const std::string& flux_linear_name(int64_t index) {
  static const std::array<std::string, kFluxLinears> names = {
      "cls_feat_extractor.0", "cls_feat_extractor.2", "cls_router_head_agnostic.0",
      "cls_router_head_agnostic.2", "cls_router_head_agnostic.4"};
  return names.at(static_cast<size_t>(index));
}

std::string flux_router_prefix(int64_t layer) {
  return concat("model.layers.", layer, ".self_attn.mask_allocator.");
}

std::vector<float> flux_pool(const float* q, std::span<const RowSpan> spans, int64_t heads,
                             int64_t dim) {
  std::vector<double> sum(static_cast<size_t>(dim));
  int64_t rows = 0;
  for (const RowSpan& span : spans) {
    for (int64_t row = span.begin * heads; row < span.end * heads; ++row) {
      for (int64_t i = 0; i < dim; ++i) sum[static_cast<size_t>(i)] += q[row * dim + i];
    }
    rows += std::max<int64_t>(0, span.end - span.begin) * heads;
  }
  std::vector<float> mean(sum.size());
  for (size_t i = 0; i < mean.size() && rows > 0; ++i)
    mean[i] = static_cast<float>(sum[i] / static_cast<double>(rows));
  return mean;
}

std::vector<RowSpan> flux_prompt_ends(int64_t rows, int64_t pool) {
  const int64_t end = std::min(rows, pool);
  return {{0, end}, {rows - end, rows}};
}

FluxRouter FluxRouter::load(const TensorSource& source, const std::string& prefix,
                            int64_t head_dim) {
  MNEME_CHECK(head_dim > 0, "flux router: head_dim must be positive, got ", head_dim);
  FluxRouter router;
  for (int64_t i = 0; i < kFluxLinears; ++i) {
    const std::string name = prefix + flux_linear_name(i);
    Linear linear{.in = inputs_of(i, head_dim)};
    if (i + 1 < kFluxLinears) {
      // The features' last layer has the head's input size.
      linear.out = inputs_of(i + 1, head_dim);
    } else {
      const TensorView& bias = parameter(source, name + ".bias");
      linear.out = bias.elements();
      MNEME_CHECK(linear.out == 1 || linear.out == 2, source.origin(), ": ", bias.name, " is ",
                  shape_text(bias.shape), ", expected [1] (sigmoid) or [2] (softmax)");
    }
    linear.weight = values_of(source, name + ".weight", {linear.out, linear.in});
    linear.bias = values_of(source, name + ".bias", {linear.out});
    router.linears_.push_back(std::move(linear));
  }
  return router;
}

std::vector<float> FluxRouter::apply(int64_t first, int64_t end, std::span<const float> x) const {
  std::vector<float> in(x.begin(), x.end()), out;
  for (int64_t i = first; i < end; ++i) {
    const Linear& linear = linears_[static_cast<size_t>(i)];
    MNEME_ASSERT(std::ssize(in) == linear.in);
    out.resize(static_cast<size_t>(linear.out));
    for (int64_t row = 0; row < linear.out; ++row) {
      double sum = linear.bias[static_cast<size_t>(row)];
      for (int64_t j = 0; j < linear.in; ++j)
        sum += double{linear.weight[static_cast<size_t>(row * linear.in + j)]} *
               in[static_cast<size_t>(j)];
      const auto value = static_cast<float>(sum);
      out[static_cast<size_t>(row)] = i + 1 < end ? silu(value) : value;
    }
    in = out;
  }
  return in;
}

std::vector<float> FluxRouter::features(std::span<const float> pooled) const {
  return apply(0, kFeatureLinears, pooled);
}

std::vector<float> FluxRouter::logits(std::span<const float> features) const {
  return apply(kFeatureLinears, kFluxLinears, features);
}

bool FluxRouter::full(std::span<const float> logits) {
  return logits.size() == 2 ? logits[1] > logits[0] : logits[0] > 0;
}

int64_t FluxRouter::bytes() const {
  int64_t floats = 0;
  for (const Linear& linear : linears_) floats += std::ssize(linear.weight) + linear.out;
  return floats * static_cast<int64_t>(sizeof(float));
}

FluxRouters::FluxRouters(const TensorSource& source, const std::vector<bool>& needed,
                         int64_t head_dim) {
  for (int64_t layer = 0; layer < std::ssize(needed); ++layer) {
    auto& router = routers_.emplace_back();
    if (!needed[static_cast<size_t>(layer)]) continue;
    router =
        std::make_unique<FluxRouter>(FluxRouter::load(source, flux_router_prefix(layer), head_dim));
  }
}

std::shared_ptr<const FluxRouters> FluxRouters::open(const std::string& path,
                                                     const std::vector<bool>& needed,
                                                     int64_t head_dim) {
  // A file that was written anew is another one.
  using Key = std::tuple<std::string, int64_t, int64_t, std::vector<bool>, int64_t>;
  static std::mutex mutex;
  static std::map<Key, std::weak_ptr<const FluxRouters>> known;
  const auto file = SafetensorsFile::open(path);
  std::error_code ignored;
  const auto written = std::filesystem::last_write_time(path, ignored).time_since_epoch().count();
  const auto size = static_cast<int64_t>(std::filesystem::file_size(path, ignored));
  const std::lock_guard lock(mutex);
  auto& entry =
      known[Key{std::filesystem::absolute(path).string(), written, size, needed, head_dim}];
  std::shared_ptr<const FluxRouters> routers = entry.lock();
  if (routers == nullptr) {
    std::erase_if(
        known, [&](const auto& item) { return item.second.expired() && &item.second != &entry; });
    entry = routers = std::make_shared<const FluxRouters>(*file, needed, head_dim);
  }
  return routers;
}

}  // namespace mneme
