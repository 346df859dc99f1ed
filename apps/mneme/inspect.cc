// mneme inspect, mneme check: what is in a model file, and whether its numbers are numbers.
#include <cstdio>
#include <iostream>

#include "apps/mneme/command.h"
#include "apps/mneme/memory_json.h"
#include "mneme/core/error.h"
#include "mneme/io/gguf.h"
#include "mneme/io/safetensors.h"
#include "mneme/io/tensor_check.h"

namespace mneme::app {
namespace {

constexpr size_t kShownElements = 8;

struct ModelFile {
  std::unique_ptr<TensorSource> tensors;
  nlohmann::ordered_json metadata = nlohmann::ordered_json::object();
  const char* format = "";
};

template <typename Element>
nlohmann::ordered_json array_json(const std::vector<Element>& values, bool whole) {
  if (whole || values.size() <= kShownElements) return values;
  const std::vector<Element> head(values.begin(), values.begin() + kShownElements);
  return {{"first", head}, {"count", values.size()}};
}

nlohmann::ordered_json value_json(const GgufValue& value, bool whole) {
  return std::visit(
      [&]<typename T>(const T& held) -> nlohmann::ordered_json {
        if constexpr (requires { held.begin(); } && !std::is_same_v<T, std::string>) {
          return array_json(held, whole);
        } else {
          return held;
        }
      },
      value);
}

ModelFile open_file(const std::string& path, bool whole) {
  ModelFile file;
  if (path.ends_with(".safetensors")) {
    auto safetensors = SafetensorsFile::open(path);
    for (const auto& [key, value] : safetensors->metadata()) file.metadata[key] = value;
    file.format = "safetensors";
    file.tensors = std::move(safetensors);
  } else {
    auto gguf = GgufFile::open(path);
    for (const auto& [key, value] : gguf->metadata()) file.metadata[key] = value_json(value, whole);
    file.format = "GGUF";
    file.tensors = std::move(gguf);
  }
  return file;
}

std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

int inspect(const std::string& path, bool json, bool whole) {
  const ModelFile file = open_file(path, whole || json);
  int64_t bytes = 0;
  auto tensors = nlohmann::ordered_json::array();
  for (const TensorView& tensor : file.tensors->tensors()) {
    bytes += tensor.bytes;
    tensors.push_back({{"name", tensor.name},
                       {"dtype", dtype_name(tensor.dtype)},
                       {"shape", tensor.shape},
                       {"bytes", tensor.bytes}});
  }
  if (json) {
    std::cout << json_text({{"file", path},
                            {"format", file.format},
                            {"metadata", file.metadata},
                            {"tensors", tensors},
                            {"tensor_bytes", bytes}})
              << "\n";
    return 0;
  }
  std::cout << path << ": " << file.format << ", " << tensors.size() << " tensors, "
            << bytes_text(bytes) << "\n";
  for (const auto& [key, value] : file.metadata.items())
    std::cout << "  " << key << " = " << dump(value) << "\n";
  for (const TensorView& tensor : file.tensors->tensors()) {
    std::printf("  %-44s %-5s %-20s %12s\n", tensor.name.c_str(),
                std::string(dtype_name(tensor.dtype)).c_str(), shape_text(tensor.shape).c_str(),
                bytes_text(tensor.bytes).c_str());
  }
  std::fflush(stdout);
  return 0;
}

int check(const std::string& path, bool json, bool quiet) {
  const ModelFile file = open_file(path, false);
  auto faults = nlohmann::ordered_json::array();
  int64_t done = 0;
  {
    Progress progress("check", "tensors", static_cast<int64_t>(file.tensors->tensors().size()),
                      progress_style(quiet || json));
    for (const TensorView& tensor : file.tensors->tensors()) {
      const NonFiniteCount count = count_non_finite(tensor);
      if (count.nan + count.inf > 0)
        faults.push_back({{"tensor", tensor.name}, {"nan", count.nan}, {"infinite", count.inf}});
      progress.update(++done);
      if (interrupted()) return 130;
    }
  }
  if (json) {
    std::cout << json_text({{"file", path}, {"tensors", done}, {"faults", faults}}) << "\n";
  } else {
    for (const auto& fault : faults) {
      std::cout << fault["tensor"].get<std::string>() << ": " << fault["nan"] << " NaN, "
                << fault["infinite"] << " infinite\n";
    }
    if (!quiet)
      std::cout << path << ": " << done << " tensors, " << faults.size()
                << " with values that are not finite\n";
  }
  return faults.empty() ? 0 : 2;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  struct Options {
    std::string file;
    bool json = false, whole = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("inspect", "Header, shapes and types of a GGUF or safetensors file");
  command->add_option("file", options->file, "the file")->required();
  command->add_flag("--json", options->json, "print one JSON object");
  command->add_flag("--whole", options->whole, "print long metadata arrays whole");
  command->footer("Example:\n  mneme inspect model.gguf");
  command->callback([options, &action] {
    action = [options] { return inspect(options->file, options->json, options->whole); };
  });
}

void add_check(CLI::App& app, Action& action) {
  struct Options {
    std::string file;
    bool json = false, quiet = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("check", "Look for NaN and infinity in the weights of a file");
  command->add_option("file", options->file, "the file")->required();
  command->add_flag("--json", options->json, "print one JSON object");
  command->add_flag("-q,--quiet", options->quiet, "print faults only");
  command->footer("Example:\n  mneme check model.gguf\nExit code 2 when there are any.");
  command->callback([options, &action] {
    action = [options] { return check(options->file, options->json, options->quiet); };
  });
}

}  // namespace mneme::app
