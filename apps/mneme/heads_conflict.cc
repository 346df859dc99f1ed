// mneme heads conflict: ranks heads by how they decide between what the model knows and what the text
// says, and prunes them on examples they were not ranked by.
#include <algorithm>
#include <iostream>
#include <optional>

#include "apps/mneme/heads.h"
#include "apps/mneme/memory_json.h"
#include "apps/mneme/text_table.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/eval/haystack.h"
#include "mneme/eval/head_map_html.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/perplexity.h"
#include "mneme/eval/report_html.h"
#include "mneme/interpret/conflict_prompts.h"
#include "mneme/interpret/prune_study.h"

namespace mneme::app {
namespace {

constexpr int64_t kPlainCharacters = 6000;
constexpr size_t kShownHeads = 8;  // of each side

struct Options {
  ModelOptions model;
  PruneOptions prune;
  int64_t rank = 10, validate = 8;  // capitals
  int64_t contradictions = 3;       // of each
  int64_t text_tokens = 512;
  std::string file, out, html;
  std::string effect = "direct";
  bool json = false, quiet = false;
};

struct Result {
  int64_t facts = 0, known = 0, examples = 0;
  int64_t ranked = 0, validated = 0, held_out = 0;
  ConflictRanking ranking;
  std::optional<int64_t> best_memory, best_context;  // counts that did best on the validation part
  PruneStudy study;                                  // on the held-out part
  bool interrupted = false;
};

const char* name_of(const PruneRow& row) {
  if (!row.side) return row.count == 0 ? "nothing" : "random late";
  return *row.side == ConflictSide::kMemory ? "memory" : "context";
}

Result measure(const Options& options, Engine& engine) {
  const Progress::Style style = progress_style(options.quiet || options.json);
  DecoderModel& model = engine.model();
  ThreadPool& pool = engine.pool();
  const std::span<const Fact> facts = world_capitals();
  Result result{.facts = std::ssize(facts)};
  const auto on = [](Progress& progress) {
    return [&progress](int64_t done, int64_t) {
      progress.update(done);
      return !interrupted();
    };
  };
  std::vector<Fact> known;
  {
    Progress progress("what the model knows", "facts", std::ssize(facts), style);
    known = known_facts(model, pool, engine.tokenizer(), facts, kCapitalStem, on(progress));
  }
  result.known = std::ssize(known);
  const std::vector<ConflictPrompt> prompts = conflict_prompts(
      engine.tokenizer(), facts, known, kCapitalStem, options.prune.seed, options.contradictions);
  const std::vector<ConflictExample> examples = examples_of(prompts);
  result.examples = std::ssize(examples);
  result.interrupted = interrupted();
  if (result.interrupted) return result;
  // Where each capital's examples begin: no capital is in two parts.
  std::vector<size_t> begins;
  for (size_t i = 0; i < prompts.size(); ++i)
    if (i == 0 || prompts[i].fact.subject != prompts[i - 1].fact.subject) begins.push_back(i);
  MNEME_CHECK(std::ssize(begins) > options.rank + options.validate, "the model knows ",
              result.known, " of ", result.facts, " capitals, ", begins.size(),
              " of them of use: too few to rank by ", options.rank, ", choose by ",
              options.validate, " and hold some out");
  const size_t ranked_end = begins[static_cast<size_t>(options.rank)];
  const size_t validated_end = begins[static_cast<size_t>(options.rank + options.validate)];
  const std::span<const ConflictExample> all = examples;
  const auto ranked = all.first(ranked_end);
  const auto validation = all.subspan(ranked_end, validated_end - ranked_end);
  const auto held_out = all.subspan(validated_end);
  result.ranked = std::ssize(ranked);
  result.validated = std::ssize(validation);
  result.held_out = std::ssize(held_out);
  {
    Progress progress("path patching", "examples", result.ranked, style);
    result.ranking = rank_conflict_heads(
        model, pool, ranked,
        options.effect == "direct" ? PatchKind::kDirectPath : PatchKind::kTotalEffect,
        on(progress));
    result.interrupted = std::ssize(result.ranking.clean_difference) < result.ranked;
    if (result.interrupted) return result;
  }

  std::vector<int32_t> text = engine.tokenizer().encode(
      options.file.empty() ? haystack_text(kPlainCharacters, options.prune.seed)
                           : read_prompt("", options.file));
  text.resize(std::min(text.size(), static_cast<size_t>(options.text_tokens)));
  PruneOptions prune = options.prune;
  prune.perplexity = [&] {
    const auto make = [&] { return MemoryRegistry::builtin().build("full", model.memory_shape()); };
    PerplexityOptions plain;
    if (engine.tokenizer().adds_bos()) plain.begin = engine.tokenizer().bos();
    return perplexity(model, pool, make, text, plain).perplexity();
  };
  if (!validation.empty()) {
    PruneOptions choose = prune;
    choose.draws = 0;
    Progress progress("choosing counts", "sets", 2 * std::ssize(choose.counts) + 1, style);
    const PruneStudy study =
        study_pruning(model, pool, validation, result.ranking, choose, on(progress));
    result.interrupted = study.interrupted;
    if (result.interrupted) return result;
    if (const PruneRow* best = best_row(study, ConflictSide::kMemory))
      result.best_memory = best->count;
    if (const PruneRow* best = best_row(study, ConflictSide::kContext))
      result.best_context = best->count;
  }
  Progress progress("pruning", "sets", (2 + prune.draws) * std::ssize(prune.counts) + 1, style);
  result.study = study_pruning(model, pool, held_out, result.ranking, prune, on(progress));
  result.interrupted = result.study.interrupted;
  return result;
}

nlohmann::ordered_json row_json(const PruneRow& row) {
  return {{"pruned", name_of(row)},
          {"count", row.count},
          {"heads", heads_json(row.heads)},
          {"mean_difference", row.outcome.mean_difference},
          {"memory_rate", row.outcome.memory_rate},
          {"context_rate", row.outcome.context_rate},
          {"perplexity", row.perplexity}};
}

nlohmann::ordered_json json_of(const Result& result) {
  nlohmann::ordered_json json = {{"facts", result.facts},
                                 {"known", result.known},
                                 {"examples", result.examples},
                                 {"ranked", result.ranked},
                                 {"validated", result.validated},
                                 {"held_out", result.held_out},
                                 {"interrupted", result.interrupted}};
  if (result.ranking.importance.layers() == 0) return json;
  auto heads = nlohmann::ordered_json::array();
  for (const HeadId& head : result.ranking.importance.ranking()) {
    heads.push_back({{"layer", head.layer},
                     {"head", head.head},
                     {"importance", result.ranking.importance.at(head)},
                     {"memory_drop", result.ranking.memory_drop.at(head)},
                     {"context_drop", result.ranking.context_drop.at(head)}});
  }
  json["heads"] = std::move(heads);
  const auto count = [](const std::optional<int64_t>& best) {
    return best ? nlohmann::ordered_json(*best) : nlohmann::ordered_json();
  };
  json["best_memory_count"] = count(result.best_memory);
  json["best_context_count"] = count(result.best_context);
  auto rows = nlohmann::ordered_json::array({row_json(result.study.unpruned)});
  for (const PruneRow& row : result.study.rows) rows.push_back(row_json(row));
  json["pruning"] = std::move(rows);
  return json;
}

void print_human(const Result& result) {
  std::cout << result.known << " of " << result.facts << " capitals known; heads ranked on "
            << result.ranked << " examples, counts chosen on " << result.validated << ", "
            << result.held_out << " held out\n";
  if (result.ranking.importance.layers() == 0) return;
  TextTable heads({"head", "importance, nat", "memory answer", "context answer"});
  const auto add = [&](const HeadId& head) {
    heads.add({head_text(head), fixed_number(result.ranking.importance.at(head), 3),
               fixed_number(result.ranking.memory_drop.at(head), 3),
               fixed_number(result.ranking.context_drop.at(head), 3)});
  };
  const std::vector<HeadId> order = result.ranking.importance.ranking();
  const size_t shown = std::min(kShownHeads, order.size() / 2);
  for (size_t i = 0; i < shown; ++i) add(order[i]);
  for (size_t i = order.size() - shown; i < order.size(); ++i) add(order[i]);
  heads.print(std::cout);
  std::cout << "\nPruned, on the held-out examples\n";
  TextTable table({"pruned", "heads", "difference, nat", "memory answers", "context answers",
                   "perplexity", "to unpruned"});
  const auto row_of = [&](const PruneRow& row) {
    table.add(
        {name_of(row), std::to_string(row.heads.size()),
         fixed_number(row.outcome.mean_difference, 2), fixed_number(row.outcome.memory_rate, 2),
         fixed_number(row.outcome.context_rate, 2), fixed_number(row.perplexity, 3),
         fixed_number(100 * (row.perplexity / result.study.unpruned.perplexity - 1), 2) + "%"});
  };
  row_of(result.study.unpruned);
  for (const PruneRow& row : result.study.rows) row_of(row);
  table.print(std::cout);
  if (result.best_memory && result.best_context)
    std::cout << "Best on the examples for choosing: " << *result.best_memory
              << " memory heads to trust the context, " << *result.best_context
              << " context heads to trust memory\n";
}

std::string page_of(const Options& options, const Result& result, const Engine& engine) {
  const ModelConfig& config = engine.model().config();
  HeadMapPage page{
      .title = "Conflict heads",
      .lead = concat("How each head moves the difference between the remembered and the written "
                     "answer: above zero it favours memory, below zero the context. Mean over ",
                     result.ranked,
                     " prompts about capitals that the model knows and the text contradicts."),
      .value = "importance, nat",
      .table = result.ranking.importance,
      .listed = static_cast<int64_t>(kShownHeads)};
  page.effect_title = "Pruning them";
  page.effect_note = concat("Share of ", result.held_out,
                            " held-out examples answered from memory and from the text");
  page.bars = {"memory", "context"};
  const auto add = [&](const PruneRow& row) {
    page.effect.push_back(
        {.name = row.count == 0 ? "nothing pruned"
                                : concat(row.heads.size(), " ", name_of(row), " heads pruned"),
         .style = row.side ? (*row.side == ConflictSide::kMemory ? 0u : 1u) : 2u,
         .values = {row.outcome.memory_rate, row.outcome.context_rate}});
  };
  add(result.study.unpruned);
  for (const PruneRow& row : result.study.rows)
    if (row.side) add(row);
  page.facts = {
      {"model", config.name.empty() ? config.architecture : config.name},
      {"file", engine.path()},
      {"capitals known", concat(result.known, " of ", result.facts)},
      {"effect", options.effect},
      {"plain perplexity, nothing pruned", fixed_number(result.study.unpruned.perplexity, 3)},
      {"machine", processor_name()},
      {"date", date_now()}};
  return head_map_html(page);
}

int conflict(const Options& options) {
  PromisedFile map(options.out), page(options.html);
  const auto engine = options.model.open();
  const Result result = measure(options, *engine);
  if (options.json) {
    std::cout << json_text(json_of(result)) << "\n";
  } else {
    print_human(result);
  }
  if (result.interrupted) return 130;
  map.save(result.ranking.scores.text());
  if (page) page.save(page_of(options, result, *engine));
  return 0;
}

}  // namespace

void add_heads_conflict(CLI::App& heads, Action& action) {
  auto options = std::make_shared<Options>();
  options->prune.counts = {1, 3, 5, 9};
  CLI::App* command = heads.add_subcommand(
      "conflict",
      "Rank heads by how they decide between memory and context, and prune the strongest");
  options->model.add_with_weights_to(*command);
  command->add_option("--rank", options->rank, "capitals to rank heads by")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--validate", options->validate, "capitals to choose the number of heads by")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->capture_default_str();
  command
      ->add_option("--contradictions", options->contradictions,
                   "wrong answers that are tried with each capital")
      ->check(CLI::Range(int64_t{1}, int64_t{100}))
      ->capture_default_str();
  command
      ->add_option("--effect", options->effect,
                   "direct: every other head stays as it was; total: later heads react")
      ->check(CLI::IsMember({"direct", "total"}))
      ->capture_default_str();
  command->add_option("--counts", options->prune.counts, "how many heads of a side are pruned")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  command->add_option("--draws", options->prune.draws, "sets of random late heads for each count")
      ->check(CLI::Range(int64_t{0}, int64_t{1000}))
      ->capture_default_str();
  command->add_flag("--opposite", options->prune.opposite_effects,
                    "only heads that raise their own answer and lower the other");
  command->add_flag("--upper-half", options->prune.upper_half,
                    "only heads of the upper half of the layers");
  command->add_option("-f,--file", options->file,
                      "plain text whose perplexity is measured (default: generated)");
  command->add_option("--tokens", options->text_tokens, "tokens of it")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--seed", options->prune.seed, "of examples, text and random heads")
      ->capture_default_str();
  command->add_option("--out", options->out, "write every example's importance of every head");
  command->add_option("--html", options->html, "write the map of heads as one HTML page");
  command->add_flag("--json", options->json, "print one JSON object");
  command->add_flag("-q,--quiet", options->quiet, "no progress");
  command->footer("Example:\n  mneme heads conflict --counts 3,5 --html conflict.html");
  command->callback([options, &action] { action = [options] { return conflict(*options); }; });
}

}  // namespace mneme::app
