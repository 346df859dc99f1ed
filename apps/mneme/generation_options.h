// The options of `run` and `chat` that shape generated text.
#pragma once

#include <CLI/CLI.hpp>

#include "mneme/runtime/generate.h"

namespace mneme::app {

inline void add_generation_options(CLI::App& command, GenerateOptions& options) {
  command.add_option("-n,--max-tokens", options.max_tokens, "tokens to generate at most")
      ->capture_default_str();
  command.add_option("--temperature", options.sampler.temperature, "0: always the likeliest token")
      ->capture_default_str();
  command
      .add_option("--top-k", options.sampler.top_k,
                  "keep this many of the likeliest tokens, 0: all")
      ->capture_default_str();
  command
      .add_option("--top-p", options.sampler.top_p,
                  "keep the likeliest tokens up to this probability")
      ->capture_default_str();
  command
      .add_option("--min-p", options.sampler.min_p,
                  "drop tokens less likely than this share of the likeliest")
      ->capture_default_str();
  command
      .add_option("--repetition-penalty", options.sampler.repetition_penalty,
                  "above 1: recent tokens become less likely")
      ->capture_default_str();
  command.add_option("--seed", options.sampler.seed, "of the random draws")->capture_default_str();
  command.add_option("--stop", options.stop, "text that ends the answer (repeatable)")
      ->allow_extra_args(false);
  command.add_flag("--ignore-end", options.ignore_end, "go on past the model's end-of-text token");
  command
      .add_option("--chunk", options.chunk,
                  "prompt tokens in one step (default: 512, or the whole prompt where the memory "
                  "judges it as a whole)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
}

}  // namespace mneme::app
