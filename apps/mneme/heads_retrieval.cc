// mneme heads retrieval: scores heads by how they copy hidden sentences, on two disjoint sets of them,
// and masks the best against as many random ones.
#include <algorithm>
#include <iostream>
#include <optional>

#include "apps/mneme/heads.h"
#include "apps/mneme/memory_json.h"
#include "apps/mneme/text_table.h"
#include "mneme/core/error.h"
#include "mneme/eval/haystack.h"
#include "mneme/eval/head_map_html.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/report_html.h"
#include "mneme/interpret/mask_study.h"

namespace mneme::app {
namespace {

constexpr int64_t kHaystackCharacters = 20000;
constexpr size_t kShownHeads = 12;

struct Options {
  ModelOptions model;
  NeedlePromptOptions prompts;
  MaskOptions mask;
  int64_t needles = 6;
  double threshold = 0.1;
  std::string file, out, html;
  std::string mode = "uniform-decode";
  bool json = false, quiet = false;
};

struct Result {
  RetrievalHeads sets[2];  // on disjoint needles
  HeadScores scores;       // of both
  HeadTable mean;
  std::optional<double> correlation;
  std::vector<HeadId> heads;  // at the threshold
  std::optional<MaskStudy> masks;
  bool interrupted = false;

  int64_t accepted() const { return sets[0].accepted + sets[1].accepted; }
  int64_t runs() const { return std::ssize(sets[0].runs) + std::ssize(sets[1].runs); }
};

// The rows of one count: the best heads, then the draws.
struct MaskCount {
  int64_t count;
  double best, random;
};

std::vector<MaskCount> mask_counts(const MaskStudy& study) {
  std::vector<MaskCount> counts;
  for (size_t i = 0; i < study.rows.size();) {
    MaskCount one{std::ssize(study.rows[i].heads), study.rows[i].recall, 0};
    const size_t first = ++i;
    for (; i < study.rows.size() && study.rows[i].random; ++i) one.random += study.rows[i].recall;
    if (i > first) one.random /= static_cast<double>(i - first);
    counts.push_back(one);
  }
  return counts;
}

std::vector<NeedlePrompt> prompts_of(const Options& options, const Tokenizer& tokenizer,
                                     int64_t set) {
  const std::string hay = options.file.empty()
                              ? haystack_text(kHaystackCharacters, options.mask.seed)
                              : read_prompt("", options.file);
  const std::vector<Needle> needles =
      treasure_needles(options.needles, options.mask.seed, set * options.needles);
  return needle_prompts(tokenizer, needles, hay, options.prompts);
}

Result measure(const Options& options, Engine& engine) {
  const Tokenizer& tokenizer = engine.tokenizer();
  const Progress::Style style = progress_style(options.quiet || options.json);
  RetrievalOptions retrieval = options.mask.retrieval;
  retrieval.ends = [&](int32_t token) {
    return tokenizer.ends_generation(token) ||
           tokenizer.piece(token).find('\n') != std::string::npos;
  };
  Result result;
  std::vector<NeedlePrompt> held_out;  // of the second set, those that the model answers
  for (int64_t set = 0; set < 2 && !result.interrupted; ++set) {
    const std::vector<NeedlePrompt> prompts = prompts_of(options, tokenizer, set);
    Progress progress(set == 0 ? "first needles" : "second needles", "prompts", std::ssize(prompts),
                      style);
    RetrievalHeads& found = result.sets[set];
    found = find_retrieval_heads(engine.model(), engine.pool(), prompts, retrieval,
                                 [&](int64_t done, int64_t) {
                                   progress.update(done);
                                   return !interrupted();
                                 });
    result.interrupted = found.runs.size() < prompts.size();
    for (size_t i = 0; i < found.runs.size(); ++i) {
      if (!found.runs[i].accepted) continue;
      result.scores.add(found.runs[i].score);
      if (set == 1) held_out.push_back(prompts[i]);
    }
  }
  const ModelConfig& config = engine.model().config();
  MNEME_CHECK(result.interrupted || result.accepted() > 0, "the model answered none of ",
              result.runs(),
              " prompts: no head can be scored; shorter contexts (--lengths) may help");
  result.mean = result.scores.mean(config.layers, config.q_heads);
  result.heads = heads_at_least(result.mean, options.threshold);
  if (result.interrupted) return result;
  const auto has_order = [](const RetrievalHeads& set) {
    const auto [low, high] = std::ranges::minmax(set.mean.values());
    return low < high;
  };
  if (has_order(result.sets[0]) && has_order(result.sets[1]))
    result.correlation = rank_correlation(result.sets[0].mean, result.sets[1].mean);
  if (options.mode == "none" || held_out.empty() || result.sets[0].accepted == 0) return result;
  MaskOptions mask = options.mask;
  mask.retrieval = retrieval;
  mask.mode = options.mode == "zero"          ? HeadMask::kZero
              : options.mode == "uniform-all" ? HeadMask::kUniformAll
                                              : HeadMask::kUniformDecode;
  Progress progress("masking", "prompts", std::ssize(held_out), style);
  result.masks = study_masks(engine.model(), engine.pool(), held_out, result.sets[0].mean, mask,
                             [&](int64_t done, int64_t) {
                               progress.update(done);
                               return !interrupted();
                             });
  result.interrupted = result.masks->prompts < std::ssize(held_out);
  return result;
}

nlohmann::ordered_json json_of(const Options& options, const Result& result) {
  auto heads = nlohmann::ordered_json::array();
  for (const HeadId& head : result.mean.ranking()) {
    if (result.mean.at(head) <= 0) break;
    heads.push_back({{"layer", head.layer}, {"head", head.head}, {"score", result.mean.at(head)}});
  }
  nlohmann::ordered_json json = {
      {"prompts", result.runs()},
      {"accepted", result.accepted()},
      {"threshold", options.threshold},
      {"retrieval_heads", result.heads.size()},
      {"share",
       static_cast<double>(result.heads.size()) / static_cast<double>(result.mean.values().size())},
      {"rank_correlation",
       result.correlation ? nlohmann::ordered_json(*result.correlation) : nlohmann::ordered_json()},
      {"heads", std::move(heads)},
      {"interrupted", result.interrupted}};
  if (!result.masks) return json;
  auto rows = nlohmann::ordered_json::array();
  for (const MaskRow& row : result.masks->rows)
    rows.push_back(
        {{"random", row.random}, {"heads", heads_json(row.heads)}, {"recall", row.recall}});
  json["masking"] = {{"mode", options.mode},
                     {"prompts", result.masks->prompts},
                     {"unmasked_recall", result.masks->unmasked_recall},
                     {"rows", std::move(rows)}};
  return json;
}

void print_human(const Options& options, const Result& result) {
  std::cout << result.accepted() << " of " << result.runs() << " prompts answered; "
            << result.heads.size() << " of " << result.mean.values().size()
            << " heads score at least " << options.threshold << " ("
            << fixed_number(100.0 * static_cast<double>(result.heads.size()) /
                                static_cast<double>(result.mean.values().size()),
                            1)
            << "%)\n";
  if (result.correlation)
    std::cout << "rank correlation of two disjoint sets of needles: "
              << fixed_number(*result.correlation, 3) << "\n";
  TextTable table({"head", "score", "first set", "second set"});
  std::vector<HeadId> best = result.mean.ranking();
  best.resize(std::min(best.size(), kShownHeads));
  const auto cell = [](const RetrievalHeads& set, const HeadId& head) {
    return set.accepted > 0 ? fixed_number(set.mean.at(head), 3) : std::string("-");
  };
  for (const HeadId& head : best) {
    table.add({head_text(head), fixed_number(result.mean.at(head), 3), cell(result.sets[0], head),
               cell(result.sets[1], head)});
  }
  table.print(std::cout);
  if (!result.masks) return;
  std::cout << "\nToken recall with heads masked (" << options.mode
            << "), ranked on the first set, " << result.masks->prompts
            << " prompts of the second; unmasked " << fixed_number(result.masks->unmasked_recall, 2)
            << "\n";
  TextTable masks({"masked", "best heads", concat("random heads, mean of ", options.mask.draws)});
  for (const MaskCount& row : mask_counts(*result.masks))
    masks.add({std::to_string(row.count), fixed_number(row.best, 2), fixed_number(row.random, 2)});
  masks.print(std::cout);
}

std::string page_of(const Options& options, const Result& result, const Engine& engine) {
  const ModelConfig& config = engine.model().config();
  HeadMapPage page{
      .title = "Retrieval heads",
      .lead = concat("How often each head's strongest attention lies on the very token "
                     "that is being copied: mean over ",
                     result.accepted(), " of ", result.runs(),
                     " prompts that hide a sentence in filler text."),
      .value = "retrieval score",
      .table = result.mean};
  if (result.masks) {
    page.effect_title = "Masking them";
    page.effect_note = concat("Share of the hidden sentence that is still repeated (", options.mode,
                              "), unmasked ", fixed_number(result.masks->unmasked_recall, 2));
    page.bars = {"best", "random"};
    for (const MaskCount& row : mask_counts(*result.masks))
      page.effect.push_back({.name = concat(row.count, " heads masked"),
                             .style = page.effect.size(),
                             .values = {row.best, row.random}});
  }
  page.facts = {{"model", config.name.empty() ? config.architecture : config.name},
                {"file", engine.path()},
                {"needles", concat("two sets of ", options.needles, ", seed ", options.mask.seed)},
                {"rank correlation of the sets",
                 result.correlation ? fixed_number(*result.correlation, 3) : "-"},
                {"machine", processor_name()},
                {"date", date_now()}};
  return head_map_html(page);
}

int retrieval(const Options& options) {
  PromisedFile map(options.out), page(options.html);
  const auto engine = options.model.open();
  const Result result = measure(options, *engine);
  if (options.json) {
    std::cout << json_text(json_of(options, result)) << "\n";
  } else {
    print_human(options, result);
  }
  if (result.accepted() > 0) {
    map.save(result.scores.text());
    if (page) page.save(page_of(options, result, *engine));
  }
  return result.interrupted ? 130 : 0;
}

}  // namespace

void add_heads_retrieval(CLI::App& heads, Action& action) {
  auto options = std::make_shared<Options>();
  options->mask.retrieval.max_tokens = 20;
  CLI::App* command = heads.add_subcommand(
      "retrieval", "Score heads by how they copy hidden sentences, and mask the best of them");
  options->model.add_with_weights_to(*command);
  command->add_option("-f,--file", options->file,
                      "text to hide sentences in, '-': standard input (default: generated)");
  command->add_option("--needles", options->needles, "sentences in each of the two sets")
      ->check(CLI::Range(int64_t{1}, kMostNeedles / 2))
      ->capture_default_str();
  command
      ->add_option("--lengths", options->prompts.context_lengths,
                   "context lengths in tokens, the buffer included")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  command
      ->add_option("--depths", options->prompts.depths,
                   "where a sentence is hidden, percent of the context")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  command
      ->add_option("--buffer", options->prompts.buffer,
                   "tokens of a context that are left for question and answer")
      ->capture_default_str();
  command->add_option("-n,--max-tokens", options->mask.retrieval.max_tokens, "tokens of an answer")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16))
      ->capture_default_str();
  command
      ->add_option("--top-k", options->mask.retrieval.top_k,
                   "a head hits with any of its so many strongest weights")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16))
      ->capture_default_str();
  command->add_option("--threshold", options->threshold, "mean score of a retrieval head")
      ->capture_default_str();
  command
      ->add_option("--mask", options->mode,
                   "uniform-decode: masked heads see every row alike from the answer on; "
                   "uniform-all: in the prompt too; zero: they answer nothing; none: mask nothing")
      ->check(CLI::IsMember({"uniform-decode", "uniform-all", "zero", "none"}))
      ->capture_default_str();
  command->add_option("--counts", options->mask.counts, "how many heads are masked")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  command->add_option("--draws", options->mask.draws, "sets of random heads for each count")
      ->check(CLI::Range(int64_t{0}, int64_t{1000}))
      ->capture_default_str();
  command->add_option("--seed", options->mask.seed, "of sentences, filler text and random heads")
      ->capture_default_str();
  command->add_option("--out", options->out,
                      "write the scores of every run, for `--memory 'retrieval-heads(file=...)'`");
  command->add_option("--html", options->html, "write the map of heads as one HTML page");
  command->add_flag("--json", options->json, "print one JSON object");
  command->add_flag("-q,--quiet", options->quiet, "no progress");
  command->footer(
      "Example:\n  mneme heads retrieval --needles 6 --out heads.jsonl --html heads.html\n"
      "  mneme compare --task needle --memory full --memory "
      "'retrieval-heads(file=heads.jsonl,window=128)'");
  command->callback([options, &action] { action = [options] { return retrieval(*options); }; });
}

}  // namespace mneme::app
