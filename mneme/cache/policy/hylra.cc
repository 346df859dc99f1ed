#include "mneme/cache/policy/hylra.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "mneme/cache/policy/hylra_search.h"
#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/io/atomic_file.h"
#include "mneme/kernels/select.h"

namespace mneme {

std::vector<int64_t> read_hylra_plan(const std::string& path,
                                     const std::string& model_fingerprint) {
  std::ifstream file(path);
  MNEME_CHECK(file.good(), "hylra: cannot read the profile ", path);
  const nlohmann::json profile = nlohmann::json::parse(file, nullptr, false);
  MNEME_CHECK(profile.is_object() && profile.value("format", "") == "mneme-hylra-1", path,
              ": not a profile of HyLRA (expected a JSON object with format mneme-hylra-1)");
  const std::string model = profile.value("model", "");
  MNEME_CHECK(model == model_fingerprint, path, ": the profile was made for model ", model,
              ", this is model ", model_fingerprint);
  const auto plan = profile.find("plan");
  MNEME_CHECK(plan != profile.end() && plan->is_array() &&
                  std::ranges::all_of(*plan, [](const auto& l) { return l.is_number_integer(); }),
              path, ": expected plan, an array of whole numbers");
  return plan->get<std::vector<int64_t>>();
}

void write_hylra_plan(const std::string& path, std::span<const int64_t> plan,
                      const std::string& model_fingerprint) {
  const nlohmann::ordered_json profile = {{"format", "mneme-hylra-1"},
                                          {"model", model_fingerprint},
                                          {"plan", std::vector<int64_t>(plan.begin(), plan.end())}};
  write_file_atomically(path, profile.dump(1) + "\n");
}

std::vector<int64_t> hylra_guess(std::span<const int64_t> windows) {
  std::vector<int64_t> plan;
  int64_t seen = 0, source = -1;
  for (size_t layer = 0; layer < windows.size(); ++layer) {
    // A layer with a window of its own computes what it sees, for itself.
    const bool full = windows[layer] > 0 || seen < 2 || (seen - 1) % 3 == 0;
    plan.push_back(full ? -1 : source);
    if (windows[layer] > 0) continue;
    if (full) source = static_cast<int64_t>(layer);
    ++seen;
  }
  return plan;
}

Hylra::Hylra(const MemoryShape& shape, const HylraOptions& options)
    : BlockReading(shape, options.block, options.blocks), options_(options) {
  if (options_.plan.empty()) options_.plan = hylra_guess(shape.windows);
  check_hylra_plan(options_.plan, shape.layers());
  MNEME_CHECK(options.block >= 1, "hylra: a block must hold rows, got ", options.block);
  MNEME_CHECK(options.sink >= 0 && options.recent >= 1,
              "hylra: expected sink blocks of at least 0 and recent ones of at least 1 (the newest "
              "row must be read), got ",
              options.sink, " and ", options.recent);
  MNEME_CHECK(options.blocks >= options.sink + options.recent, "hylra: ", options.blocks,
              " blocks cannot hold ", options.sink, " of the sink and ", options.recent,
              " recent ones");
  is_source_.assign(static_cast<size_t>(shape.layers()), false);
  for (int64_t layer = 0; layer < shape.layers(); ++layer) {
    const int64_t source = options_.plan[static_cast<size_t>(layer)];
    if (source < 0) continue;
    MNEME_CHECK(shape.sees_all(layer) && shape.sees_all(source), "hylra: layer ", layer,
                " reads what layer ", source, " chose, and one of them has a window of its own");
    is_source_[static_cast<size_t>(source)] = true;
  }
}

void Hylra::choose(const SeenWeights& seen, int64_t rows, std::vector<int32_t>& chosen) {
  const int64_t count = ceil_div(rows, options_.block);
  scores_.assign(static_cast<size_t>(count), 0.0f);
  for (int64_t block = 0; block < count; ++block) {
    const int64_t end = std::min(rows, (block + 1) * options_.block);
    double sum = 0;
    for (int64_t h = 0; h < shape().q_heads; ++h) {
      const std::span<const float> weights = seen.row(seen.queries - 1, shape().q_heads, h, rows);
      for (int64_t row = block * options_.block; row < end; ++row)
        sum += weights[static_cast<size_t>(row)];
    }
    const bool forced = block < options_.sink || block >= count - options_.recent;
    scores_[static_cast<size_t>(block)] =
        forced ? std::numeric_limits<float>::infinity()
               : static_cast<float>(sum / static_cast<double>(shape().q_heads));
  }
  thread_local SelectScratch scratch;
  chosen.resize(static_cast<size_t>(std::min(options_.blocks, count)));
  select_top_k(scores_, options_.blocks, SelectOrder::kIndex, chosen, scratch);
}

}  // namespace mneme
