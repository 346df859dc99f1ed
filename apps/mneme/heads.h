// What the commands under `mneme heads` share.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/mneme/command.h"
#include "mneme/core/head_table.h"

namespace mneme::app {

void add_heads_retrieval(CLI::App& heads, Action& action);
void add_heads_conflict(CLI::App& heads, Action& action);

inline nlohmann::ordered_json heads_json(const std::vector<HeadId>& heads) {
  auto list = nlohmann::ordered_json::array();
  for (const HeadId& head : heads) list.push_back({head.layer, head.head});
  return list;
}

// "(18,6) (23,2)"
inline std::string heads_text(const std::vector<HeadId>& heads) {
  std::string text;
  for (const HeadId& head : heads) text += (text.empty() ? "" : " ") + head_text(head);
  return text;
}

}  // namespace mneme::app
