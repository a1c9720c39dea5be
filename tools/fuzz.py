"""Mutates inputs of every reader for a while. usage: fuzz.py [SECONDS [READER...]]   (60 seconds, all readers of tests/fuzz)

Each tests/fuzz/NAME.cc is linked with libFuzzer, AddressSanitizer and UBSan (clang 16). The seconds are shared out between the readers; what was
learnt stays in build-fuzz/corpus and the next run goes on from there. A finding is kept in build-fuzz/findings, and the exit code is 1.
"""
import glob, json, math, os, re, struct, subprocess, sys, zipfile

BUILD = "build-fuzz"
ROOMS = ["base", "tensor", "simd", "format", "text", "store", "op", "model"]  # from below
LIBRARIES = "-lfmt -lssl -lcrypto -lcurl -lz -lpcre2-8 -lsimdjson -lutf8proc -lxxhash -lpthread".split()
SANITIZE = "-fsanitize=address,undefined,float-cast-overflow"
seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
readers = sys.argv[2:] or sorted(os.path.basename(f)[:-3] for f in glob.glob("tests/fuzz/*.cc"))


def rooms(reader):
    """What a driver is linked with: all rooms below the one that it is about."""
    with open(f"tests/fuzz/{reader}.cc") as f:
        return ROOMS if re.search(r'"(forward.h|model/\w+.h)"', f.read()) else ROOMS[:6]


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(done.stdout[-5000:] + f"\nfailed: {' '.join(command[:4])} ...")


def build():
    """The rooms as objects with coverage, then one program a reader."""
    environment = {"CC": "clang-16", "CXX": "clang++-16"}
    os.environ.update(environment)
    run(["cmake", "-S", ".", "-B", BUILD, "-G", "Ninja", "-DFETTLE_TESTS=OFF", "-DCMAKE_BUILD_TYPE=Debug",
         f"-DCMAKE_CXX_FLAGS=-w -fsanitize=fuzzer-no-link {SANITIZE} -fno-sanitize-recover=all"])  # warnings are ./dev clang's affair
    listed = subprocess.run(["ninja", "-C", BUILD, "-t", "targets", "all"], stdout=subprocess.PIPE, text=True, check=True).stdout
    for reader in sorted(readers, key=lambda r: len(rooms(r))):
        libraries = sorted(set(re.findall(rf"^(fettle_(?:{'|'.join(rooms(reader))})(?:_\w+)?): phony", listed, re.M)))  # a room, and its kernels by instruction set
        run(["ninja", "-C", BUILD] + libraries)
        objects = [o for library in libraries for o in glob.glob(f"{BUILD}/CMakeFiles/{library}.dir/**/*.o", recursive=True)]
        run(["clang++-16", "-std=c++20", "-O1", "-g", "-fsanitize=fuzzer", SANITIZE, "-fno-sanitize-recover=all", "-Isrc", "-Itests/fuzz",
             '-DFETTLE_VERSION="fuzz"', f"tests/fuzz/{reader}.cc", *objects, "-o", f"{BUILD}/fuzz_{reader}", *LIBRARIES])


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144), "Q6_K": (14, 256, 210)}


def gguf(metadata, tensors, head=False):
    """A small GGUF v3: metadata {key: str | bool | int | float | [str] | [float]}, tensors {name: shape (ne order) of F32, or type and shape},
    all zeros. head: without the tensors' bytes."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        out += text(key)
        if isinstance(value, str):
            out += struct.pack("<I", 8) + text(value)
        elif isinstance(value, bool):
            out += struct.pack("<IB", 7, value)
        elif isinstance(value, int):
            out += struct.pack("<II", 4, value)
        elif isinstance(value, float):
            out += struct.pack("<If", 6, value)
        elif isinstance(value[0], float):
            out += struct.pack(f"<IIQ{len(value)}f", 9, 6, len(value), *value)
        else:
            out += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    offset = 0
    for name, shape in tensors.items():
        number, block, block_bytes = TYPES[shape[0]] if isinstance(shape[0], str) else TYPES["F32"]
        shape = [d for d in shape if isinstance(d, int)]
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", number, offset)
        offset += (math.prod(shape) // block * block_bytes + 31) // 32 * 32
    return out + bytes(-len(out) % 32) + bytes(0 if head else offset)


GPT2 = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": list("abHi Ġ12") + ["ab", "<|im_end|>"],
        "tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.eos_token_id": 9, "tokenizer.chat_template": "{{ messages[0].content }}"}
SPM = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁H"],
       "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -0.5, -1.0]}
WORDS = {"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁hi", "▁there", "a", "▁1"],
         "tokenizer.ggml.unknown_token_id": 1, "tokenizer.ggml.cls_token_id": 2, "tokenizer.ggml.seperator_token_id": 3}
UNIGRAM = {"tokenizer.ggml.model": "t5", "tokenizer.ggml.tokens": ["<pad>", "</s>", "<unk>", "▁", "a", "b", "▁a", "Hi"],
           "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -2.0, -3.0, -3.0, -4.0, -2.0], "tokenizer.ggml.add_space_prefix": True}


def model(arch, tokens, keys, tensors, type="F32", d=8, ff=16):
    """The head of a model of one block. tensors: what there is beside or in place of a llama's ({} of shapes, None: not there)."""
    metadata = {"general.architecture": arch, **{f"{arch}.{key}": value for key, value in {
        "block_count": 1, "context_length": 32, "embedding_length": d, "feed_forward_length": ff, "attention.head_count": 2,
        "attention.head_count_kv": 1, "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e4, **keys}.items()}, **tokens}
    n, at = len(tokens["tokenizer.ggml.tokens"]), "blk.0."
    of_a_llama = {"token_embd.weight": [type, d, n], "output_norm.weight": [d], "output.weight": [type, d, n], at + "attn_norm.weight": [d],
                  at + "attn_q.weight": [type, d, d], at + "attn_k.weight": [type, d, d // 2], at + "attn_v.weight": [type, d, d // 2],
                  at + "attn_output.weight": [type, d, d], at + "ffn_norm.weight": [d], at + "ffn_gate.weight": [type, d, ff],
                  at + "ffn_up.weight": [type, d, ff], at + "ffn_down.weight": [type, ff, d]}
    return gguf(metadata, {name: shape for name, shape in {**of_a_llama, **tensors}.items() if shape}, head=True)


def models():
    at, experts = "blk.0.", {f"blk.0.ffn_{part}.weight": None for part in ["gate", "up", "down"]}
    stacks = {at + "ffn_gate_inp.weight": [8, 3], at + "ffn_gate_exps.weight": [8, 16, 3], at + "ffn_up_exps.weight": [8, 16, 3],
              at + "ffn_down_exps.weight": [16, 8, 3], **experts}
    several = {"expert_count": 3, "expert_used_count": 2}
    post = {at + "post_attention_norm.weight": [8], at + "post_ffw_norm.weight": [8]}
    norms = {at + "attn_q_norm.weight": [4], at + "attn_k_norm.weight": [4]}
    biases = {at + "attn_q.bias": [8], at + "attn_k.bias": [4], at + "attn_v.bias": [4]}
    yarn = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16}
    yield model("llama", GPT2, {"rope.dimension_count": 4, "attention.sliding_window": 3}, {})
    yield model("llama", SPM, {}, {"rope_freqs.weight": [2], "output.weight": None})
    yield model("llama", GPT2, several, stacks)
    yield model("llama", SPM, yarn, {}, "Q8_0", 64, 64)
    yield model("llama", GPT2, yarn, {}, "Q4_0", 64, 96)
    yield model("llama", GPT2, {}, {at + "attn_q.weight": ["Q6_K", 256, 256]}, "Q4_K", 256, 256)
    yield model("qwen2", GPT2, yarn, {**biases, "output.bias": [10]}, "F16")
    yield model("qwen3", UNIGRAM, {"attention.key_length": 4}, norms)
    yield model("gemma2", SPM, {"attention.sliding_window": 2, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}, post)
    yield model("gemma3", SPM, {"attention.sliding_window": 2, "attention.sliding_window_pattern": 2, "rope.freq_base_swa": 1e3}, {**post, **norms})
    yield model("granite", GPT2, {"embedding_scale": 2.0, "residual_scale": 0.5, "attention.scale": 0.3, "logit_scale": 3.0}, {})
    yield model("phi3", SPM, {}, {at + "attn_q.weight": None, at + "attn_k.weight": None, at + "attn_v.weight": None, at + "ffn_gate.weight": None,
                                  at + "attn_qkv.weight": [8, 16], at + "ffn_up.weight": [8, 32], "rope_factors_long.weight": [2],
                                  "rope_factors_short.weight": [2]})
    yield model("qwen2moe", GPT2, {**several, "expert_shared_feed_forward_length": 12, "expert_weights_scale": 2.0},
                {**stacks, **biases, at + "ffn_gate_inp_shexp.weight": [8], at + "ffn_gate_shexp.weight": [8, 12], at + "ffn_up_shexp.weight": [8, 12],
                 at + "ffn_down_shexp.weight": [12, 8]})
    yield model("bert", WORDS, {"attention.causal": False, "attention.layer_norm_epsilon": 1e-5, "pooling_type": 1, "attention.head_count_kv": 2},
                {**{name: None for name in ["output_norm.weight", "output.weight", at + "attn_norm.weight", at + "ffn_norm.weight", at + "ffn_gate.weight"]},
                 at + "attn_k.weight": [8, 8], at + "attn_v.weight": [8, 8], "position_embd.weight": [8, 32], "token_types.weight": [8, 2],
                 **{f"{name}.{kind}": [8] for name in ["token_embd_norm", at + "attn_output_norm", at + "layer_output_norm"] for kind in ["weight", "bias"]}})


def seeds(reader):
    """Well-formed inputs to begin with."""
    golden = "tests/golden"
    if reader == "model":
        yield from models()
    if reader == "gguf":
        for tokens in [GPT2, SPM, WORDS, UNIGRAM]:
            yield gguf({"general.architecture": "llama", **tokens}, {"output_norm.weight": [4], "blk.0.attn_q.weight": ["Q8_0", 32, 2]})
        yield gguf({"general.architecture": "llama", "llama.block_count": 1, "llama.rope.freq_base": 1e4, "tokenizer.ggml.model": "gpt2",
                    "tokenizer.ggml.pre": "kimi-k2", "tokenizer.ggml.tokens": ["a", "b", "ab"], "tokenizer.ggml.merges": ["a b"]}, {"output_norm.weight": [4], "blk.0.attn_q.weight": [4, 2]})
    if reader == "lora_gguf":
        yield gguf({"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 2.0},
                   {"blk.0.attn_q.weight.lora_a": [4, 2], "blk.0.attn_q.weight.lora_b": [2, 4]})
    if reader == "imatrix":
        yield gguf({"general.type": "imatrix", "imatrix.chunk_count": 1}, {"x.in_sum2": [4], "x.counts": [1]})
        yield struct.pack("<ii1siiffii1s", 1, 1, b"x", 1, 2, 1.0, 2.0, 1, 1, b"d")
    if reader == "safetensors":
        for path in glob.glob(f"{golden}/peft/*/*.safetensors"):
            yield open(path, "rb").read()
        yield struct.pack("<Q", 56) + b'{"a":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]}}' + bytes(4)
    if reader == "lora_peft":
        for path in glob.glob(f"{golden}/peft/*/adapter_config.json"):
            yield open(path, "rb").read()
    if reader == "packed":
        with open(f"{golden}/packed.json") as f:
            cases = json.load(f)
        modules = sorted(case["module"] for case in cases)
        for case in cases:
            for changes in [b"", bytes([1, 1, 7, 3, 0, 0])]:
                yield bytes([modules.index(case["module"])]) + json.dumps(case["config"]).encode() + b"\0" + changes
    if reader == "hf_folder":
        index = {"weight_map": {"model.embed_tokens.weight": "a.safetensors"}}
        split = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False}]}
        bpe = {"added_tokens": [{"id": 3, "content": "<s>", "special": True}], "pre_tokenizer": split,
               "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}
        words = {"pre_tokenizer": {"type": "BertPreTokenizer"}, "normalizer": {"type": "BertNormalizer"},
                 "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "a": 1, "##b": 2}}}
        named = {"bos_token": "<s>", "eos_token": {"content": "<s>"}, "chat_template": "{{ messages }}"}
        modules = [{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]
        pieces = b"".join(b"\n" + bytes([len(name) + 7]) + b"\n" + bytes([len(name)]) + name + b"\x15" + bytes(4) for name in [b"a", b"b", b"ab"])
        for i, path in enumerate(sorted(glob.glob(f"{golden}/arch/*.json"))):
            config = json.load(open(path))["config"]
            parts = [config, index if i % 3 == 1 else "", words if config["model_type"] == "bert" else bpe, named, {"eos_token_id": [3, 2]} if i % 2 else "",
                     modules if config["model_type"] == "bert" else ""]
            yield bytes([i]) + b"\0".join(json.dumps(part).encode() if part else b"" for part in parts) + b"\0"
            if i % 8 == 4:
                parts[2] = ""
                yield bytes([i]) + b"\0".join(json.dumps(part).encode() if part else b"" for part in parts) + b"\0" + pieces + b"\x12\x02\x18\x02"
    if reader == "zip":
        path = f"{BUILD}/seed.zip"
        with zipfile.ZipFile(path, "w") as z:
            z.writestr("a.txt", "hello " * 50, zipfile.ZIP_DEFLATED)
            z.writestr("b.gguf", "stored")
        yield open(path, "rb").read()
    if reader == "hub_source":
        yield b"org/model@v1.0:sub/file.gguf"
    if reader == "template":
        yield (b"{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ bos_token }}{% endif %}"
               b"<|{{ m.role }}|>{{ m['content'] | trim }}{% endfor %}{% if add_generation_prompt %}<|a|>{% endif %}")
        yield b"{%- set ns = namespace(x=0) -%}{%- macro f(a, b=1) -%}{{ a ~ b }}{%- endmacro -%}{{ f(messages[-1].content[1:]) }}{{ tools | tojson }}"
        for case in json.load(open(f"{golden}/template_golden.json"))["own"]:
            yield case["source"].encode()
    if reader == "dataset":
        row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
        yield b"\0" + json.dumps(row).encode() + b"\n" + json.dumps({"instruction": "a", "input": "", "output": "b"}).encode()
        yield b"\1" + json.dumps([{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]).encode()
        yield b"\0" + b"\n".join(json.dumps(row).encode() for row in [
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "a@b.de"}]},
                          {"role": "assistant", "content": "x", "weight": 0}, {"role": "user", "content": "+49 30 1234567"}, {"role": "assistant", "content": "y"}]},
            {"prompt": "a", "completion": "b"}, {"question": "a", "answer": "b"}, {"text": "a \u00e9 b", "label": "c"}, {"text": "a \u00e9 b", "label": "d"},
            {"instruction": "a", "input": "c", "output": "b", "system": "s", "history": [["a", "b"]]}])
        yield b"\2prompt,completion\n\"a, \"\"b\"\"\",c\n"
    if reader == "tokenizer":
        yield b"a\nb\nab\na b\n\0abab"
        document = json.load(open(f"{golden}/tokenizer_json.json"))
        for entry in document["tokenizers"]:
            model = dict(document["models"][entry["model"]])
            if isinstance(model["vocab"], dict):  # the first tokens, and what is special
                kept = {t: i for t, i in model["vocab"].items() if i < 40 or t[0] in "<["}
                model["merges"] = [m for m in model.get("merges", []) if (p := m.split(" ") if isinstance(m, str) else m) and set(p + ["".join(p)]) <= kept.keys()]
                model["vocab"] = kept
            yield json.dumps({**entry["file"], "model": model}).encode() + b"\0" + document["texts"][13].encode()


SOURCES = {"gguf": "store/tokenizer_spec.cc text/gguf_rules.cc", "lora_gguf": "store/lora_gguf.cc", "imatrix": "store/imatrix.cc", "safetensors": "store/safetensors.cc",
           "lora_peft": "store/lora_peft.cc", "packed": "store/packed*.cc", "template": "text/template_*.cc", "dataset": "text/example_shapes.cc",
           "tokenizer": "text/tokenizer_json*.cc text/gguf_rules.cc", "model": "model/*.cc model/arch/*.cc store/tokenizer_spec.cc",
           "hf_folder": "model/hf_*.cc model/arch/*.cc text/tokenizer_json*.cc"}


def dictionary(reader):
    """The words that its sources compare with, as libFuzzer takes them."""
    words = set()
    for pattern in SOURCES.get(reader, "").split():
        for path in glob.glob(f"src/{pattern}"):
            words |= set(re.findall(r'"([\w.|<>{}%#-]{2,40})"', open(path).read()))
    with open(f"{BUILD}/{reader}.dict", "w") as f:
        f.writelines(f'"{word}"\n' for word in sorted(words))
    return f"-dict={BUILD}/{reader}.dict"


def fuzz(reader, share):
    corpus, findings = f"{BUILD}/corpus/{reader}", f"{BUILD}/findings"
    os.makedirs(corpus, exist_ok=True)
    os.makedirs(findings, exist_ok=True)
    for i, seed in enumerate(seeds(reader)):
        with open(f"{corpus}/seed-{i}", "wb") as f:
            f.write(seed)
    # a reader that needs more than this for some kilobytes can be held up by a file
    done = subprocess.run([f"{BUILD}/fuzz_{reader}", corpus, f"-max_total_time={share}", "-timeout=10", "-rss_limit_mb=2048", "-malloc_limit_mb=1024",
                           "-max_len=65536", "-print_final_stats=1", dictionary(reader), f"-artifact_prefix={findings}/{reader}-"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=dict(os.environ, FETTLE_GOLDEN="tests/golden"))
    stats = dict(line.split("::")[1].split(":") for line in done.stdout.split("\n") if line.startswith("stat::"))
    covered = re.findall(r"INITED cov: (\d+)|(?:DONE|NEW|pulse) +cov: (\d+)", done.stdout) or [("0", "0")]
    print(f"{reader:12} {int(stats.get('number_of_executed_units', 0)):9} inputs, {len(os.listdir(corpus)):5} kept, "
          f"{covered[0][0]} -> {covered[-1][1] or covered[0][0]} edges" + ("   FOUND" if done.returncode else ""), flush=True)
    if done.returncode:
        print(done.stdout[-4000:])
    return done.returncode


build()
share = max(1, seconds // len(readers))
sys.exit(1 if sum(bool(fuzz(reader, share)) for reader in readers) else 0)
