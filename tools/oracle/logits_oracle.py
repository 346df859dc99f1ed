#!/usr/bin/env python3
"""Reference logits and greedy tokens of a GGUF model, computed by transformers in float32 from dequantised weights.

Writes a golden file (tests/support/golden.h): for each prompt "<case>/in.input_ids" [T], "<case>/out.logits" [T, vocabulary] and
"<case>/out.greedy" [64], which mneme/runtime/logits_oracle_test.cc compares with ours:

  logits_oracle.py --model model.gguf --out /tmp/reference.safetensors
  MNEME_MODEL=model.gguf MNEME_LOGITS_ORACLE=/tmp/reference.safetensors build/bin/runtime_test --gtest_filter='LogitsOracle*'

Needs torch, transformers, gguf and safetensors; nothing in the product does.
"""
import argparse
import json
import pathlib

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea, there lived",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "Water boils at 100 degrees Celsius because",
    "Die Hauptstadt von Österreich ist Wien. 東京は日本の首都です。 2 + 2 = 4, 3 + 5 =",
]
GREEDY = 64


def field(reader, key, default=None):
    entry = reader.fields.get(key)
    return default if entry is None else entry.contents()


def unpermuted(weights, heads):
    """GGUF interleaves the two rotary halves of each head's rows; undo it."""
    rows, columns = weights.shape
    return weights.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def load_llama(reader, tensors):
    get = lambda key, default=None: field(reader, "llama." + key, default)
    heads, kv_heads = get("attention.head_count"), get("attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=tensors["token_embd.weight"].shape[0], hidden_size=get("embedding_length"),
        intermediate_size=get("feed_forward_length"), num_hidden_layers=get("block_count"), num_attention_heads=heads,
        num_key_value_heads=kv_heads, max_position_embeddings=get("context_length"), rope_theta=get("rope.freq_base"),
        rms_norm_eps=get("attention.layer_norm_rms_epsilon"), tie_word_embeddings="output.weight" not in tensors)
    config.rope_parameters = {"rope_type": "default", "rope_theta": get("rope.freq_base")}
    names = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
             "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    change = {"attn_q": lambda w: unpermuted(w, heads), "attn_k": lambda w: unpermuted(w, kv_heads)}
    return LlamaForCausalLM, config, names, change, lambda w: w


def load_gemma3(reader, tensors):
    get = lambda key, default=None: field(reader, "gemma3." + key, default)
    layers = get("block_count")
    config = Gemma3TextConfig(
        vocab_size=tensors["token_embd.weight"].shape[0], hidden_size=get("embedding_length"),
        intermediate_size=get("feed_forward_length"), num_hidden_layers=layers, num_attention_heads=get("attention.head_count"),
        num_key_value_heads=get("attention.head_count_kv"), head_dim=get("attention.key_length"),
        query_pre_attn_scalar=get("attention.key_length"), sliding_window=get("attention.sliding_window"),
        max_position_embeddings=get("context_length"), rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        layer_types=["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(layers)])
    config.rope_parameters = {"full_attention": {"rope_type": "default", "rope_theta": get("rope.freq_base")},
                              "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    names = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "attn_output": "self_attn.o_proj",
             "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
             "post_ffw_norm": "post_feedforward_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    return Gemma3ForCausalLM, config, names, {}, lambda w: w - 1.0  # GGUF stores norms as 1 + w


def load(path):
    reader = gguf.GGUFReader(path)
    tensors = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
    architecture = field(reader, "general.architecture")
    make, config, names, change, norm = {"llama": load_llama, "gemma3": load_gemma3}[architecture](reader, tensors)
    state = {}
    for name, weights in tensors.items():
        if weights.ndim == 1:
            weights = norm(weights)
        if name.startswith("blk."):
            _, layer, part, _ = name.split(".")
            state[f"model.layers.{layer}.{names[part]}.weight"] = torch.from_numpy(np.ascontiguousarray(change.get(part, lambda w: w)(weights)))
        else:
            top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
            state[top[name]] = torch.from_numpy(weights)
    config._attn_implementation = "eager"
    model = make(config).to(torch.float32).eval()
    missing, surplus = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if name != "lm_head.weight"]
    assert not missing and not surplus, (missing, surplus)
    model.tie_weights()
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    import llama_cpp  # the tokenizer only
    tokenizer = llama_cpp.Llama(arguments.model, vocab_only=True, verbose=False)
    model = load(arguments.model)
    torch.set_num_threads(2)
    out, metadata = {}, {"format": "golden-1", "provenance": f"transformers float32, weights dequantised from {pathlib.Path(arguments.model).name}"}
    with torch.no_grad():
        for i, prompt in enumerate(PROMPTS):
            ids = tokenizer.tokenize(prompt.encode(), add_bos=True, special=False)
            logits = model(torch.tensor([ids])).logits[0]
            greedy, sequence = [], list(ids)
            past, step = None, torch.tensor([sequence])
            for _ in range(GREEDY):
                result = model(step, past_key_values=past, use_cache=True)
                past, token = result.past_key_values, int(result.logits[0, -1].argmax())
                greedy.append(token)
                step = torch.tensor([[token]])
            out[f"prompt{i}/in.input_ids"] = np.array(ids, dtype=np.int64)
            out[f"prompt{i}/out.logits"] = logits.numpy()
            out[f"prompt{i}/out.greedy"] = np.array(greedy, dtype=np.int64)
            metadata[f"prompt{i}"] = json.dumps({"config": {"prompt": prompt}, "tolerance": {"abs": 2e-2, "rel": 0}, "note": ""})
    save_file(out, arguments.out, metadata=metadata)


if __name__ == "__main__":
    main()
