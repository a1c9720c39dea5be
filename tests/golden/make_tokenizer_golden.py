#!/usr/bin/env python3
"""Makes the tokenizer fixtures with Hugging Face's `tokenizers`, the reference implementation.

  make_tokenizer_golden.py small OUT.json            a small vocabulary trained here, under every pre-tokenizer (tokenizer_small.json)
  make_tokenizer_golden.py model MODEL.gguf OUT.json ids of a model's own byte-level vocabulary (tokenizer_smollm2.json)
  make_tokenizer_golden.py text OUT.txt BYTES [FILE...]   mixed text, for comparisons too large to keep
  make_tokenizer_golden.py ids MODEL.gguf TEXT       the reference's ids, one a line
  make_tokenizer_golden.py splits PRE TEXT           where the reference ends each pre-token, in bytes, one a line

Needs: tokenizers, gguf (for the forms that read a model). All text is written here or drawn from a seeded generator.
"""
import json
import random
import sys
import unicodedata

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ANY = r"[^\r\n\p{L}\p{N}]?"
TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
REGEX = {
    "llama-bpe": CONTRACTIONS + "|" + ANY + r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL,
    "qwen2": CONTRACTIONS + "|" + ANY + r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL,
    "qwen35": CONTRACTIONS + "|" + ANY + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + TAIL,
    "tekken": ANY + UPPER + "*" + LOWER + "+|" + ANY + UPPER + "+" + LOWER + r"*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL,
    "gpt-4o": ANY + UPPER + "*" + LOWER + "+" + CONTRACTIONS + "?|" + ANY + UPPER + "+" + LOWER + "*" + CONTRACTIONS
    + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL,
}
PRE = ["gpt-2", "smollm", *REGEX]
IGNORE_MERGES = {"llama-bpe", "tekken"}

SENTENCES = [
    "The kettle hums while the rain keeps time on the roof.", "I can't say who's right; they'll know, you've seen it, we're done, I'M LATE.",
    "Don't STOP'til it's 'done', she'd said -- 'RE you sure?", "Straße, Größe, Übung: der Käfer läuft über die Brücke.",
    "Où est passé l'été ? L'œuvre n'est pas finie, çà et là.", "¿Dónde está el niño? ¡Aquí! Mañana será otro día.",
    "Сегодня утром мы пили чай и читали письма.", "今日は朝から雨が降っています。本を読みました。", "今天早上下雨了，我们在家喝茶看书。",
    "오늘 아침에는 비가 와서 집에서 차를 마셨다.", "صباح الخير، كيف حالك اليوم؟ عندي ٣ كتب.", "בוקר טוב, מה שלומך היום?",
    "आज सुबह बारिश हुई और हमने चाय पी। १२३", "เช้านี้ฝนตก เราอยู่บ้านดื่มชา", "Sáng nay trời mưa, chúng tôi ở nhà uống trà.",
    "Günaydın, İstanbul'da hava nasıl? ılık", "Καλημέρα, τι κάνεις σήμερα; Ὀδυσσεύς", "Dzień dobry, żółć i źdźbło.",
]
CODE = [
    "def area(w, h=2.5):\n    \"\"\"Width times height.\"\"\"\n    return w * h  # m^2\n",
    "for (int i = 0; i < 10; ++i) {\n\t\tsum += a[i] << 3;\n\t}\n", "SELECT name, COUNT(*) FROM teas WHERE year >= 1999 GROUP BY name;\n",
    "<div class=\"row\" id='x1'>&nbsp;<b>42%</b></div>\r\n", "{\"a\": [1, 2.0, -3e-7], \"b\": null, \"ключ\": \"знач\"}\n",
    "#include <vector>\nint main() { return 0; }\n\n\n", "if [[ -f \"$HOME/.rc\" ]]; then\n  . \"$HOME/.rc\" && echo ok || exit 1\nfi\n",
    "x = y//2 if z!=0 else ~w; s = f'{x:>10}'\n    \n    return\n", "https://example.org/a/b?c=d&e=%20f#top ", "HTTPServer getURLFromXMLDoc iPhoneX ABCdefGHI ",
]
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\t\t ", "        ", "\u00a0", "\u3000", " \u2003", "\u2028", "\x0b", "\x0c", "\x85"]
EMOJI = ["😀", "🚀", "👩‍💻", "🏳️‍🌈", "👍🏽", "✅", "❤️", "🇩🇪", "½", "Ⅷ", "²", "①", "…", "—", "„", "“", "'", "’", "ſ", "ŉ", "ǅ", "ʰ", "́", "̈", "İ"]
RANGES = [(0x20, 0x7F), (0xA0, 0x250), (0x250, 0x370), (0x370, 0x590), (0x590, 0x700), (0x900, 0xE00), (0xE00, 0x1100), (0x1E00, 0x2100),
          (0x2100, 0x2C00), (0x3000, 0x3200), (0x4E00, 0x5200), (0xAC00, 0xAE00), (0xA640, 0xA6A0), (0xFB00, 0xFFFE), (0x10300, 0x10500),
          (0x1D400, 0x1D800), (0x1F300, 0x1F700), (0x20000, 0x20100), (0x0, 0x20)]


def random_character(rng):
    while True:
        low, high = rng.choice(RANGES)
        c = chr(rng.randrange(low, high))
        # characters that Unicode 3.2 already knew have the same category everywhere
        if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs", "Co") and unicodedata.ucd_3_2_0.category(c) == unicodedata.category(c):
            return c


def fragment(rng):
    kind = rng.randrange(11)
    if kind <= 2:
        words = rng.choice(SENTENCES).split(" ")
        start = rng.randrange(len(words))
        return " ".join(words[start:start + rng.randint(1, 9)])
    if kind == 3:
        return rng.choice(CODE)
    if kind == 4:
        return "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 5)))
    if kind == 5:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 12))) + rng.choice(["", ".5", ",000", "%", "th", "٣", "²"])
    if kind == 6:
        return "".join(rng.choice(EMOJI) for _ in range(rng.randint(1, 4)))
    if kind == 7:
        return "".join(random_character(rng) for _ in range(rng.randint(1, 8)))
    if kind == 8:
        return rng.choice(["'s", "'S", "'ll", "'Ll", "'ve", "'T", "'D", "'m", "'re", "''", "'ſ", "'x"])
    if kind == 9:
        return rng.choice("-=_*#.!?/~\"'(") * rng.randint(1, 70)
    return " " * rng.randint(1, 20)


def mixed_text(rng, n_bytes):
    parts, total = [], 0
    while total < n_bytes:
        part = fragment(rng) + rng.choice(["", "", " ", " ", "\n"])
        total += len(part.encode())
        parts.append(part)
    return "".join(parts)


def pre_tokenizer(pre):
    from tokenizers import Regex, pre_tokenizers as p
    if pre == "gpt-2":
        return p.ByteLevel(add_prefix_space=False, use_regex=True)
    if pre == "smollm":
        return p.Sequence([p.Digits(individual_digits=True), p.ByteLevel(add_prefix_space=False, use_regex=True)])
    return p.Sequence([p.Split(Regex(REGEX[pre]), behavior="isolated"), p.ByteLevel(add_prefix_space=False, use_regex=False)])


def reference(tokens, merges, pre):
    from tokenizers import Tokenizer, decoders, models
    pairs = [tuple(m.split(" ")) for m in merges]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, pairs, ignore_merges=pre in IGNORE_MERGES))
    tokenizer.pre_tokenizer = pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def read_model(path):
    from gguf import GGUFReader
    fields = GGUFReader(path).fields
    get = lambda name: fields["tokenizer.ggml." + name].contents()
    return reference(get("tokens"), get("merges"), get("pre"))


def train(text, n_tokens):
    from tokenizers import Tokenizer, models, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer("gpt-2")
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=n_tokens, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]


def make_small(out):
    rng = random.Random(7)
    tokens, merges = train(mixed_text(rng, 60000), 1100)
    texts = [mixed_text(rng, rng.randint(5, 90)) for _ in range(100)] + ["", " ", "\n", "a" * 300, "'" * 100, "ab" * 120]
    cases = {pre: [reference(tokens, merges, pre).encode(t).ids for t in texts] for pre in PRE}
    write(out, {"tokens": tokens, "merges": merges, "texts": texts, "ids": cases})


def make_model(path, out):
    rng = random.Random(11)
    tokenizer = read_model(path)
    texts = [mixed_text(rng, rng.randint(20, 400)) for _ in range(100)]
    write(out, {"texts": texts, "ids": [tokenizer.encode(t).ids for t in texts]})


def write(out, value):
    with open(out, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


def main(arguments):
    form = arguments[0]
    if form == "small":
        make_small(arguments[1])
    elif form == "model":
        make_model(arguments[1], arguments[2])
    elif form == "text":
        text = mixed_text(random.Random(3), int(arguments[2]))
        for name in arguments[3:]:
            text += open(name, encoding="utf-8", newline="").read()
        open(arguments[1], "w", encoding="utf-8", newline="").write(text)
    elif form == "ids":
        text = open(arguments[2], encoding="utf-8", newline="").read()
        print("\n".join(map(str, read_model(arguments[1]).encode(text).ids)))
    elif form == "splits":
        text = open(arguments[2], encoding="utf-8", newline="").read()
        total = 0
        for piece, _ in pre_tokenizer(arguments[1]).pre_tokenize_str(text):
            total += len(piece)  # one letter a byte
            print(total)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
