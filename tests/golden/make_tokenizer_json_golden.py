#!/usr/bin/env python3
"""Makes tokenizer_json.json: small tokenizer.json files that use every component of Hugging Face's `tokenizers`, and what that library, the
reference implementation, makes of texts that are hard to cut up; and a SentencePiece unigram model as a GGUF carries it.

  make_tokenizer_json_golden.py                          tokenizer_json.json
  make_tokenizer_json_golden.py TOKENIZER.json OUT.json  the ids of a model's own file, for FETTLE_TOKENIZER=TOKENIZER.json FETTLE_TOKENIZER_IDS=OUT.json

Needs: tokenizers, sentencepiece, protobuf. The models are trained here, on text that is written here.
"""
import base64
import json
import os
import pathlib
import random
import sys
import tempfile

from tokenizers import AddedToken, NormalizedString, Regex, Tokenizer, decoders as d, models, normalizers as n, pre_tokenizers as p, processors as pp, trainers

from make_tokenizer_golden import CODE, REGEX, SENTENCES, mixed_text

HERE = pathlib.Path(__file__).resolve().parent
CORPUS = SENTENCES + CODE
TEXTS = [
    "", " ", "  ", "\n", " \t\n\r\n  ", "a", " a", "a ", "  a  b  ", "Hello, world!", "hello hello, HELLO! isn't it? do not. they've 'm we're",
    "The kettle hums while the rain keeps time on the roof.", "I'M LATE; she'll've said: 'don't'... ¡Aquí! «été» — “so”",
    "Straße, Größe, Übung: der Käfer läuft.", "e\u0301le\u0300ve a\u0300\u0316\u0323 \u0301x o\u0302\u0301", "\u00e9l\u00e8ve \u1ed9 \u01d6",
    "ﬁ ﬂ Ⅷ ½ ² ① ﷺ ｆｕｌｌ ㎏ Å ℕ", "İstanbul'da ılık DİK ΣΑΣ ǅ ẞ", "Сегодня утром", "今日は朝から雨が降っています。本を読みました。", "今天早上下雨了，我们在家。",
    "오늘 아침에는 비가 와서", "\u1112\u1161\u11ab한", "صباح الخير ٣ كتب", "בוקר טוב", "आज सुबह बारिश १२३", "เช้านี้ฝนตก", "Καλημέρα, τι; Ὀδυσσεύς",
    "12345 3.14 007 1,000,000 x2y3 ٣٤٥ ²³", "\u00a0nbsp\u2003em\u3000ideo\u2028ls\u2029ps\x85nel\x0bvt\x0cff", "zero\u200bwidth\u200djoin\ufeffbom\u00adsoft",
    "\x00\x01\x07\x08\x1b\x7f\x8f\x9f end", "\ufffd \u2581 \u2581\u2581x", "😀🚀 👩\u200d💻 🏳️\u200d🌈 👍🏽 🇩🇪", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "--------====####", "def f(x):\n    return x*2  # ok\n\n\n", "getURLFromXMLDoc iPhone ABCdef", "<s>hello</s>", "<s> hello </s> <mask>  world<mask>!", "x<mask>y <tool>z</tool> <tool>",
    "wordword word words, word", "[CLS] [SEP] [UNK] [MASK]x [mask]", "Ünïcode TÓKEN token TOKEN", "tab\tand\r\nline", "##ing ing##", "<0x41><0xE9>", "\U00020000\U0002a700 \uf900", "ａ１！", "…‥ ！？、。",
    "'s 't 'S ''ll 'ſ", "a.b,c;d:e!f?g(h)i[j]k{l}m", "$100 + €5 = £3 ^ `x` ~y~ |z|", "ⓐⓑ _under_score_ a_b", "नमस्ते দুনিয়া", "\u0e40\u0e0a\u0e49\u0e32 \u0300\u0301",
]


def added(tokenizer):
    tokenizer.add_special_tokens([AddedToken("<s>", normalized=False), AddedToken("</s>", normalized=False), AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("<tool>", rstrip=True, normalized=False), AddedToken("word", single_word=True, normalized=False), AddedToken("Tóken", normalized=True)])


def train(model, trainer, pre=None, normalizer=None, corpus=CORPUS):
    tokenizer = Tokenizer(model)
    if pre:
        tokenizer.pre_tokenizer = pre
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(corpus, trainer)
    return json.loads(tokenizer.to_str())["model"]


BYTES = [f"<0x{b:02X}>" for b in range(256)]


def bpe_fallback():
    """Pieces as SentencePiece writes them, bytes for the rest."""
    model = train(models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False), p.Metaspace(), corpus=SENTENCES[:6])
    names = ["<unk>"] + BYTES + [t for t in model["vocab"] if t != "<unk>"]
    model.update(vocab={t: i for i, t in enumerate(names)}, byte_fallback=True, fuse_unk=True)
    return model


def unigram_fallback(model):
    model = json.loads(json.dumps(model))
    model["vocab"] = model["vocab"][:60] + [[b, -20.0] for b in BYTES]
    model["byte_fallback"] = True
    return model


def make_models():
    quiet = dict(show_progress=False)
    result = {}
    result["bytes"] = train(models.BPE(), trainers.BpeTrainer(vocab_size=420, initial_alphabet=p.ByteLevel.alphabet(), **quiet), p.ByteLevel(add_prefix_space=False))
    result["letters"] = train(models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=260, special_tokens=["<unk>"], limit_alphabet=90, **quiet), p.Whitespace())
    result["lines"] = train(models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], limit_alphabet=60, **quiet), corpus=SENTENCES[:3] * 3)
    result["parts"] = train(models.BPE(unk_token="<unk>", continuing_subword_prefix="##", end_of_word_suffix="</w>"),
                            trainers.BpeTrainer(vocab_size=330, special_tokens=["<unk>"], limit_alphabet=50, continuing_subword_prefix="##", end_of_word_suffix="</w>", **quiet), p.Whitespace())
    result["fallback"] = bpe_fallback()
    result["unigram"] = train(models.Unigram(), trainers.UnigramTrainer(vocab_size=160, special_tokens=["<unk>"], unk_token="<unk>", **quiet), p.Metaspace(), corpus=SENTENCES[:8])
    result["unigram bytes"] = unigram_fallback(result["unigram"])
    result["pieces"] = train(models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=260, limit_alphabet=70, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], **quiet),
                             p.BertPreTokenizer(), n.BertNormalizer())
    result["words"] = train(models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer(vocab_size=90, special_tokens=["<unk>"], **quiet), p.Whitespace())
    for name, model in result.items():
        if model["type"] == "BPE" and name not in ("bytes", "lines"):  # older files write merges so
            model["merges"] = [" ".join(m) for m in model["merges"]]
    return result


def charsmap():
    """A small map, compiled by SentencePiece: characters dropped, replaced by one or more, sequences, and spaces."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb
    rules = [("\uff41", "a"), ("\uff11", "1"), ("\ufb01", "fi"), ("\u2167", "VIII"), ("\u00bd", "1\u20442"), ("\u3000", " "), ("\u00a0", " "), ("\t", " "), ("\n", " "), ("\r", " "), ("e\u0301", "\u00e9"),
             ("A\u030a", "\u00c5"), ("\u200b", ""), ("\u00ad", ""), ("\u0301", ""), ("\ufdfa", "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647"), ("\x07", ""), ("...", "\u2026")]
    with tempfile.TemporaryDirectory() as folder:
        table, text, prefix = (os.path.join(folder, name) for name in ("rules.tsv", "text.txt", "model"))
        with open(table, "w", encoding="utf-8", newline="") as f:
            for what, by in rules:
                f.write(" ".join(f"{ord(c):X}" for c in what) + "\t" + " ".join(f"{ord(c):X}" for c in by) + "\n")
        with open(text, "w", encoding="utf-8") as f:
            f.write("\n".join(s.replace("\n", " ") for s in SENTENCES * 4))
        sentencepiece.SentencePieceTrainer.train(input=text, model_prefix=prefix, vocab_size=260, model_type="unigram", normalization_rule_tsv=table, minloglevel=2,
                                                 user_defined_symbols=["<tool>"], character_coverage=0.98)
        proto = pb.ModelProto()
        proto.ParseFromString(open(prefix + ".model", "rb").read())
        processor = sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")
        texts = [t for t in TEXTS if "<" not in t and "\x00" not in t]
        model = {"tokens": [piece.piece for piece in proto.pieces], "scores": [piece.score for piece in proto.pieces], "types": [piece.type for piece in proto.pieces],
                 "charsmap": base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode(), "texts": texts, "ids": [processor.encode(t) for t in texts]}
        return proto.normalizer_spec.precompiled_charsmap, model


def template(tokenizer):
    return pp.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))])


LLAMA_DECODER = lambda: d.Sequence([d.Replace("▁", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])
CASES = []


def case(name, model, **parts):
    CASES.append((name, model, parts))


def list_cases(map_bytes):
    level = lambda **o: p.ByteLevel(**{"add_prefix_space": False, **o})
    case("gpt-2", "bytes", pre=level(), decoder=d.ByteLevel())
    case("gpt-2 with a space in front", "bytes", pre=level(add_prefix_space=True), decoder=d.ByteLevel(), post=pp.ByteLevel())
    case("smollm", "bytes", pre=p.Sequence([p.Digits(individual_digits=True), level()]), decoder=d.ByteLevel(), normalizer=n.NFC())
    for name, regex in REGEX.items():
        case(name, "bytes", pre=p.Sequence([p.Split(Regex(regex), "isolated"), level(use_regex=False)]), decoder=d.ByteLevel(), ignore_merges=name in ("llama-bpe", "tekken"))
        case(name + " removed and inverted", "bytes", pre=p.Sequence([p.Split(Regex(regex), "removed", invert=True), level(use_regex=False)]), decoder=d.ByteLevel())
    case("no pieces", "bytes", pre=level(use_regex=False), decoder=d.ByteLevel(), template=True)
    case("deepseek", "bytes", pre=p.Sequence([p.Split(Regex(r"\p{N}{1,3}"), "isolated"), p.Split(Regex("[一-龥\u3040-ゟ゠-ヿ]+"), "isolated"),
                                             p.Split(Regex(r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""), "isolated"),
                                             level(use_regex=False)]), decoder=d.ByteLevel())
    case("digits from the right", "bytes", pre=p.Sequence([p.Split(Regex(r"\d{1,3}(?=(?:\d{3})*\b)"), "isolated"), level(use_regex=False)]), decoder=d.ByteLevel())
    case("bloom", "bytes", pre=p.Sequence([p.Split(Regex(r" ?[^(\s|[.,!?…。，、।۔،])]+"), "isolated"), level(use_regex=False)]), decoder=d.ByteLevel())
    case("sets within sets", "bytes", pre=p.Sequence([p.Split(Regex(r"[\p{L}&&[^aeiou]]+|[[a-c][x-z]\d]+|[^\p{L}&&\S]|\h{2}"), "isolated"), level(use_regex=False)]), decoder=d.ByteLevel())
    case("oniguruma", "bytes", pre=p.Sequence([p.Split(Regex(r"(?m:a.)|\bw\w+\b|\p{Han}{1,2}+|[\W_]\Z|\p{Greek}+|\p{Letter}{3}|(?i:THE)|[[:punct:]]{2,}|\u00e9"), "isolated"), level(use_regex=False)]), decoder=d.ByteLevel())
    case("possessive", "bytes", pre=p.Sequence([p.Split(Regex(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"), "isolated"), level(use_regex=False)]), decoder=d.ByteLevel())
    case("empty matches", "bytes", pre=p.Sequence([p.Split(Regex(r"x*|(?=l)"), "isolated"), level(use_regex=False)]), decoder=d.ByteLevel())
    for behavior in ("isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            case(f"split {behavior}{' inverted' if invert else ''}", "letters", pre=p.Split(Regex(r"[aeiou,]|\s"), behavior, invert=invert))
            case(f"split by text {behavior}{' inverted' if invert else ''}", "letters", pre=p.Split("l", behavior, invert=invert), small=True)
        case(f"punctuation {behavior}", "letters", pre=p.Sequence([p.WhitespaceSplit(), p.Punctuation(behavior)]))
    case("digits", "letters", pre=p.Sequence([p.Whitespace(), p.Digits()]), normalizer=n.Lowercase())
    case("single digits", "letters", pre=p.Sequence([p.WhitespaceSplit(), p.Digits(individual_digits=True)]))
    case("delimiter", "letters", pre=p.CharDelimiterSplit("e"))
    case("scripts", "letters", pre=p.UnicodeScripts())
    case("lengths", "letters", pre=p.FixedLength(3))
    case("whole lines", "lines", decoder=d.Fuse())
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        case(form, "letters", normalizer=getattr(n, form)(), pre=p.Whitespace(), added=True)
    case("strip", "letters", normalizer=n.Strip(), pre=p.Metaspace(prepend_scheme="first"))
    case("strip left", "letters", normalizer=n.Strip(left=True, right=False), added=True)
    case("strip right", "letters", normalizer=n.Strip(left=False, right=True), added=True)
    case("accents", "letters", normalizer=n.Sequence([n.NFD(), n.StripAccents(), n.Lowercase()]), pre=p.Whitespace(), added=True, template=True)
    case("replace", "letters", normalizer=n.Sequence([n.Replace("l", "ll"), n.Replace(Regex(r"\s+|[aeiou]{2}"), " "), n.Replace(Regex("^ "), "")]), pre=p.Metaspace(prepend_scheme="first"))
    case("prepend", "letters", normalizer=n.Sequence([n.Prepend("_"), n.Nmt()]), added=True)
    case("nmt", "letters", normalizer=n.Nmt(), pre=p.WhitespaceSplit())
    case("letters in the normalizer", "bytes", normalizer=n.Sequence([n.NFC(), n.ByteLevel()]), decoder=d.ByteLevel())
    case("letters before the end", "bytes", pre=p.Sequence([p.ByteLevel(add_prefix_space=False), p.Split(Regex("Ġ"), "isolated")]), decoder=d.ByteLevel())
    for clean in (True, False):
        for strip in (True, False, None):
            for lower in (True, False):
                case(f"bert {clean} {strip} {lower}", "pieces", normalizer=n.BertNormalizer(clean_text=clean, handle_chinese_chars=clean, strip_accents=strip, lowercase=lower), pre=p.BertPreTokenizer(),
                     decoder=d.WordPiece(cleanup=lower), post="bert", small=strip is not None and not (clean and strip and lower))
    case("words of pieces", "pieces", pre=p.WhitespaceSplit(), decoder=d.WordPiece(prefix="##", cleanup=False))
    case("parts", "parts", pre=p.Whitespace(), decoder=d.BPEDecoder(suffix="</w>"), normalizer=n.Lowercase())
    case("words", "words", pre=p.Whitespace())
    case("words, lower", "words", pre=p.Whitespace(), normalizer=n.Lowercase(), added=True, template=True, decoder=d.CTC(pad_token="<unk>", word_delimiter_token="e"))
    case("ctc", "letters", decoder=d.CTC(pad_token="a", word_delimiter_token="e", cleanup=False), small=True)
    case("llama", "fallback", normalizer=n.Sequence([n.Prepend("▁"), n.Replace(" ", "▁")]), decoder=LLAMA_DECODER(), added=True, template=True)
    case("llama, not legacy", "fallback", pre=p.Metaspace(prepend_scheme="first", split=False), decoder=LLAMA_DECODER(), added=True, template=True)
    case("gemma", "fallback", normalizer=n.Replace(" ", "▁"), pre=p.Split(" ", "merged_with_previous"), decoder=d.Sequence([d.Replace("▁", " "), d.ByteFallback(), d.Fuse()]), added=True)
    for scheme in ("always", "first", "never"):
        case(f"metaspace {scheme}", "unigram", pre=p.Metaspace(prepend_scheme=scheme), decoder=d.Metaspace(prepend_scheme=scheme), added=True)
    case("metaspace whole", "unigram", pre=p.Metaspace(prepend_scheme="always", split=False), decoder=d.Metaspace())
    case("unigram bytes", "unigram bytes", pre=p.Sequence([p.WhitespaceSplit(), p.Metaspace()]), decoder=d.Sequence([d.ByteFallback(), d.Metaspace()]), template=True, added=True)
    case("t5", "unigram", normalizer=n.Sequence([n.Precompiled(map_bytes), n.Replace(Regex(" {2,}"), " ")]), pre=p.Metaspace(), decoder=d.Metaspace(), added=True)
    case("charsmap", "letters", normalizer=n.Precompiled(map_bytes))
    case("roberta", "bytes", pre=p.ByteLevel(add_prefix_space=True), decoder=d.ByteLevel(), post="roberta", added=True)
    case("processors", "bytes", pre=level(), decoder=d.ByteLevel(), post="sequence", added=True)
    case("regex decoder", "letters", pre=p.Whitespace(), decoder=d.Sequence([d.Replace(Regex("[aeiou]"), "*"), d.Strip("*", 0, 1), d.Strip("*", 2, 0), d.Fuse()]))
    case("added", "bytes", pre=level(), decoder=d.ByteLevel(), added=True)


def build(name, model, models_, parts):
    model = json.loads(json.dumps(models_[model]))
    if parts.get("ignore_merges"):
        model["ignore_merges"] = True
    blank = json.loads(Tokenizer(models.BPE()).to_str())
    blank["model"] = model
    tokenizer = Tokenizer.from_str(json.dumps(blank))
    for key, attribute in (("normalizer", "normalizer"), ("pre", "pre_tokenizer"), ("decoder", "decoder")):
        if key in parts:
            setattr(tokenizer, attribute, parts[key])
    post = parts.get("post")
    if parts.get("added") or parts.get("template") or post in ("roberta", "sequence"):
        added(tokenizer)
    if post == "bert":
        tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[UNK]", AddedToken("[MASK]", lstrip=True, special=True)])
        tokenizer.post_processor = pp.BertProcessing(("[SEP]", tokenizer.token_to_id("[SEP]")), ("[CLS]", tokenizer.token_to_id("[CLS]")))
    elif post == "roberta":
        tokenizer.post_processor = pp.RobertaProcessing(("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")))
    elif post == "sequence":
        tokenizer.post_processor = pp.Sequence([pp.ByteLevel(trim_offsets=False), template(tokenizer)])
    elif post is not None:
        tokenizer.post_processor = post
    elif parts.get("template"):
        tokenizer.post_processor = template(tokenizer)
    return tokenizer


def make_ids(path, out):
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rng = random.Random(5)
    texts = TEXTS + [mixed_text(rng, rng.randint(20, 2000)) for _ in range(200)]
    ids = [tokenizer.encode(t).ids for t in texts]
    with open(out, "w", encoding="utf-8") as f:
        json.dump({"texts": texts, "ids": ids, "decoded": [tokenizer.decode(i, skip_special_tokens=True) for i in ids]}, f)


def main():
    models_ = make_models()
    map_bytes, sentencepiece_model = charsmap()
    list_cases(map_bytes)
    tokenizers = []
    for name, model, parts in CASES:
        tokenizer = build(name, model, models_, parts)
        saved = json.loads(tokenizer.to_str())
        ids, texts, whole = [], [], []
        for text in TEXTS[::4] if parts.get("small") else TEXTS:
            ids.append(tokenizer.encode(text).ids)
            texts.append(tokenizer.decode(ids[-1], skip_special_tokens=True))
            whole.append(tokenizer.decode(ids[-1], skip_special_tokens=False))
        del saved["model"], saved["truncation"], saved["padding"]
        entry = {"name": name, "model": model, "file": saved, "step": 4 if parts.get("small") else 1, "ids": ids, "texts": texts}
        if parts.get("ignore_merges"):
            entry["ignore_merges"] = True
        if whole != texts:
            entry["whole"] = whole
        tokenizers.append(entry)
    document = {"texts": TEXTS, "models": models_, "tokenizers": tokenizers, "sentencepiece": sentencepiece_model}
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace('{"name":', '\n{"name":').replace('"sentencepiece":', '\n"sentencepiece":')
    (HERE / "tokenizer_json.json").write_text(text + "\n", encoding="utf-8")
    print(len(tokenizers), "tokenizers,", len(TEXTS), "texts,", len(text), "characters")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        make_ids(sys.argv[1], sys.argv[2])
    else:
        main()
