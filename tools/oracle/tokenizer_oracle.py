"""Lines of mixed text with the ids that llama.cpp gives them, as the oracle of tokenizer_oracle_test.

    python tools/oracle/tokenizer_oracle.py MODEL.gguf OUT.jsonl [--lines 2000] [--seed 1]
    MNEME_MODEL=MODEL.gguf MNEME_TOKENIZER_ORACLE=OUT.jsonl build/bin/io_test --gtest_filter='TokenizerOracle*'

Each line becomes two records {"text", "special", "ids", "round_trip"}: special tokens in the text
kept as text and parsed; `round_trip` says whether llama.cpp itself gets the text back. With
--every-character the lines hold every assigned and unassigned code point instead, between letters,
digits and blanks, which shows any difference of Unicode categories. Needs llama-cpp-python.
"""

import argparse
import json
import random

import llama_cpp

WORDS = (
    "the of and memory model token you're WE'LL it's they've I'd don't cannot Hello World "
    "naïve façade Straße größer Ærø İstanbul ﬁnd Ǆungla привет мир Здравствуйте Україна γλώσσα "
    "Ἀθῆναι שלום עולם مرحبا بالعالم हिन्दी भाषा বাংলা தமிழ் ไทยภาษา ລາວ မြန်မာ ភាសាខ្មែរ 한국어 "
    "안녕하세요 日本語 ひらがな カタカナ 漢字 中文 你好世界 𠮷野家 ქართული Հայերեն አማርኛ ᏣᎳᎩ ᓀᐦᐃᔭᐍᐏᐣ "
    "Tiếng Việt ɪntəˈnæʃənəl ℝ ⅷ ½ ① ٣٤٥ ५६७ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 e\u0301a\u0308 Z\u0351\u0300\u0323"
).split(" ")
CODE = [
    "def f(x: int) -> int:\n    return x**2 + 1  # square\n",
    "for (size_t i = 0; i < n; ++i) { a[i] += b[i] * 0x1p-3f; }",
    "SELECT * FROM t WHERE id >= 42 AND name LIKE '%o''k%';",
    '{"key": [1, 2.5e-10, null, true], "s": "\\u00e9\\n"}',
    "<div class=\"x\"><a href='https://example.org/?q=1&r=2#f'>link</a></div>",
    "#include <vector>\n\ttemplate <typename T>\r\n\t\tclass A;\n",
    "let s = `${a}` ?? b?.c!.d; // eslint-disable-line",
    "$ grep -rn 'foo|bar' ./src | awk '{print $1}' > /tmp/out 2>&1",
    "<table><tr><td>1</td></tr></table><s>old</s><em>x</em>",
]
EMOJI = ["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "👍🏽", "❤️", "1️⃣", "🧑🏿‍🚀", "☺", "⌚︎"]
SPECIAL = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<bos>", "<eos>", "<start_of_turn>",
    "<end_of_turn>", "<unused12>", "<unk>", "<pad>", "<mask>", "[multimodal]", "<s>", "</s>",
    "<0x41>", "<0xFF>", "<|im_start|", "im_end|>", "<file_sep>", "<repo_name>", "[INST]",
    "<start_of_image>", "<|eot_id|>",
]
BLANKS = [
    " ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\u00a0", "\u2003", "\u3000",
    "\u2028", "\u0085", "\v", "\f", "\u200b", "\ufeff", "▁", " ▁ ",
]
MARKS = [
    "...", "!?", "--", "—", "“”", "'", "''", '"', "''s", "$5.99", "€", "^~|", "<=>", "@#%", "`", "\\",
    "¿", "。", "、", "…", "\u200e", "\u200f", "\u202e", "\u0301\u0302\u0303", "\ufffd", "\u00ad",
]


def random_character(rng):
    while True:
        low, high = rng.choice([(0, 0x80), (0x80, 0x800), (0x800, 0x10000), (0x10000, 0x20000),
                                (0x20000, 0x110000)])
        code = rng.randrange(low, high)
        if not 0xD800 <= code <= 0xDFFF:
            return chr(code)


def fragment(rng):
    kind = rng.randrange(11)
    if kind <= 2:
        return "".join(rng.choice(["", " ", " ", " "]) + rng.choice(WORDS)
                       for _ in range(rng.randrange(1, 8)))
    if kind == 3:
        return rng.choice(CODE)
    if kind == 4:
        return "".join(rng.choice(EMOJI) for _ in range(rng.randrange(1, 4)))
    if kind == 5:
        return rng.choice(SPECIAL)
    if kind == 6:
        return "".join(rng.choice(BLANKS) for _ in range(rng.randrange(1, 5)))
    if kind == 7:
        return rng.choice(BLANKS) * rng.randrange(1, 70)
    if kind == 8:
        return rng.choice(["", " ", "-", "."]) + str(rng.randrange(10 ** rng.randrange(1, 16)))
    if kind == 9:
        return rng.choice(MARKS) * rng.randrange(1, 4)
    return "".join(random_character(rng) for _ in range(rng.randrange(1, 6)))


def mixed_lines(count, seed):
    rng = random.Random(seed)
    return ["".join(fragment(rng) for _ in range(rng.randrange(1, 9))) for _ in range(count)]


def lines_of_every_character():
    codes = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    for start in range(0, len(codes), 64):
        yield "".join(f"a{chr(c)}b {chr(c)}9{chr(c)} " for c in codes[start:start + 64])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every-character", action="store_true")
    arguments = parser.parse_args()
    model = llama_cpp.Llama(arguments.model, vocab_only=True, verbose=False)
    lines = (lines_of_every_character() if arguments.every_character
             else mixed_lines(arguments.lines, arguments.seed))
    with open(arguments.out, "w", encoding="utf-8") as out:
        for text in lines:
            for special in (False, True):
                ids = model.tokenize(text.encode(), add_bos=False, special=special)
                back = b"".join(
                    model.detokenize([i], special=True) for i in ids) if ids else b""
                record = {"text": text, "special": special, "ids": ids,
                          "round_trip": back == text.encode()}
                out.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
