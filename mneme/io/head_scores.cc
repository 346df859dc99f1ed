#include "mneme/io/head_scores.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "mneme/core/error.h"
#include "mneme/io/mapped_file.h"
#include "mneme/io/quote.h"

namespace mneme {
namespace {

constexpr int64_t kMostBytes = int64_t{64} << 20;
constexpr int64_t kMostNumber = 1 << 20;  // of a layer or a head

// "16-19", or nothing.
std::optional<HeadId> parse_head(std::string_view key) {
  HeadId id;
  const char* const end = key.data() + key.size();
  const auto layer = std::from_chars(key.data(), end, id.layer);
  if (layer.ec != std::errc() || layer.ptr == end || *layer.ptr != '-') return std::nullopt;
  const auto head = std::from_chars(layer.ptr + 1, end, id.head);
  if (head.ec != std::errc() || head.ptr != end) return std::nullopt;
  const auto fits = [](int64_t number) { return number >= 0 && number <= kMostNumber; };
  if (!fits(id.layer) || !fits(id.head)) return std::nullopt;
  return id;
}

}  // namespace

void HeadScores::add(const HeadTable& run) {
  for (int64_t i = 0; i < std::ssize(run.values()); ++i)
    lists_[run.id(i)].push_back(run.at(run.id(i)));
}

HeadTable HeadScores::mean(int64_t layers, int64_t heads) const {
  HeadTable table(layers, heads);
  for (const auto& [id, list] : lists_) {
    double& mean = table.at(id);
    for (const double value : list) mean += value / static_cast<double>(list.size());
  }
  return table;
}

std::string HeadScores::text() const {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [id, list] : lists_) json[concat(id.layer, "-", id.head)] = list;
  return json.dump() + "\n";
}

HeadScores HeadScores::parse(std::string_view text, const std::string& origin) {
  HeadScores scores;
  int64_t number = 0;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    MNEME_CHECK(json.is_object(), origin, ", line ", number,
                ": expected a JSON object of head scores such as {\"16-19\": [0.94]}");
    for (const auto& [key, list] : json.items()) {
      const std::optional<HeadId> id = parse_head(key);
      MNEME_CHECK(id.has_value(), origin, ", line ", number, ": a head is named as \"16-19\", got ",
                  quote(key));
      MNEME_CHECK(list.is_array(), origin, ", line ", number, ": head ", key,
                  " needs a list of numbers");
      std::vector<double>& values = scores.lists_[*id];
      for (const auto& value : list) {
        MNEME_CHECK(value.is_number() && std::isfinite(value.get<double>()), origin, ", line ",
                    number, ": head ", key, " has a score that is not a finite number");
        values.push_back(value.get<double>());
      }
    }
  }
  MNEME_CHECK(!scores.empty(), origin, ": no head scores");
  return scores;
}

HeadScores HeadScores::read(const std::string& path) {
  const MappedFile file(path, MappedFile::Mode::kCopy);
  MNEME_CHECK(file.size() <= kMostBytes, path, ": head scores of at most ", kMostBytes,
              " bytes, got ", file.size());
  return parse({reinterpret_cast<const char*>(file.data()), static_cast<size_t>(file.size())},
               path);
}

}  // namespace mneme
