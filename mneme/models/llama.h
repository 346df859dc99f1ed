// Llama-family decoders (SmolLM2, Llama 2 and 3): RMS norms before attention and feed-forward, SiLU
// gate, grouped queries, rotary positions. From a GGUF file, whose query and key rows are permuted
// for interleaved rotary pairs, or from tensors with the names of the Hugging Face state dict,
// whose pairs are the two halves. Tests: decoder_test.cc, load_model_test.cc.
#pragma once

#include <memory>
#include <string_view>

#include "mneme/io/gguf.h"
#include "mneme/models/decoder.h"

namespace mneme {

// Throws Error naming the file and what is missing, surplus or out of range.
std::unique_ptr<DecoderModel> load_llama(std::shared_ptr<const GgufFile> file);

// `config_json` is the text of a Hugging Face config.json with model_type llama (or absent),
// hidden_act silu.
std::unique_ptr<DecoderModel> load_llama_state_dict(std::string_view config_json,
                                                    std::shared_ptr<const TensorSource> tensors);

}  // namespace mneme
