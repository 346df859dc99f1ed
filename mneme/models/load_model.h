// A model by the architecture its file names. Tests: load_model_test.cc.
#pragma once

#include <memory>
#include <string>

#include "mneme/io/gguf.h"
#include "mneme/models/decoder.h"

namespace mneme {

// Throws Error naming the file, the architecture and those that are known.
std::unique_ptr<DecoderModel> load_model(std::shared_ptr<const GgufFile> file);

// A hash over the configuration, every weight and the form of the linear layers: two models with the
// same fingerprint compute the same function. Reads the whole file.
std::string model_fingerprint(const DecoderModel& model);

}  // namespace mneme
