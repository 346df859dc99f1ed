#!/usr/bin/env python3
"""Measures llama.cpp through its C interface: tokens/s of prefill and decode for one GGUF file, f16 KV cache.

Without --config every configuration is tried (flash attention on and off; batches of 512 and 2,048 tokens) and the
output is {"prefill": {"512": {"best": tokens/s, "config": name, "all": {config: tokens/s}}, ...}, "decode": {...}}.
With --config NAME it prints {metric: tokens/s} of that one, for compare_llama_cpp.py.

Random tokens are fed and no token is sampled, so that nothing but the model is timed; logits are computed for the last
token of a prompt only. Runs in build/bench-venv (tools/bench/make_venv.sh).
"""
import argparse
import ctypes
import json
import random
import statistics
import sys
import time

import llama_cpp

CONFIGS = {
    f"flash={flash},batch={batch}": (flash == "on", batch)
    for flash in ("on", "off")
    for batch in (512, 2048)
}
METRICS = ["prefill_512", "prefill_2048", "decode_128", "decode_2048", "decode_4096"]
DECODED = 32  # tokens a decode measurement takes the time of


class Peer:
    def __init__(self, model_path, threads, config, context):
        flash, batch = CONFIGS[config]
        self.batch = batch
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(model_path.encode(), model_params)
        if not self.model:
            raise SystemExit(f"peer_llama_cpp.py: llama.cpp cannot load {model_path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = context
        params.n_batch = params.n_ubatch = batch
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = 1 if flash else 0
        params.type_k = params.type_v = llama_cpp.GGML_TYPE_F16
        # Sliding layers of Gemma keep their window only, which is the faster way.
        params.swa_full = False
        params.no_perf = True
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise SystemExit(f"peer_llama_cpp.py: llama.cpp makes no context of {context} tokens with {config}")
        self.memory = llama_cpp.llama_get_memory(self.context)
        vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        draw = random.Random(1)
        self.tokens = (llama_cpp.llama_token * context)(*[draw.randrange(vocabulary) for _ in range(context)])
        self.filled = 0

    def clear(self):
        llama_cpp.llama_memory_clear(self.memory, False)
        self.filled = 0

    def feed(self, count):
        """Appends `count` tokens in one call, at most self.batch of them."""
        size = ctypes.sizeof(llama_cpp.llama_token)
        begin = ctypes.cast(ctypes.byref(self.tokens, self.filled * size), ctypes.POINTER(llama_cpp.llama_token))
        status = llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(begin, count))
        if status != 0:
            raise SystemExit(f"peer_llama_cpp.py: llama_decode failed with {status} at position {self.filled}")
        self.filled += count

    def fill(self, until):
        while self.filled < until:
            self.feed(min(self.batch, until - self.filled))
        llama_cpp.llama_synchronize(self.context)

    def decode(self, count):
        for _ in range(count):
            self.feed(1)
            llama_cpp.llama_synchronize(self.context)

    def warm_up(self):
        self.fill(min(self.batch, 512))
        self.decode(4)
        self.clear()

    def measure(self, metrics):
        """One value of each metric, in tokens/s. Contexts only grow, so nothing need be forgotten between them."""
        values = {}
        wanted = {kind: sorted(int(m.split("_")[1]) for m in metrics if m.startswith(kind)) for kind in ("prefill", "decode")}
        for length in wanted["prefill"]:
            self.clear()
            begin = time.perf_counter()
            self.fill(length)
            values[f"prefill_{length}"] = length / (time.perf_counter() - begin)
        self.clear()
        for length in wanted["decode"]:
            self.fill(length)
            begin = time.perf_counter()
            self.decode(DECODED)
            values[f"decode_{length}"] = DECODED / (time.perf_counter() - begin)
        self.clear()
        return values

    def close(self):
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def be_silent():
    """Keeps llama.cpp from writing to stderr; the result keeps the callback alive."""
    callback = llama_cpp.llama_log_callback(lambda level, text, user_data: None)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    return callback


def samples(model, threads, config, metrics, runs):
    """{metric: [tokens/s of each run]}"""
    # llama.cpp cuts its batch to the context, so the context holds a whole one whatever is measured.
    batch = CONFIGS[config][1]
    longest = max(batch, *(int(m.split("_")[1]) for m in metrics)) + DECODED * len(metrics)
    peer = Peer(model, threads, config, -(-longest // 256) * 256)
    peer.warm_up()
    collected = {metric: [] for metric in metrics}
    for _ in range(runs):
        for metric, value in peer.measure(metrics).items():
            collected[metric].append(value)
    peer.close()
    return collected


def best_of(by_config, metrics):
    """{kind: {length: {best, config, all}}} from {config: {metric: tokens/s}}"""
    report = {}
    for metric in metrics:
        kind, length = metric.split("_")
        values = {config: row[metric] for config, row in by_config.items()}
        best = max(values, key=values.get)
        report.setdefault(kind, {})[length] = {"best": values[best], "config": best, "all": values}
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--config", choices=CONFIGS)
    parser.add_argument("--metrics", default=",".join(METRICS))
    arguments = parser.parse_args()
    metrics = arguments.metrics.split(",")
    unknown = [m for m in metrics if m not in METRICS]
    if unknown:
        parser.error(f"unknown metrics {unknown}, expected some of {METRICS}")

    silence = be_silent()
    llama_cpp.llama_backend_init()
    by_config = {}
    for config in [arguments.config] if arguments.config else CONFIGS:
        values = samples(arguments.model, arguments.threads, config, metrics, arguments.runs)
        by_config[config] = {metric: statistics.median(v) for metric, v in values.items()}
    del silence
    result = by_config[arguments.config] if arguments.config else best_of(by_config, metrics)
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
