// mneme weights: forms of the model's weights side by side on one text.
#include <algorithm>
#include <iostream>

#include "apps/mneme/command.h"
#include "apps/mneme/text_table.h"
#include "mneme/core/error.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/weight_study.h"
#include "mneme/eval/weight_study_json.h"

namespace mneme::app {
namespace {

struct Options {
  ModelOptions model;
  WeightStudyOptions study;
  std::string prompt, file;
  int64_t windows = 1;
  bool json = false, quiet = false;
};

std::string percent(double share, int digits) { return fixed_number(100 * share, digits) + "%"; }

std::string rate_cell(double rate) { return rate > 0 ? fixed_number(rate, 1) : "-"; }

void print_forms(const WeightStudy& study) {
  TextTable table({"weights", "linear", "of bf16", "perplexity", "ratio", "same top", "cosine",
                   "mean KL", "outlier columns", "linears", "prompt t/s", "decode t/s"});
  const auto add = [&](const WeightStudyRow& row) {
    const bool split = !row.outliers.empty();
    table.add({row.form, bytes_text(row.linear_bytes), fixed_number(row.of_bf16, 3),
               fixed_number(row.perplexity, 4),
               fixed_number(row.ratio, 4) + " +- " + fixed_number(row.ratio_error, 4),
               percent(row.top1_agreement, 1), fixed_number(row.mean_cosine, 4),
               short_number(row.mean_kl),
               split ? concat(fixed_number(row.outlier_columns(), 0), " (",
                              percent(row.outlier_share(-1), 2), ")")
                     : "-",
               split ? concat(row.linears_with_outliers(), " of ", row.outliers.size()) : "-",
               rate_cell(row.prefill_rate), rate_cell(row.decode_rate)});
  };
  add(study.reference);
  for (const WeightStudyRow& row : study.rows) add(row);
  table.print(std::cout);
}

// A line for each layer, a column for each form that has outlier columns.
void print_layers(const WeightStudy& study, int64_t layers) {
  std::vector<const WeightStudyRow*> rows;
  std::vector<std::string> titles = {"layer"};
  for (const WeightStudyRow& row : study.rows) {
    if (row.outlier_columns() == 0) continue;
    rows.push_back(&row);
    titles.push_back(row.form.substr(0, row.form.find(',')) + ")");
  }
  if (rows.empty()) return;
  std::cout << "\nShare of outlier columns in each layer's linears\n";
  TextTable table(titles);
  for (int64_t layer = 0; layer < layers; ++layer) {
    std::vector<std::string> cells = {std::to_string(layer)};
    for (const WeightStudyRow* row : rows) cells.push_back(percent(row->outlier_share(layer), 2));
    table.add(std::move(cells));
  }
  table.print(std::cout);
}

void print_features(const WeightStudy& study, const OutlierCriteria& criteria) {
  std::cout << "\n"
            << percent(study.outlier_value_share, 3)
            << " of the values that enter attention and feed-forward are of magnitude "
            << criteria.threshold << " or more; features where that is so in "
            << percent(criteria.layer_share, 0) << " of the layers and "
            << percent(criteria.position_share, 0) << " of the positions:";
  if (study.features.empty()) std::cout << " none";
  for (const OutlierFeature& feature : study.features) {
    std::cout << "\n  " << feature.feature << " (" << percent(feature.layer_share, 0)
              << " of the layers, " << percent(feature.position_share, 1)
              << " of the positions, up to " << fixed_number(feature.largest, 1) << ")";
  }
  std::cout << "\n";
}

int weights(Options options) {
  const std::string text = read_prompt(options.prompt, options.file);
  if (options.study.forms.empty()) options.study.forms = weight_study_forms();
  const auto engine = options.model.open();
  std::vector<int32_t>& tokens = options.study.tokens;
  tokens = engine->encode_prompt(text);
  // A text that is shorter than one window is one.
  const auto size = static_cast<int64_t>(tokens.size());
  options.study.window = std::min(options.study.window, size);
  tokens.resize(static_cast<size_t>(std::min(size, options.windows * options.study.window)));

  WeightStudy study;
  {
    const auto forms = static_cast<int64_t>(options.study.forms.size()) + 1;
    const int64_t windows = size / std::max<int64_t>(1, options.study.window);
    Progress progress("weights", "forms", forms * std::min(windows, options.windows),
                      progress_style(options.quiet || options.json));
    study = study_weights(engine->model(), engine->pool(), options.study,
                          [&](int64_t done, int64_t, const std::string& form) {
                            progress.update(done, form);
                            return !interrupted();
                          });
  }
  if (options.json) {
    std::cout << weight_study_json(study) << "\n";
  } else {
    std::cout << study.reference.windows << " x " << options.study.window
              << " tokens, each in one step, memory " << options.study.memory
              << "; quality is measured against the weights as stored in float32 products\n";
    print_forms(study);
    print_layers(study, engine->model().config().layers);
    print_features(study, options.study.criteria);
    std::cout << std::flush;
  }
  return study.interrupted ? 130 : 0;
}

}  // namespace

void add_weights(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  options->study.window = 768;
  CLI::App* command =
      app.add_subcommand("weights", "Compare forms of the model's weights on one text");
  options->model.add_to(*command);
  command->add_option("-p,--prompt", options->prompt, "the text");
  command->add_option("-f,--file", options->file, "read the text from a file, '-': standard input");
  command
      ->add_option(
          "--weights", options->study.forms,
          "form of the weights, as for `run`, or one of the baselines absmax-tensor, "
          "absmax-row, absmax-vector, zeropoint (repeatable; default: file, int8 at thresholds "
          "0, 6, 3, 2, 1, weight-only, and the baselines)")
      ->allow_extra_args(false);
  command->add_option("--tokens", options->study.window, "tokens of a window, read in one step")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20))
      ->capture_default_str();
  command
      ->add_option("--windows", options->windows,
                   "windows of the text, one behind the other: more make the figures steadier")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--memory", options->study.memory, "memory spec, see `mneme list`")
      ->capture_default_str();
  command
      ->add_option("--decode-tokens", options->study.decode_tokens,
                   "time the decoding of that many tokens after 128 of the text, 0: do not")
      ->capture_default_str();
  command->add_flag("--json", options->json, "print one JSON object");
  command->add_flag("-q,--quiet", options->quiet, "no progress");
  command->footer(
      "Example:\n  mneme weights --file /usr/share/common-licenses/GPL-3 --windows 4 --json");
  command->callback([options, &action] { action = [options] { return weights(*options); }; });
}

}  // namespace mneme::app
