// mneme train router: routers of Flux Attention for a model, from two kinds of prompts. Needle prompts
// ask for a pass key somewhere in the text and may stream in few layers; plain text may in all.
#include "apps/mneme_train/train_router.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/needle.h"
#include "mneme/eval/report_style.h"
#include "mneme/eval/svg_chart.h"
#include "mneme/io/atomic_file.h"
#include "mneme/train/flux_trainer.h"

namespace mneme::app {
namespace {

using train::FluxSample;
using train::FluxStep;
using train::FluxTrainer;

constexpr int64_t kNeedle = 0, kPlain = 1;  // tasks
constexpr const char* kTaskNames[] = {"needle", "plain text"};
constexpr int64_t kAnswerRoom = 8;  // tokens behind a needle prompt, at most

struct Options {
  ModelOptions model;
  train::FluxTrainingOptions training;
  std::string text, out, plot, form = "softmax", precision = "bf16";
  int64_t batch = 4, length = 512, answer = 64, checkpoint = 20, held_out = 8;
  double needle_target = 0.45, plain_target = 1;
  bool quiet = false;
};

// The prompts of both tasks, each a function of its seed; those held out come from seeds and a part of
// the text that training never sees.
class Samples {
 public:
  Samples(const Engine& engine, const std::string& text, const Options& options)
      : engine_(engine), options_(options), text_(engine.encode_prompt(text)) {
    // The last tenth is held out.
    training_tokens_ = std::ssize(text_) * 9 / 10;
    MNEME_CHECK(std::ssize(text_) - training_tokens_ > options.length, options.text, ": ",
                text_.size(), " tokens are too few, expected more than ", 10 * options.length,
                ": prompts of ", options.length, " tokens are cut from it, a tenth is held out");
  }

  FluxSample needle(uint64_t seed) const {
    Rng rng(seed);
    const auto cases =
        needle_cases(engine_.tokenizer(), {.lengths = {options_.length - kAnswerRoom},
                                           .depths = {rng.uniform()},
                                           .seed = rng.next() >> 1});
    FluxSample sample{.tokens = cases[0].prompt, .prompt = cases[0].length, .task = kNeedle};
    sample.tokens.insert(sample.tokens.end(), cases[0].expected.begin(), cases[0].expected.end());
    return sample;
  }

  FluxSample plain(uint64_t seed, bool held_out) const {
    Rng rng(seed);
    const int64_t begin = held_out ? training_tokens_ : 0;
    const int64_t end = held_out ? std::ssize(text_) : training_tokens_;
    const auto first = text_.begin() + begin + rng.below(end - begin - options_.length);
    return {.tokens = {first, first + options_.length},
            .prompt = options_.length - options_.answer,
            .task = kPlain};
  }

  std::vector<FluxSample> batch(int64_t number, int64_t count, bool held_out) const {
    // The same ones are held out, whatever the seed of the run.
    const uint64_t run = held_out ? 0 : options_.training.seed + 1;
    Rng rng((run << 32) + static_cast<uint64_t>(number));
    std::vector<FluxSample> samples;
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t own = rng.next();
      samples.push_back(i % 2 == 0 ? needle(own) : plain(own, held_out));
    }
    return samples;
  }

 private:
  const Engine& engine_;
  const Options& options_;
  std::vector<int32_t> text_;
  int64_t training_tokens_ = 0;
};

// Means over the samples of a task.
struct TaskMeans {
  double sparsity = 0, loss = 0;
  int64_t count = 0;

  void add(const FluxStep& step, size_t sample) {
    sparsity += step.sparsity[sample];
    loss += step.language_losses[sample];
    ++count;
  }
  double mean_sparsity() const { return count == 0 ? 0 : sparsity / static_cast<double>(count); }
  double mean_loss() const { return count == 0 ? 0 : loss / static_cast<double>(count); }
};

std::vector<TaskMeans> means_of(const FluxStep& step, const std::vector<FluxSample>& samples) {
  std::vector<TaskMeans> means(2);
  for (size_t i = 0; i < samples.size(); ++i)
    means[static_cast<size_t>(samples[i].task)].add(step, i);
  return means;
}

// What was seen from step to step, as charts.
class History {
 public:
  void add(const FluxStep& step, const std::vector<TaskMeans>& means) {
    const auto x = static_cast<double>(step.step);
    for (size_t task = 0; task < 2; ++task) {
      sparsity_[task].points.emplace_back(x, means[task].mean_sparsity());
      losses_[task].points.emplace_back(x, means[task].mean_loss());
    }
    losses_[2].points.emplace_back(x, step.sparsity_loss);
  }

  void write(const std::string& path, const std::string& spec) const {
    const auto chart = [](const char* id, const char* title, const char* y,
                          const std::vector<ChartSeries>& series) {
      std::string html = concat("<div class=\"card\"><h3>", title, "</h3>",
                                line_chart({.id = id,
                                            .title = title,
                                            .description = concat(title, " by step"),
                                            .x_label = "step",
                                            .y_label = y},
                                           series),
                                "<ul class=\"legend\">");
      for (const ChartSeries& one : series)
        html += concat("<li>", legend_marker(one.style), html_escape(one.name), "</li>");
      return html + "</ul></div>";
    };
    write_file_atomically(
        path, concat("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Training of "
                     "routers</title><style>",
                     kReportStyle, "</style><main><h1>Training of routers</h1><p class=\"spec\">",
                     html_escape(spec), "</p><div class=\"grid\">",
                     chart("losses", "Loss", "nats", losses_),
                     chart("sparsity", "Layers that stream", "share", sparsity_),
                     "</div></main></html>\n"));
  }

 private:
  std::vector<ChartSeries> sparsity_ = {{kTaskNames[0], 0, {}}, {kTaskNames[1], 1, {}}};
  std::vector<ChartSeries> losses_ = {{std::string(kTaskNames[0]) + ", cross entropy", 0, {}},
                                      {std::string(kTaskNames[1]) + ", cross entropy", 1, {}},
                                      {"sparsity loss", 2, {}}};
};

std::string task_text(const std::vector<TaskMeans>& means) {
  std::string text;
  for (size_t task = 0; task < 2; ++task) {
    if (means[task].count == 0) continue;
    text += concat(text.empty() ? "" : "; ", kTaskNames[task], ": ",
                   fixed_number(100 * means[task].mean_sparsity(), 1), " % stream, loss ",
                   fixed_number(means[task].mean_loss(), 4));
  }
  return text;
}

void evaluate(const FluxTrainer& trainer, const Samples& samples, const Options& options,
              const char* when) {
  if (options.held_out == 0) return;
  std::vector<TaskMeans> all(2);
  for (int64_t done = 0; done < options.held_out; done += options.batch) {
    const auto batch = samples.batch(done, std::min(options.batch, options.held_out - done), true);
    const FluxStep step = trainer.evaluate(batch);
    for (size_t i = 0; i < batch.size(); ++i) all[static_cast<size_t>(batch[i].task)].add(step, i);
  }
  std::cout << "held out, " << when << ": " << task_text(all) << std::endl;
}

int train_router(Options options) {
  options.training.softmax = options.form == "softmax";
  MNEME_CHECK(options.answer < options.length && options.length > 2 * kAnswerRoom, "--length ",
              options.length, " holds no prompt before an answer of ", options.answer);
  const auto engine = options.model.open();
  at::set_num_threads(engine->pool().size());
  const Samples samples(*engine, read_prompt("", options.text), options);
  const train::FrozenDecoder model(engine->model(),
                                   options.precision == "bf16" ? at::kBFloat16 : at::kFloat);
  FluxTrainer trainer(model, {options.needle_target, options.plain_target}, options.training);
  evaluate(trainer, samples, options, "before");

  History history;
  const auto started = std::chrono::steady_clock::now();
  {
    Progress progress("training", "steps", options.training.steps, progress_style(options.quiet));
    for (int64_t step = 0; step < options.training.steps && !interrupted(); ++step) {
      const auto batch = samples.batch(step, options.batch, false);
      const FluxStep report = trainer.step(batch);
      const auto means = means_of(report, batch);
      history.add(report, means);
      progress.update(step + 1, concat(task_text(means), "; tau ", fixed_number(report.tau, 2)));
      const bool last = step + 1 == options.training.steps;
      if (last || (step + 1) % options.checkpoint == 0) {
        trainer.save(options.out);
        if (!options.plot.empty()) history.write(options.plot, trainer.spec(options.out));
      }
    }
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  if (interrupted()) trainer.save(options.out);
  evaluate(trainer, samples, options, "after");
  std::cout << trainer.steps_done() << " steps in " << fixed_number(seconds, 1) << " s ("
            << fixed_number(
                   seconds / static_cast<double>(std::max<int64_t>(1, trainer.steps_done())), 2)
            << " s each)\n"
            << trainer.spec(options.out) << std::endl;
  return interrupted() ? 130 : 0;
}

}  // namespace

void add_train_router(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  train::FluxTrainingOptions& training = options->training;
  CLI::App* command = app.add_subcommand(
      "router", "Train the routers of the memory `flux` beside a frozen llama model");
  options->model.add_to(*command);
  const auto integer = [&](const char* name, int64_t& value, int64_t least, const char* help) {
    command->add_option(name, value, help)
        ->check(CLI::Range(least, int64_t{1} << 30))
        ->capture_default_str();
  };
  const auto real = [&](const char* name, double& value, double most, const char* help) {
    command->add_option(name, value, help)->check(CLI::Range(0.0, most))->capture_default_str();
  };
  command
      ->add_option("-f,--file", options->text,
                   "plain text to cut prompts from, '-': standard input")
      ->required();
  command->add_option("-o,--out", options->out, "safetensors file of the routers")->required();
  command->add_option("--plot", options->plot, "HTML page with the curves of the run");
  integer("--steps", training.steps, 1, "steps");
  integer("--batch", options->batch, 2, "prompts a step, every second one a needle prompt");
  integer("--length", options->length, 32, "tokens of a prompt with its answer");
  integer("--answer", options->answer, 1, "last tokens of a plain text that are its answer");
  integer("--sink", training.sink, 1, "first positions that a layer that streams sees");
  integer("--window", training.window, 1, "newest positions that it sees");
  integer("--block", training.block, 1, "sink and window are whole blocks");
  integer("--pool", training.pool, 1, "queries at each end of a prompt that routers look at");
  integer("--checkpoint", options->checkpoint, 1, "write the routers every so many steps");
  integer("--held-out", options->held_out, 0, "prompts to judge by before and after");
  real("--needle-target", options->needle_target, 1, "share of layers to stream on needle prompts");
  real("--plain-target", options->plain_target, 1, "the same on plain text");
  real("--rate", training.learning_rate, 1, "learning rate");
  real("--lambda-rate", training.lambda_rate, 1, "learning rate of the sparsity loss's weights");
  real("--full-bias", training.full_bias, 100,
       "how sure routers are of full attention at the start");
  command->add_option("--form", options->form, "of the routers' output")
      ->check(CLI::IsMember({"softmax", "sigmoid"}))
      ->capture_default_str();
  command->add_option("--precision", options->precision, "of the frozen model's products")
      ->check(CLI::IsMember({"bf16", "f32"}))
      ->capture_default_str();
  command->add_option("--seed", training.seed, "of the routers, the noise and the prompts")
      ->capture_default_str();
  command->add_flag("-q,--quiet", options->quiet, "no progress");
  command->footer(
      "Example:\n  mneme train router --file essay.txt --out routers.safetensors\n  mneme run "
      "--memory 'flux(routers=routers.safetensors,sink=32,window=128,block=32,pool=32)' ...");
  command->callback([options, &action] { action = [options] { return train_router(*options); }; });
}

}  // namespace mneme::app
