"""Do llama.cpp and transformers see the same model as fettle in what it writes of every architecture? Run by hand: it needs llama-cpp-python built for
the machine.

usage: families.py PROGRAM [NAME...]
Each fixture of tests/golden/arch is made into a Hugging Face folder, `fettle convert` makes a GGUF in F32 of it, and llama.cpp's logits of the
fixture's ids are held against those of `fettle logits --activations f32`, and both programs' greedy answers against each other. Where they differ, a
remark of `fettle convert` must have said so. Then the GGUF becomes a folder again, of which transformers' logits must be fettle's.
needs: what make_arch_golden.py needs, llama-cpp-python."""
import argparse, json, os, subprocess, sys, tempfile
import numpy as np, torch
from llama_cpp_here import llama_cpp
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden")
sys.path.insert(0, GOLDEN)
from make_arch_golden import values

TOKENS = 8
CONTEXT = 512  # beyond what a fixture's short factors are for
CLOSE = 0.05  # logits: llama.cpp keeps keys and values, and multiplies some of its matrices, in f16


def byte_names():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(extra)) for b in range(256)]


def write_folder(folder, golden):
    json.dump(golden["config"], open(f"{folder}/config.json", "w"))
    save_file({n: values(n, shape, mean, scale) for n, shape, mean, scale in golden["tensors"]}, f"{folder}/model.safetensors")
    pieces = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    json.dump(dict(version="1.0", added_tokens=[], normalizer=None, pre_tokenizer=pieces, post_processor=None, decoder=pieces,
                   model=dict(type="BPE", vocab={name: i for i, name in enumerate(byte_names())}, merges=[])), open(f"{folder}/tokenizer.json", "w"))


p = argparse.ArgumentParser()
p.add_argument("program"); p.add_argument("names", nargs="*")
a = p.parse_args()
bad = []
for name in a.names or sorted(f[:-5] for f in os.listdir(f"{GOLDEN}/arch") if f != "bert.json"):  # embeddings.py's
    golden = json.load(open(f"{GOLDEN}/arch/{name}.json"))
    with tempfile.TemporaryDirectory() as folder:
        write_folder(folder, golden)
        gguf = f"{folder}/model.gguf"
        made = subprocess.run([a.program, "convert", folder, "--type", "F32", "--out", gguf, "--json"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        told = [r.replace("llama.cpp computes something else with this model: it ", "") for r in json.loads(made)["remarks"] if "llama.cpp" in r]

        def ours(ids):
            json.dump(ids, open(f"{folder}/ids.json", "w"))
            subprocess.run([a.program, "logits", gguf, "--ids", f"{folder}/ids.json", "--out", f"{folder}/x.npy", "--activations", "f32", "-q"], check=True, stdout=subprocess.DEVNULL)
            return np.load(f"{folder}/x.npy")

        subprocess.run([a.program, "convert", gguf, "--to", "hf", "--type", "F32", "--out", f"{folder}/again", "-q"], check=True, stdout=subprocess.DEVNULL)
        with torch.no_grad():
            model = AutoModelForCausalLM.from_pretrained(f"{folder}/again", dtype=torch.float32, attn_implementation="eager").eval()
            apart = np.abs(model(torch.tensor([golden["ids"]])).logits[0].numpy() - ours(list(golden["ids"]))).max()
        if not apart <= 1e-3: bad.append(name)
        try:
            peer = llama_cpp.Llama(gguf, n_ctx=CONTEXT, n_batch=64, n_threads=1, n_threads_batch=1, flash_attn=False, type_k=0, type_v=0, logits_all=True, verbose=False,
                                   yarn_attn_factor=-1.0, yarn_beta_fast=-1.0, yarn_beta_slow=-1.0)  # as the file says
        except ValueError as e:
            if not told: bad.append(name)
            print(f"{name:14} transformers {apart:.6f}, llama.cpp does not read it: {told or e}")
            continue
        ids = list(golden["ids"])
        peer.eval(ids)
        gap = np.abs(np.array(peer.scores[:len(ids)]) - ours(ids)).max()
        theirs = []
        for token in peer.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
            theirs.append(int(token))
            if len(theirs) == TOKENS: break
        answer = [int(row.argmax()) for row in ours(ids + theirs)[len(ids) - 1:-1]]
        peer.close()
        ok = gap < CLOSE and answer == theirs
        if not ok and not told: bad.append(name)
        print(f"{name:14} transformers {apart:.6f}, llama.cpp {gap:.5f}, same greedy tokens {sum(x == y for x, y in zip(answer, theirs))}/{TOKENS}  "
              f"{'alike, though convert says that it ' + told[0] if ok and told else 'ok' if ok else 'as convert says: ' + '; '.join(told) if told else 'WRONG'}", flush=True)
sys.exit(f"llama.cpp and fettle do not see the same model: {', '.join(bad)}" if bad else 0)
