// Facts a language model may know, for conflicts between memory and context (papers/34 section 3.2):
// countries and their capitals. Tests: conflict_prompts_test.cc.
#pragma once

#include <span>
#include <string_view>

namespace mneme {

struct Fact {
  std::string_view subject, answer;
};

inline constexpr std::string_view kCapitalStem = "The name of the capital city of {} is";

std::span<const Fact> world_capitals();

}  // namespace mneme
