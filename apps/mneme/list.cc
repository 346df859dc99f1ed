// mneme list, mneme explain: the memories that are there, from the registry itself.
#include <cstdio>
#include <iostream>

#include "apps/mneme/command.h"
#include "apps/mneme/memory_json.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/models/weight_format.h"

namespace mneme::app {
namespace {

// Capabilities depend on the memory, not on the model: any small shape shows them.
Capabilities capabilities_of(const std::string& spec) {
  const MemoryShape shape{
      .q_heads = 2, .kv_heads = 1, .k_dim = 128, .v_dim = 128, .context = 1024, .windows = {0}};
  return MemoryRegistry::builtin().build(spec, shape)->capabilities();
}

std::vector<std::string> names_of(const Capabilities& can) {
  std::vector<std::string> names;
  if (can.exact) names.emplace_back("exact");
  if (can.trim) names.emplace_back("trim");
  if (can.fork) names.emplace_back("fork");
  if (can.persist) names.emplace_back("persist");
  if (can.beyond_context) names.emplace_back("beyond-context");
  return names;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

nlohmann::ordered_json entry_json(const MemoryEntry& entry) {
  auto parameters = nlohmann::ordered_json::array();
  for (const ParameterInfo& parameter : entry.parameters) {
    nlohmann::ordered_json json = {
        {"name", parameter.name}, {"default", parameter.fallback}, {"help", parameter.help}};
    if (parameter.type == ParameterInfo::Type::kChoice) {
      json["choices"] = parameter.choices;
    } else if (parameter.type != ParameterInfo::Type::kText) {
      json["min"] = parameter.min;
      json["max"] = parameter.max;
    }
    parameters.push_back(std::move(json));
  }
  return {{"spec", MemoryRegistry::builtin().canonical(entry.name)},
          {"name", entry.name},
          {"summary", entry.summary},
          {"paper", entry.paper},
          {"kind", entry.kind},
          {"state", entry.state},
          {"capabilities", names_of(capabilities_of(entry.name))},
          {"parameters", std::move(parameters)},
          {"source", entry.source}};
}

int list(bool json, bool markdown) {
  const auto& entries = MemoryRegistry::builtin().entries();
  if (json) {
    auto all = nlohmann::ordered_json::array();
    for (const MemoryEntry& entry : entries) all.push_back(entry_json(entry));
    std::cout << json_text(all) << "\n";
    return 0;
  }
  if (markdown) {
    std::cout << "| memory | kind | what it keeps | bytes | can | paper | source |\n| --- | --- | "
                 "--- | --- | --- | --- | --- |\n";
    for (const MemoryEntry& entry : entries) {
      std::cout << "| `" << MemoryRegistry::builtin().canonical(entry.name) << "` | " << entry.kind
                << " | " << entry.summary << " | `" << entry.state << "` | "
                << joined(names_of(capabilities_of(entry.name))) << " | " << entry.paper << " | ["
                << entry.source << "](" << entry.source << ") |\n";
    }
    return 0;
  }
  for (const MemoryEntry& entry : entries) {
    std::printf("%-30s %-11s %s\n", MemoryRegistry::builtin().canonical(entry.name).c_str(),
                entry.kind.c_str(), entry.summary.c_str());
  }
  std::printf(
      "\nOne row format and one row policy may be joined: sliding(window=512,sink=4)+q8. `mneme "
      "explain SPEC` tells more.\n");
  return 0;
}

int explain(const std::string& text, bool json) {
  if (const std::string name = parse_spec(text).terms.front().name; name == "int8") {
    const std::string form = parse_weight_format(text).text();
    if (json) {
      std::cout << json_text({{"spec", form}, {"card", weight_format_card()}}) << "\n";
    } else {
      std::cout << weight_format_card();
    }
    return 0;
  }
  const MemoryRegistry& registry = MemoryRegistry::builtin();
  const std::string canonical = registry.canonical(text);
  const Capabilities can = capabilities_of(text);
  if (json) {
    nlohmann::ordered_json card = {{"spec", canonical},
                                   {"capabilities", names_of(can)},
                                   {"parts", nlohmann::ordered_json::array()}};
    for (const SpecTerm& term : parse_spec(text).terms)
      card["parts"].push_back(entry_json(registry.entry(term.name)));
    std::cout << json_text(card) << "\n";
    return 0;
  }
  std::cout << canonical << "\n  can: " << joined(names_of(can)) << "\n";
  for (const SpecTerm& term : parse_spec(text).terms) {
    const MemoryEntry& entry = registry.entry(term.name);
    std::cout << "\n"
              << entry.name << " (" << entry.kind << "): " << entry.summary << "\n  paper   "
              << entry.paper << "\n  bytes   " << entry.state << "\n  source  " << entry.source
              << "\n";
    for (const ParameterInfo& parameter : entry.parameters) {
      std::cout << "  " << parameter.name << "=" << parameter.fallback << "  " << parameter.help;
      if (parameter.type == ParameterInfo::Type::kChoice) {
        std::cout << " (" << joined(parameter.choices) << ")";
      } else if (parameter.type != ParameterInfo::Type::kText) {
        std::cout << " (" << parameter.min << " to " << parameter.max << ")";
      }
      std::cout << "\n";
    }
  }
  return 0;
}

}  // namespace

void add_list(CLI::App& app, Action& action) {
  struct Options {
    bool json = false, markdown = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("list", "The memories that are there");
  command->add_flag("--json", options->json,
                    "print an array of {spec, paper, kind, state, capabilities}");
  command->add_flag("--markdown", options->markdown, "print the table of the README");
  command->footer("Example:\n  mneme list --json");
  command->callback([options, &action] {
    action = [options] { return list(options->json, options->markdown); };
  });
}

void add_explain(CLI::App& app, Action& action) {
  struct Options {
    std::string spec;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("explain",
                                         "The card of one memory (paper, bytes, parameters, what "
                                         "it can), or of the weights' form int8");
  command->add_option("spec", options->spec, "memory spec, or int8")->required();
  command->add_flag("--json", options->json, "print one JSON object");
  command->footer("Example:\n  mneme explain 'sliding(window=1024)+q4'");
  command->callback(
      [options, &action] { action = [options] { return explain(options->spec, options->json); }; });
}

}  // namespace mneme::app
