// mneme profile hylra: which layers of a model may read what another one chose.
#include <iostream>

#include "apps/mneme/memory_json.h"
#include "apps/mneme/profile.h"
#include "mneme/cache/policy/hylra.h"
#include "mneme/core/error.h"
#include "mneme/interpret/hylra_profiler.h"

namespace mneme::app {
namespace {

struct Options {
  ModelOptions model;
  HylraStudyOptions study;
  std::string prompt, file, out;
  int64_t tokens = 2048;
  bool json = false, quiet = false;
};

int profile(Options options) {
  const std::string text = read_prompt(options.prompt, options.file);
  const auto engine = options.model.open();
  std::vector<int32_t>& tokens = options.study.tokens;
  tokens = engine->encode_prompt(text);
  tokens.resize(std::min(tokens.size(), static_cast<size_t>(options.tokens)));
  HylraStudy study;
  {
    Progress progress("profile", "tokens", std::ssize(tokens),
                      progress_style(options.quiet || options.json));
    study =
        profile_hylra(engine->model(), engine->pool(), options.study, [&](int64_t done, int64_t) {
          progress.update(done);
          return !interrupted();
        });
  }
  if (!study.complete) return 130;
  const MemoryShape& shape = engine->model().memory_shape();
  if (!options.out.empty()) write_hylra_plan(options.out, study.plan, shape.model_fingerprint);
  if (options.json) {
    std::cout << json_text({{"layers", study.layers},
                            {"sensitivity", study.sensitivity},
                            {"sensitive", study.sensitive},
                            {"plan", study.plan},
                            {"full_layers", study.full_layers()},
                            {"file", options.out}})
              << "\n";
    return 0;
  }
  const auto layers = study.layers.size();
  std::cout << "layer  blocks needed  reads\n";
  for (size_t i = 0; i < layers; ++i) {
    const int64_t layer = study.layers[i], source = study.plan[static_cast<size_t>(layer)];
    std::printf("%5lld  %12.1f%%  ", static_cast<long long>(layer), 100 * study.sensitivity[i]);
    if (source < 0) {
      std::printf("everything\n");
      continue;
    }
    const auto at =
        static_cast<size_t>(std::ranges::find(study.layers, source) - study.layers.begin());
    std::printf("what layer %lld chose (overlap %.2f)\n", static_cast<long long>(source),
                study.overlap[at * layers + i]);
  }
  std::printf("%lld of %zu layers attend in full\n", static_cast<long long>(study.full_layers()),
              study.plan.size());
  if (!options.out.empty())
    std::printf("written to %s; use it as --memory 'hylra(profile=%s)'\n", options.out.c_str(),
                options.out.c_str());
  std::fflush(stdout);
  return 0;
}

}  // namespace

void add_profile_hylra(CLI::App& profiles, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* hylra = profiles.add_subcommand(
      "hylra", "Which layers may read the blocks that another layer chose, for --memory hylra");
  options->model.add_to(*hylra);
  HylraStudyOptions& study = options->study;
  hylra->add_option("-p,--prompt", options->prompt, "the calibration text");
  hylra->add_option("-f,--file", options->file, "its file; - is standard input");
  hylra->add_option("--tokens", options->tokens, "of the text at most")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20))
      ->capture_default_str();
  hylra->add_option("--steps", study.steps, "of its last tokens, decoded and watched")
      ->capture_default_str();
  hylra->add_option("--theta", study.theta, "least overlap of a layer that reads another's blocks")
      ->capture_default_str();
  hylra->add_option("--block", study.profile.block, "rows of a block")->capture_default_str();
  hylra->add_option("--preserved", study.profile.preserved, "rows a reading layer reads")
      ->capture_default_str();
  hylra->add_option("--sparsity", study.profile.sparsity, "share of the layers that may be sparse")
      ->capture_default_str();
  hylra->add_option("-o,--out", options->out, "write the profile to this file");
  hylra->add_flag("--json", options->json, "print one JSON object");
  hylra->add_flag("-q,--quiet", options->quiet, "no progress");
  hylra->footer(
      "Example:\n  mneme profile hylra --file book.txt --out smollm2.hylra.json\n"
      "  mneme run --memory 'hylra(profile=smollm2.hylra.json)' --file long.txt");
  hylra->callback([options, &action] { action = [options] { return profile(*options); }; });
}

}  // namespace mneme::app
