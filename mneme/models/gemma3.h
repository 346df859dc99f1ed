// Gemma 3 text decoders: five layers with a sliding window of their own, then one that sees
// everything; a rotary base for each kind; RMS norms on queries and keys and after attention and
// feed-forward as well as before; tanh-GELU gate; embeddings scaled by sqrt(hidden). GGUF stores
// norm weights as 1 + w already. Tests: load_model_test.cc.
#pragma once

#include <memory>

#include "mneme/io/gguf.h"
#include "mneme/models/decoder.h"

namespace mneme {

// Throws Error naming the file and what is missing, surplus or out of range.
std::unique_ptr<DecoderModel> load_gemma3(std::shared_ptr<const GgufFile> file);

}  // namespace mneme
