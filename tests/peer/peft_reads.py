"""Are adapters the same in PEFT and here, whoever made them? Run by hand.

usage: peft_reads.py PROGRAM MODEL [--tokens 48]
Of MODEL, as a Hugging Face folder, and of a small random Llama. Theirs here: PEFT makes adapters of several kinds with random matrices (all linears; ranks
and alphas by pattern; rank-stabilised; DoRA), and its float32 logits are held against ours, unmerged and merged to F32. Ours there: what `fettle tune`
makes in three steps is opened by PEFT, and its GGUF by llama.cpp; their logits must be ours.
needs: torch transformers peft llama-cpp-python numpy"""
import argparse, json, os, random, subprocess, tempfile
import numpy as np, torch
from llama_cpp_here import llama_cpp
from peft import LoraConfig, PeftModel, get_peft_model
from small_llama import write_small_llama
from transformers import AutoModelForCausalLM

LIMIT = 1e-4  # RMS of the logits' difference against that of the logits
LLAMA_CPP = 2e-3  # its keys and values, and some products, are in f16
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS = {"plain": dict(r=8, lora_alpha=16, target_modules=ALL),
         "patterns": dict(r=4, lora_alpha=8, target_modules=ALL, rank_pattern={"q_proj": 6, r"layers\.1\.mlp\.down_proj": 2}, alpha_pattern={"k_proj|q_proj": 24, "q_proj": 3}),
         "rank-stabilised": dict(r=16, lora_alpha=8, use_rslora=True, target_modules=ALL), "dora": dict(r=8, lora_alpha=16, use_dora=True, target_modules=ALL),
         "dora, rank-stabilised": dict(r=4, lora_alpha=8, use_dora=True, use_rslora=True, target_modules=["q_proj", "v_proj"])}

p = argparse.ArgumentParser()
p.add_argument("program"); p.add_argument("model"); p.add_argument("--tokens", type=int, default=48)
a = p.parse_args()
bad = []


def fettle(*arguments):
    subprocess.run([a.program, *map(str, arguments), "-q"], check=True, stdout=subprocess.DEVNULL)


def compare(what, ours, theirs, limit=LIMIT):
    error = ((ours - theirs).pow(2).mean() / theirs.pow(2).mean()).sqrt().item()
    if not error <= limit: bad.append(what)
    print(f"{what:42} {error:.1e}  {'ok' if error <= limit else 'WRONG'}", flush=True)


def check(name, folder, root):
    ids = list(range(100, 100 + a.tokens))
    json.dump(ids, open(f"{root}/ids.json", "w"))

    def logits(model, *options):
        fettle("logits", model, "--ids", f"{root}/ids.json", "--out", f"{root}/x.npy", "--activations", "f32", *options)
        return torch.from_numpy(np.load(f"{root}/x.npy"))

    def base():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    for kind, options in KINDS.items():
        model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", **options)).eval()
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for n, value in model.named_parameters():
                noise = torch.randn(value.shape, generator=generator)
                if "lora_magnitude" in n: value.mul_(1 + 0.1 * noise)
                elif "lora_" in n: value.copy_(0.03 * noise)
            theirs = model(torch.tensor([ids])).logits[0]
        adapter = f"{root}/adapter"
        model.save_pretrained(adapter)
        fettle("merge", folder, adapter, "--type", "F32", "--out", f"{root}/merged.gguf", "--force")
        compare(f"{name}, {kind}, theirs here", logits(folder, "--adapter", adapter), theirs)
        compare(f"{name}, {kind}, theirs here, merged", logits(f"{root}/merged.gguf"), theirs)
    draw = random.Random(1)
    rows = [[draw.randrange(250) for _ in range(40)] for _ in range(24)]
    open(f"{root}/rows.jsonl", "w").writelines(json.dumps(dict(ids=row, labels=row)) + "\n" for row in rows)
    fettle("tune", folder, "--ids", f"{root}/rows.jsonl", "--rank", 4, "--alpha", 24, "--lr", 0.02, "--warmup", 0, "--max-steps", 3, "--out", f"{root}/run", "--force")
    plain, ours = logits(folder), logits(folder, "--adapter", f"{root}/run/adapter.gguf")
    moved = ((ours - plain).pow(2).mean() / plain.pow(2).mean()).sqrt().item()
    print(f"{name}: tuning moved the logits by {moved:.2f}", flush=True)
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(base(), f"{root}/run/adapter").eval()(torch.tensor([ids])).logits[0]
    compare(f"{name}, tuned here, in PEFT", ours, theirs)
    compare(f"{name}, tuned here, its folder here", logits(folder, "--adapter", f"{root}/run/adapter"), theirs)
    fettle("convert", folder, "--type", "F32", "--out", f"{root}/model.gguf", "--force")
    peer = llama_cpp.Llama(f"{root}/model.gguf", lora_path=f"{root}/run/adapter.gguf", n_ctx=512, logits_all=True, type_k=0, type_v=0, flash_attn=False, verbose=False)
    peer.eval(ids)
    compare(f"{name}, tuned here, in llama.cpp", ours, torch.tensor(np.array(peer.scores[: len(ids)])), LLAMA_CPP)
    peer.close()


with tempfile.TemporaryDirectory() as root:
    write_small_llama(f"{root}/small")
    check("small", f"{root}/small", root)
    fettle("convert", a.model, "--to", "hf", "--type", "F32", "--out", f"{root}/model")
    check(os.path.basename(a.model)[:12], f"{root}/model", root)
print("wrong: " + "; ".join(bad) if bad else "the same adapters")
raise SystemExit(bool(bad))
