#include "mneme/models/load_model.h"

#include "mneme/core/error.h"
#include "mneme/io/hash.h"
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
  Hash hash;
  hash.add_text(model.config().text());
  if (model.linear_form() != "file") hash.add_text(model.linear_form());
  for (const TensorView& tensor : model.source().tensors()) {
    hash.add_text(
        concat(tensor.name, ' ', dtype_name(tensor.dtype), ' ', shape_text(tensor.shape)));
    hash.add(tensor.data, tensor.bytes);
  }
  return hash.text();
}

}  // namespace mneme
