#include "mneme/eval/kept_tokens_html.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "mneme/core/error.h"
#include "mneme/eval/html_text.h"

namespace mneme {
namespace {

constexpr int kLevels = 8;
constexpr double kWidth = 380, kLeft = 34, kRight = 6, kTop = 8, kBottom = 22;
constexpr double kMostHeight = 320;  // of all rows together

std::string px(double value) { return fixed_number(value, 1); }

std::string label(double x, double y, const char* anchor, const std::string& text) {
  return concat("<text class=\"tick\" x=\"", px(x), "\" y=\"", px(y), "\" text-anchor=\"", anchor,
                "\">", text, "</text>");
}

std::string percent(double share) { return fixed_number(100 * share, 1) + " %"; }

// Share of a layer's rows that are held.
double layer_share(const KeptTokens& kept, int64_t layer) {
  int64_t held = 0;
  for (int64_t i = layer * kept.heads * kept.bins; i < (layer + 1) * kept.heads * kept.bins; ++i)
    held += kept.of_bin[static_cast<size_t>(i)];
  return static_cast<double>(held) / static_cast<double>(kept.heads * kept.tokens);
}

}  // namespace

const char* const kKeptStyle = R"css(
:root{--kept:0 114 178}
@media(prefers-color-scheme:dark){:root{--kept:86 180 233}}
.map path{stroke:rgb(var(--kept))}
.kept{white-space:pre-wrap;overflow-wrap:anywhere;max-height:34em;overflow:auto;margin:8px 0 0;line-height:1.7}
.kept span{border-radius:2px;padding:1px 0}
.kept .k0{color:var(--muted)}
.kept .k1{background:rgb(var(--kept)/.07)}.kept .k2{background:rgb(var(--kept)/.14)}.kept .k3{background:rgb(var(--kept)/.21)}.kept .k4{background:rgb(var(--kept)/.28)}
.kept .k5{background:rgb(var(--kept)/.35)}.kept .k6{background:rgb(var(--kept)/.42)}.kept .k7{background:rgb(var(--kept)/.49)}.kept .k8{background:rgb(var(--kept)/.56)}
.scale{display:inline-flex;gap:2px;vertical-align:-2px}.scale span{width:14px;height:14px;border:1px solid var(--grid)}
details>summary{cursor:pointer;font-weight:600}
details.card{margin:0 0 12px}
)css";

int kept_level(double share) {
  if (share <= 0) return 0;
  return std::clamp(static_cast<int>(std::ceil(share * kLevels - 1e-9)), 1, kLevels);
}

std::string kept_summary(const KeptTokens& kept) {
  int64_t least = 0, most = 0;
  double all = 0;
  for (int64_t layer = 0; layer < kept.layers; ++layer) {
    const double share = layer_share(kept, layer);
    all += share / static_cast<double>(kept.layers);
    if (share < layer_share(kept, least)) least = layer;
    if (share > layer_share(kept, most)) most = layer;
  }
  if (layer_share(kept, most) - layer_share(kept, least) < 1e-9)
    return concat("Holds ", percent(all), " of the rows of every layer.");
  return concat("Holds ", percent(all), " of all rows; layer ", least, " the least with ",
                percent(layer_share(kept, least)), ", layer ", most, " the most with ",
                percent(layer_share(kept, most)), ".");
}

std::string kept_map_chart(const ChartText& text, const KeptTokens& kept) {
  const auto rows = static_cast<double>(kept.layers * kept.heads);
  const double height = std::clamp(kMostHeight / rows, 1.0, 10.0);
  const double bottom = kTop + height * rows;
  const double room = kWidth - kLeft - kRight;
  const auto x_of = [&](int64_t bin) {
    return kLeft +
           room * static_cast<double>(kept.bin_begin(bin)) / static_cast<double>(kept.tokens);
  };
  std::array<std::string, kLevels + 1> paths;
  for (int64_t row = 0; row < kept.layers * kept.heads; ++row) {
    const std::string y = px(kTop + height * (static_cast<double>(row) + 0.5));
    const auto level_of = [&](int64_t bin) {
      return kept_level(kept.share(row / kept.heads, row % kept.heads, bin));
    };
    for (int64_t bin = 0; bin < kept.bins;) {
      const int level = level_of(bin);
      int64_t end = bin + 1;
      while (end < kept.bins && level_of(end) == level) ++end;
      if (level > 0)
        paths[static_cast<size_t>(level)] += concat("M", px(x_of(bin)), " ", y, "H", px(x_of(end)));
      bin = end;
    }
  }
  const std::string id = html_escape(text.id);
  std::string svg = concat(
      "<svg class=\"map\" viewBox=\"0 0 ", px(kWidth), " ", px(bottom + kBottom),
      "\" role=\"img\" aria-labelledby=\"", id, "-t ", id, "-d\"><title id=\"", id, "-t\">",
      html_escape(text.title), "</title><desc id=\"", id, "-d\">", html_escape(text.description),
      "</desc><rect x=\"", px(kLeft), "\" y=\"", px(kTop), "\" width=\"", px(room), "\" height=\"",
      px(bottom - kTop), "\" fill=\"var(--grid)\"/>");
  for (int level = 1; level <= kLevels; ++level) {
    const std::string& path = paths[static_cast<size_t>(level)];
    if (path.empty()) continue;
    svg += concat("<path fill=\"none\" stroke-width=\"", px(height), "\" stroke-opacity=\"",
                  fixed_number(static_cast<double>(level) / kLevels, 3), "\" d=\"", path, "\"/>");
  }
  const double layer_height = height * static_cast<double>(kept.heads);
  const auto every = static_cast<int64_t>(std::ceil(14 / layer_height));
  for (int64_t layer = 0; layer < kept.layers; layer += every)
    svg += label(kLeft - 5, kTop + layer_height * (static_cast<double>(layer) + 0.5) + 4.5, "end",
                 std::to_string(layer));
  svg += label(kLeft, bottom + 16, "start", "token 0");
  svg += label(kWidth - kRight, bottom + 16, "end", grouped_number(kept.tokens - 1));
  return svg + "</svg>";
}

std::string kept_text_html(const Tokenizer& tokenizer, std::span<const int32_t> tokens,
                           const KeptTokens& kept) {
  MNEME_CHECK(std::ssize(tokens) == kept.tokens, "kept text: ", tokens.size(),
              " tokens for a map of ", kept.tokens);
  std::string html = "<p class=\"kept\">", run;
  int level = -1;
  const auto end_run = [&] {
    if (!run.empty()) html += concat("<span class=\"k", level, "\">", html_escape(run), "</span>");
    run.clear();
  };
  // A character of several tokens counts to its last one.
  Utf8Stream characters;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string text = characters.push(tokenizer.piece(tokens[i], true));
    if (text.empty()) continue;
    const int of_token = kept_level(kept.share(static_cast<int64_t>(i)));
    if (of_token != level) end_run();
    level = of_token;
    run += text;
  }
  run += characters.finish();
  end_run();
  return html + "</p>";
}

}  // namespace mneme
