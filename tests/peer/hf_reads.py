"""Does transformers read the folders that fettle writes, and see the same model in them? Run by hand: it needs a model, torch and transformers.

usage: hf_reads.py PROGRAM MODEL [--type F32] [--tokens 64]
`fettle convert MODEL --to hf`, then transformers opens the folder: its tokenizer must give the ids that `fettle tokenize` gives, its chat template the
same text, and its logits in float32 those of `fettle logits --activations f32` within 1e-3 (F32; other types are held against the folder itself, which
fettle opens too). Then folder -> GGUF -> folder: every tensor must come back byte for byte.
needs: torch transformers safetensors numpy"""
import argparse, json, os, subprocess, sys, tempfile
import numpy as np, torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = ["Hello, world!", "The history of the steam engine begins in 1712, with 3.14159 and 1,000,000.", "  two  spaces\n\n\ttab\r\nend ", "def f(x):\n    return x**2",
         "naïve café, Straße, 東京, Привет, عربي, 👩‍👩‍👧 🇩🇪", "it's WE'LL don't I'M", "<|im_start|>user\nHi<|im_end|>\n", "a" * 100, "…—“”‘’", "\u00a0x\u3000y", "", " "]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is my parcel?"}, {"role": "assistant", "content": "Here."}, {"role": "user", "content": "Thanks!"}]

p = argparse.ArgumentParser()
p.add_argument("program"); p.add_argument("model"); p.add_argument("--type", default="F32"); p.add_argument("--tokens", type=int, default=64)
a = p.parse_args()
bad = []


def fettle(*arguments, text=None):
    return subprocess.run([a.program, *map(str, arguments)], check=True, stdout=subprocess.PIPE, input=text, text=True).stdout


def say(what, ok, detail=""):
    if not ok: bad.append(what)
    print(f"{what:28} {detail}  {'ok' if ok else 'WRONG'}", flush=True)


def tensors(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            with safe_open(f"{folder}/{name}", "pt") as f:
                found.update({k: f.get_tensor(k) for k in f.keys()})
    return found


with tempfile.TemporaryDirectory() as root:
    folder = f"{root}/model"
    fettle("convert", a.model, "--to", "hf", "--type", a.type, "--out", folder)
    reference = a.model if a.type == "F32" else folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for kind, options, special in [("plain", [], False), ("with special tokens", ["--special"], True)]:
        wrong = []
        for text in TEXTS:
            ours = json.loads(fettle("tokenize", a.model, *options, text=text))
            plain = dict(add_special_tokens=False, split_special_tokens=True)
            theirs = tokenizer(text, **({} if special else plain))["input_ids"]
            if ours != theirs: wrong.append((text, ours, theirs))
        say(f"ids, {kind}", not wrong, f"{len(TEXTS) - len(wrong)}/{len(TEXTS)}")
        for text, ours, theirs in wrong[:3]: print("   ", repr(text), ours[:20], theirs[:20])
    if tokenizer.chat_template:
        json.dump(CHAT, open(f"{root}/chat.json", "w"))
        ours = fettle("template", a.model, "--messages", f"{root}/chat.json", "--generate")
        theirs = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
        say("chat template", ours.rstrip("\n") == theirs.rstrip("\n"))
    ids = json.loads(fettle("tokenize", a.model, text=" ".join(TEXTS)))[:a.tokens]
    json.dump(ids, open(f"{root}/ids.json", "w"))
    fettle("logits", reference, "--ids", f"{root}/ids.json", "--out", f"{root}/x.npy", "--activations", "f32")
    ours = np.load(f"{root}/x.npy")
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0].float().numpy()
    worst = float(np.abs(ours - theirs[:, : ours.shape[1]]).max())
    say("logits", worst < 1e-3 and ours.shape == theirs.shape, f"largest difference {worst:.2e} over {len(ids)} positions")
    fettle("convert", folder, "--to", "gguf", "--type", a.type, "--out", f"{root}/back.gguf")
    fettle("convert", f"{root}/back.gguf", "--to", "hf", "--type", a.type, "--out", f"{root}/again")
    first, second = tensors(folder), tensors(f"{root}/again")
    same = first.keys() == second.keys() and all(first[k].dtype == second[k].dtype and torch.equal(first[k], second[k]) for k in first)
    say("folder, GGUF, folder", same, f"{len(first)} tensors")
    say("tokenizer, there and back", json.load(open(f"{folder}/tokenizer.json")) == json.load(open(f"{root}/again/tokenizer.json")))
sys.exit(f"not the same model: {', '.join(bad)}" if bad else 0)
