// Progress of long work: a bar on a terminal, a line now and then in a log, nothing when quiet.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace mneme {

class Progress {
 public:
  enum class Style { kBar, kLines, kQuiet };
  // A bar when `out` is a terminal, lines otherwise.
  static Style style_for(std::FILE* out);

  // `what` names the work, `unit` what is counted ("tokens"), `total` how many there are (0:
  // unknown).
  Progress(std::string what, std::string unit, int64_t total, Style style, std::FILE* out = stderr);
  // Ends the bar's line, also when an exception passes.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` of `total` are finished; `note` is shown behind the rate ("memory 12.3 MiB").
  void update(int64_t done, const std::string& note = "");

 private:
  using Clock = std::chrono::steady_clock;
  std::string line(int64_t done, const std::string& note, bool with_bar) const;

  std::string what_, unit_;
  int64_t total_;
  Style style_;
  std::FILE* out_;
  Clock::time_point started_ = Clock::now();
  Clock::time_point shown_;
  bool bar_open_ = false;
};

// "1.5 MiB", "312 B"
std::string bytes_text(int64_t bytes);

}  // namespace mneme
