#include "mneme/core/progress.h"

#include <unistd.h>

#include <algorithm>
#include <array>

namespace mneme {
namespace {

constexpr auto kBarInterval = std::chrono::milliseconds(100);
constexpr auto kLineInterval = std::chrono::seconds(5);
constexpr int64_t kBarWidth = 24;

std::string number(const char* format, double value) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

}  // namespace

Progress::Style Progress::style_for(std::FILE* out) {
  return isatty(fileno(out)) != 0 ? Style::kBar : Style::kLines;
}

Progress::Progress(std::string what, std::string unit, int64_t total, Style style, std::FILE* out)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      style_(style),
      out_(out),
      shown_(started_) {}

Progress::~Progress() {
  if (bar_open_) std::fputs("\n", out_);
}

void Progress::update(int64_t done, const std::string& note) {
  if (style_ == Style::kQuiet) return;
  const auto now = Clock::now();
  const bool finished = total_ > 0 && done >= total_;
  const bool bar = style_ == Style::kBar;
  if (!finished &&
      now - shown_ < (bar ? Clock::duration(kBarInterval) : Clock::duration(kLineInterval)))
    return;
  shown_ = now;
  std::fprintf(out_, bar ? "\r\x1b[2K%s" : "%s\n", line(done, note, bar).c_str());
  bar_open_ = bar && !finished;
  if (bar && finished) std::fputs("\n", out_);
  std::fflush(out_);
}

std::string Progress::line(int64_t done, const std::string& note, bool with_bar) const {
  const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string text = what_ + " ";
  if (with_bar && total_ > 0) {
    const int64_t filled = std::clamp<int64_t>(done * kBarWidth / total_, 0, kBarWidth);
    text += "[" + std::string(static_cast<size_t>(filled), '=') +
            std::string(static_cast<size_t>(kBarWidth - filled), ' ') + "] ";
  }
  text += std::to_string(done);
  if (total_ > 0) text += "/" + std::to_string(total_);
  text += " " + unit_ + number(", %.1f/s", rate);
  if (total_ > done && rate > 0)
    text += number(", %.0f s left", static_cast<double>(total_ - done) / rate);
  if (!note.empty()) text += ", " + note;
  return text;
}

std::string bytes_text(int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return number(unit == 0 ? "%.0f " : "%.1f ", value) + kUnits[unit];
}

}  // namespace mneme
