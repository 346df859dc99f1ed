#!/usr/bin/env python3
"""Runs ours and llama.cpp alternately on one GGUF file and prints the ratio of each speed: above 1, ours is faster.

First llama.cpp's best configuration is found for each speed (flash attention on or off, batch of 512 or 2,048). Then
come at least seven pairs of runs, each a process of its own, ours first in every other pair: what else the machine does
meets both. The ratio printed is the median of the pairs' ratios.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

import peer_llama_cpp as peer

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PEER = pathlib.Path(__file__).resolve().parent / "peer_llama_cpp.py"


def run_json(command):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SystemExit(f"compare_llama_cpp.py: {command[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def run_ours(arguments):
    values = run_json([arguments.ours, "--model", arguments.model, "--threads", str(arguments.threads), "--json"])
    missing = [metric for metric in peer.METRICS if metric not in values]
    if missing:
        raise SystemExit(f"compare_llama_cpp.py: {arguments.ours} --json gave no {', '.join(missing)}")
    return values


def run_peer(arguments, config, metrics, runs=1):
    return run_json([sys.executable, str(PEER), "--model", arguments.model, "--threads", str(arguments.threads),
                     "--runs", str(runs), "--config", config, "--metrics", ",".join(metrics)])


def find_best(arguments):
    """{config: [metrics where it is llama.cpp's fastest]}"""
    by_config = {config: run_peer(arguments, config, peer.METRICS, arguments.tuning_runs) for config in peer.CONFIGS}
    chosen = {}
    for metric in peer.METRICS:
        chosen.setdefault(max(by_config, key=lambda config: by_config[config][metric]), []).append(metric)
    return chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--tuning-runs", type=int, default=3)
    parser.add_argument("--ours", default=str(ROOT / "build/bin/bench_model"))
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    if arguments.pairs < 1:
        parser.error(f"--pairs must be at least 1, got {arguments.pairs}")

    chosen = find_best(arguments)
    config_of = {metric: config for config, metrics in chosen.items() for metric in metrics}
    ours = {metric: [] for metric in peer.METRICS}
    theirs = {metric: [] for metric in peer.METRICS}

    def take_ours():
        for metric, value in run_ours(arguments).items():
            if metric in ours:
                ours[metric].append(value)

    def take_theirs():
        for config, metrics in chosen.items():
            for metric, value in run_peer(arguments, config, metrics).items():
                theirs[metric].append(value)

    for pair in range(arguments.pairs):
        for take in (take_ours, take_theirs) if pair % 2 == 0 else (take_theirs, take_ours):
            take()
        print(f"pair {pair + 1} of {arguments.pairs}", file=sys.stderr)

    rows = []
    for metric in peer.METRICS:
        ratios = [a / b for a, b in zip(ours[metric], theirs[metric])]
        rows.append({
            "metric": metric,
            "ours_tokens_per_s": statistics.median(ours[metric]),
            "llama_cpp_tokens_per_s": statistics.median(theirs[metric]),
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            "llama_cpp_config": config_of[metric],
        })
    print(f"{'tokens/s':<14}{'ours':>10}{'llama.cpp':>11}{'ratio':>8}{'lowest':>8}{'highest':>9}  llama.cpp with")
    for row in rows:
        print(f"{row['metric']:<14}{row['ours_tokens_per_s']:>10.1f}{row['llama_cpp_tokens_per_s']:>11.1f}{row['ratio']:>8.2f}"
              f"{row['ratio_min']:>8.2f}{row['ratio_max']:>9.2f}  {row['llama_cpp_config']}")
    if arguments.json:
        report = {"model": pathlib.Path(arguments.model).name, "threads": arguments.threads, "pairs": arguments.pairs,
                  "rows": rows, "samples": {"ours": ours, "llama_cpp": theirs}}
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
