// Uses the installed package: names a memory by its spec string, keeps a tensor in a safetensors
// file together with that spec, and reads both back.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/core/spec.h"
#include "mneme/io/safetensors.h"

namespace {

void run(const std::string& path) {
  const mneme::Spec spec = mneme::parse_spec("sliding(window=512, sink=4) + q8");
  const std::string text = mneme::spec_text(spec.terms);

  const std::vector<float> rows = {0.5f, -1.0f, 2.0f, 0.25f, 8.0f, -3.5f};  // [2, 3]
  mneme::TensorView view;
  view.name = "rows";
  view.dtype = mneme::DType::kF32;
  view.shape = {2, 3};
  view.data = reinterpret_cast<const std::byte*>(rows.data());
  view.bytes = static_cast<int64_t>(rows.size() * sizeof(float));
  mneme::write_safetensors(path, {view}, {{"memory", text}});

  const auto file = mneme::SafetensorsFile::open(path);
  const mneme::TensorView* read = file->find("rows");
  MNEME_CHECK(read != nullptr, "consumer: no tensor 'rows' in ", path);
  MNEME_CHECK(read->bytes == view.bytes &&
                  std::memcmp(read->data, view.data, rows.size() * sizeof(float)) == 0,
              "consumer: ", path, " does not hold what was written");
  MNEME_CHECK(file->metadata().at("memory") == text, "consumer: the spec changed on its way");
  std::printf("%s: rows %s, memory %s\n", path.c_str(), mneme::shape_text(read->shape).c_str(),
              text.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: consumer FILE.safetensors\n");
    return 2;
  }
  try {
    run(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return 0;
}
