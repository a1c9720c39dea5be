"""Mutates inputs of every reader for a while. usage: fuzz.py [SECONDS [READER...]]   (60 seconds, all readers of tests/fuzz)

Each tests/fuzz/NAME.cc is linked with libFuzzer, AddressSanitizer and UBSan (clang 16). The seconds are shared out between the readers; what was
learnt stays in build-fuzz/corpus and the next run goes on from there. A finding is kept in build-fuzz/findings, and the exit code is 1.
"""
import glob, json, os, re, struct, subprocess, sys, zipfile

BUILD = "build-fuzz"
ROOMS = ["base", "tensor", "simd", "format", "text", "store", "op", "model"]
LIBRARIES = "-lfmt -lssl -lcrypto -lcurl -lz -lpcre2-8 -lsimdjson -lutf8proc -lxxhash -lpthread".split()
SANITIZE = "-fsanitize=address,undefined"
seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
readers = sys.argv[2:] or sorted(os.path.basename(f)[:-3] for f in glob.glob("tests/fuzz/*.cc"))


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
    libraries = sorted(set(re.findall(rf"^(fettle_(?:{'|'.join(ROOMS)})(?:_\w+)?): phony", listed, re.M)))  # a room, and its kernels by instruction set
    run(["ninja", "-C", BUILD] + libraries)
    objects = [o for library in libraries for o in glob.glob(f"{BUILD}/CMakeFiles/{library}.dir/**/*.o", recursive=True)]
    for reader in readers:
        run(["clang++-16", "-std=c++20", "-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all", "-Isrc", "-Itests/fuzz",
             '-DFETTLE_VERSION="fuzz"', f"tests/fuzz/{reader}.cc", *objects, "-o", f"{BUILD}/fuzz_{reader}", *LIBRARIES])


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def gguf(metadata, tensors):
    """A small GGUF v3: metadata {key: str | int | float | [str]}, tensors {name: shape (ne order)} of F32 zeros."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        out += text(key)
        if isinstance(value, str):
            out += struct.pack("<I", 8) + text(value)
        elif isinstance(value, int):
            out += struct.pack("<II", 4, value)
        elif isinstance(value, float):
            out += struct.pack("<If", 6, value)
        else:
            out += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    offset = 0
    for name, shape in tensors.items():
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", 0, offset)
        count = 1
        for d in shape:
            count *= d
        offset += (count * 4 + 31) // 32 * 32
    return out + bytes(-len(out) % 32) + bytes(offset)


def seeds(reader):
    """Well-formed inputs to begin with."""
    golden = "tests/golden"
    if reader == "gguf":
        yield gguf({"general.architecture": "llama", "llama.block_count": 1, "llama.rope.freq_base": 1e4, "tokenizer.ggml.model": "gpt2",
                    "tokenizer.ggml.tokens": ["a", "b", "ab"], "tokenizer.ggml.merges": ["a b"]}, {"output_norm.weight": [4], "blk.0.attn_q.weight": [4, 2]})
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
        modules = sorted(case["module"] for case in cases)  # the order in which the driver may find them does not matter
        for i in range(len(modules)):
            for case in cases[i % 5::5]:
                yield bytes([i]) + json.dumps(case["config"]).encode() + b"\0" + bytes([1, 1, 7, 3, 0, 0])
    if reader == "hf_folder":
        config = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8,
                  "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 128}}
        index = {"weight_map": {"model.embed_tokens.weight": "a.safetensors"}}
        split = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False}]}
        tokenizer = {"added_tokens": [{"id": 3, "content": "<s>", "special": True}], "pre_tokenizer": split,
                     "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}
        named = {"bos_token": "<s>", "eos_token": {"content": "<s>"}, "chat_template": "{{ messages }}"}
        yield b"\0".join(json.dumps(part).encode() for part in [config, index, tokenizer, named])
        pieces = b"".join(b"\n" + bytes([len(name) + 7]) + b"\n" + bytes([len(name)]) + name + b"\x15" + bytes(4) for name in [b"a", b"b", b"ab"])
        yield b"\0".join([json.dumps(config).encode(), json.dumps(index).encode(), b"", json.dumps(named).encode()]) + b"\0" + pieces + b"\x12\x02\x18\x02"
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
    if reader == "dataset":
        row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
        yield b"\0" + json.dumps(row).encode() + b"\n" + json.dumps({"instruction": "a", "input": "", "output": "b"}).encode()
        yield b"\1" + json.dumps([{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]).encode()
        yield b"\2prompt,completion\n\"a, \"\"b\"\"\",c\n"
    if reader == "tokenizer":
        yield b"a\nb\nab\na b\n\0abab"
        document = json.load(open(f"{golden}/tokenizer_json.json"))
        for entry in document["tokenizers"][::4]:
            model = dict(document["models"][entry["model"]])
            if isinstance(model["vocab"], dict):  # the first tokens, and what is special
                kept = {t: i for t, i in model["vocab"].items() if i < 40 or t[0] in "<["}
                model["merges"] = [m for m in model.get("merges", []) if (p := m.split(" ") if isinstance(m, str) else m) and set(p + ["".join(p)]) <= kept.keys()]
                model["vocab"] = kept
            yield json.dumps({**entry["file"], "model": model}).encode() + b"\0" + document["texts"][13].encode()


def fuzz(reader, share):
    corpus, findings = f"{BUILD}/corpus/{reader}", f"{BUILD}/findings"
    os.makedirs(corpus, exist_ok=True)
    os.makedirs(findings, exist_ok=True)
    for i, seed in enumerate(seeds(reader)):
        with open(f"{corpus}/seed-{i}", "wb") as f:
            f.write(seed)
    # a reader that needs more than this for some kilobytes can be held up by a file
    done = subprocess.run([f"{BUILD}/fuzz_{reader}", corpus, f"-max_total_time={share}", "-timeout=10", "-rss_limit_mb=2048", "-malloc_limit_mb=1024",
                           "-max_len=65536", "-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={findings}/{reader}-"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=dict(os.environ, FETTLE_GOLDEN="tests/golden"))
    stats = dict(line.split("::")[1].split(":") for line in done.stdout.split("\n") if line.startswith("stat::"))
    print(f"{reader:12} {int(stats.get('number_of_executed_units', 0)):9} inputs, {len(os.listdir(corpus)):5} kept" + ("   FOUND" if done.returncode else ""), flush=True)
    if done.returncode:
        print(done.stdout[-4000:])
    return done.returncode


build()
share = max(1, seconds // len(readers))
sys.exit(1 if sum(bool(fuzz(reader, share)) for reader in readers) else 0)
