"""Writes tests/templates/cases.json: conversations and what the chat templates of four model families
make of them, by jinja2. The templates in tests/templates/*.jinja are our own texts for the published
formats. Usage: make_template_cases.py [--templates FOLDER --out FILE] (other templates, same cases)."""

import argparse
import json
import pathlib
import random

import jinja_oracle

ROOT = pathlib.Path(__file__).resolve().parents[2]
CASES = 110
BOS = {"llama": "<|begin_of_text|>", "gemma": "<bos>"}
CONTROL = ["<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|eot_id|>", "<bos>",
           "<|start_header_id|>system<|end_header_id|>", "<|endoftext|>", "</tool_call>"]
PHRASES = ["Hi.", "What is 2 + 2?", "{{ messages }}", "{% if x %}no{% endif %}", "{# note #}",
           "\u00a1Hola! \u4f60\u597d \U0001f600", "na\u00efve caf\u00e9 \u2014 \u201cquoted\u201d",
           "  two leading blanks", "trailing blanks  ", "\n\nlines\n\n", "a\tb", "", " ", "\u00a0nbsp\u3000",
           "C:\\dir\\n", "'single' \"double\"", "{\"json\": [1, 2.5, null]}", "<b>&amp;</b>", "\u0645\u0631\u062d\u0628\u0627",
           "e\u0301 combining", "def f(x):\n    return x\n", "100%", "x" * 60, "\r\ncarriage\r"]
TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather \u2014 \"now\" in a <city>",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {
            "type": "integer", "default": 3}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "stop", "description": "<|im_end|> & \u505c\u6b62",
                                      "parameters": {}}},
]
ARGUMENTS = [{"city": "Z\u00fcrich", "days": 2}, {}, {"x": 1.5, "deep": {"a": [True, None, "<|eot_id|>"]}},
             {"q": "\"quoted\"\n\u2028"}, {"big": 1e22, "small": 1e-7, "n": -0.0}]


def content(rng):
    text = " ".join(rng.choice(PHRASES) for _ in range(rng.choice([1, 1, 2])))
    if rng.random() < 0.3:
        text += rng.choice(CONTROL)
    return text


def tool_turn(rng):
    calls = [{"type": "function", "function": {"name": rng.choice(["get_weather", "stop", "search"]),
                                               "arguments": rng.choice(ARGUMENTS)}}
             for _ in range(rng.choice([1, 1, 1, 2]))]
    if rng.random() < 0.2:
        calls[0] = calls[0]["function"]
    answers = [{"role": "tool", "content": rng.choice(["18 C", "", content(rng), {"t": 18.5, "s": "\u2600"}])}
               for _ in calls]
    said = rng.choice(["", None, "Let me look.", content(rng)])
    return [{"role": "assistant", "content": said, "tool_calls": calls}, *answers]


def conversation(rng):
    messages = []
    if rng.random() < 0.5:
        messages.append({"role": "system", "content": content(rng)})
    for _ in range(rng.choice([1, 1, 2, 3])):
        messages.append({"role": "user", "content": content(rng)})
        if rng.random() < 0.35:
            messages.extend(tool_turn(rng))
        if rng.random() < 0.7:
            messages.append({"role": "assistant", "content": content(rng)})
    if messages[-1]["role"] == "assistant" and rng.random() < 0.5:
        messages.append({"role": "user", "content": content(rng)})
    if rng.random() < 0.1:
        messages[-1]["content"] = [{"type": "image"}, {"type": "text", "text": content(rng)}]
    if rng.random() < 0.08:
        messages.insert(rng.randrange(len(messages) + 1), {"role": "system", "content": content(rng)})
    case = {"messages": messages, "add_generation_prompt": rng.random() < 0.7}
    if rng.random() < 0.35:
        case["tools"] = TOOLS[: rng.choice([1, 2])]
    variables = {}
    if rng.random() < 0.3:
        variables["date_string"] = "1 Jan 2025"
    if rng.random() < 0.3:
        variables["tools_in_user_message"] = rng.random() < 0.5
    if rng.random() < 0.2:
        variables["builtin_tools"] = ["search", "code_interpreter"]
    if variables:
        case["variables"] = variables
    return case


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--templates", default=ROOT / "tests/templates", type=pathlib.Path)
    parser.add_argument("--out", default=ROOT / "tests/templates/cases.json", type=pathlib.Path)
    arguments = parser.parse_args()
    env = jinja_oracle.environment()
    templates = {path.stem: path.read_bytes().decode()
                 for path in sorted(arguments.templates.glob("*.jinja"))}
    cases = []
    for seed in range(CASES):
        case = conversation(random.Random(seed))
        expected = {}
        for name, source in templates.items():
            bos = next((bos for family, bos in BOS.items() if family in name), "")
            expected[name] = jinja_oracle.render(env, source, {
                "messages": case["messages"], "tools": case.get("tools"), "documents": None,
                "add_generation_prompt": case["add_generation_prompt"], "bos_token": bos,
                "eos_token": "", **case.get("variables", {})})
        cases.append({**case, "expected": expected})
    out = {"now_seconds": jinja_oracle.NOW_SECONDS,
           "bos": {name: next((b for f, b in BOS.items() if f in name), "") for name in templates},
           "cases": cases}
    lines = json.dumps(out, ensure_ascii=False, indent=None, separators=(",", ":"))
    arguments.out.write_text(lines.replace(',{"messages"', ',\n{"messages"') + "\n", encoding="utf-8",
                             newline="")
    results = [r for case in cases for r in case["expected"].values()]
    print(f"{len(templates)} templates, {len(cases)} conversations, "
          f"{sum('error' in r for r in results)} refusals, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
