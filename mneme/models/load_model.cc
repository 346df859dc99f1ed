#include "mneme/models/load_model.h"

#include <xxhash.h>

#include <array>
#include <cstdio>

#include "mneme/core/error.h"
#include "mneme/models/gemma3.h"
#include "mneme/models/llama.h"

namespace mneme {

std::unique_ptr<DecoderModel> load_model(std::shared_ptr<const GgufFile> file) {
  const int64_t parts = file->integer_or("split.count", 0);
  MNEME_CHECK(parts <= 1, file->origin(), ": is one of ", parts,
              " parts of a split model; join them into one file first");
  const std::string architecture = file->text("general.architecture");
  if (architecture == "llama") return load_llama(std::move(file));
  if (architecture == "gemma3") return load_gemma3(std::move(file));
  fail(file->origin(), ": model architecture '", architecture,
       "' is not supported; llama and gemma3 are");
}

std::string model_fingerprint(const DecoderModel& model) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       XXH3_freeState);
  MNEME_ASSERT(state != nullptr && XXH3_128bits_reset(state.get()) == XXH_OK);
  const auto update = [&](const void* data, int64_t bytes) {
    XXH3_128bits_update(state.get(), data, static_cast<size_t>(bytes));
  };
  const std::string config = model.config().text();
  update(config.data(), static_cast<int64_t>(config.size()));
  for (const TensorView& tensor : model.source().tensors()) {
    const std::string header = concat('\n', tensor.name, ' ', dtype_name(tensor.dtype), ' ',
                                      shape_text(tensor.shape), '\n');
    update(header.data(), static_cast<int64_t>(header.size()));
    update(tensor.data, tensor.bytes);
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  std::array<char, 33> text;
  std::snprintf(text.data(), text.size(), "%016llx%016llx",
                static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text.data();
}

}  // namespace mneme
