#include "mneme/cache/rotary_turns.h"

#include <algorithm>
#include <set>

#include "mneme/core/error.h"

namespace mneme {

RotaryTurns::RotaryTurns(const std::vector<RotaryPositions>& layers, int64_t dim, int64_t reach)
    : dim_(dim), reach_(reach) {
  MNEME_ASSERT(reach >= 0);
  const int64_t half = dim / 2;
  for (const RotaryPositions& settings : layers) {
    MNEME_CHECK(settings.factors.empty() || std::ssize(settings.factors) == half,
                "rotary positions: expected ", half, " factors, got ", settings.factors.size());
    const auto same = std::ranges::find_if(
        tables_, [&](const auto& table) { return table->settings == settings; });
    if (same != tables_.end()) {
      tables_.push_back(*same);
      continue;
    }
    auto table = std::make_shared<Table>();
    table->settings = settings;
    table->cosines.resize(static_cast<size_t>((reach + 1) * half));
    table->sines.resize(table->cosines.size());
    rope_table(0, reach + 1, dim, settings.base, settings.scale,
               settings.factors.empty() ? nullptr : settings.factors.data(), table->cosines.data(),
               table->sines.data());
    tables_.push_back(std::move(table));
  }
}

void RotaryTurns::turn(int64_t layer, const float* x, int64_t distance, float* out) const {
  if (out != x) std::copy_n(x, dim_, out);
  if (tables_.empty() || distance == 0) return;
  const int64_t steps = std::abs(distance);
  MNEME_ASSERT(steps <= reach_);
  const Table& table = *tables_[static_cast<size_t>(layer)];
  const int64_t half = dim_ / 2;
  const float* const cosines = table.cosines.data() + steps * half;
  const float* const sines = table.sines.data() + steps * half;
  if (distance > 0) {
    rope(out, 1, 1, dim_, table.settings.pairs, cosines, sines);
    return;
  }
  thread_local std::vector<float> negated;
  negated.resize(static_cast<size_t>(half));
  std::transform(sines, sines + half, negated.begin(), [](float s) { return -s; });
  rope(out, 1, 1, dim_, table.settings.pairs, cosines, negated.data());
}

int64_t RotaryTurns::bytes() const {
  std::set<const Table*> distinct;
  int64_t bytes = 0;
  for (const auto& table : tables_) {
    if (distinct.insert(table.get()).second)
      bytes += static_cast<int64_t>((table->cosines.size() + table->sines.size()) * sizeof(float));
  }
  return bytes;
}

}  // namespace mneme
