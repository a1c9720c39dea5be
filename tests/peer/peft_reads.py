"""Adapters of PEFT here: does `fettle logits --adapter` compute what PEFT computes, and does what `fettle merge` makes? Run by hand.

usage: peft_reads.py PROGRAM MODEL [--tokens 48]
The model goes out as a Hugging Face folder; PEFT makes adapters of several kinds for it with random matrices (all linears; ranks and alphas by pattern;
rank-stabilised; DoRA), and its float32 logits are held against ours, unmerged and merged to F32. `fettle tune`'s adapters the other way round are
tests/golden/make_peft_golden.py's matter (check).
needs: torch transformers peft numpy"""
import argparse, json, subprocess, tempfile
import numpy as np, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

LIMIT = 1e-4  # RMS of the logits' difference against that of the logits
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
    subprocess.run([a.program, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


with tempfile.TemporaryDirectory() as root:
    folder, ids = f"{root}/model", list(range(100, 100 + a.tokens))
    fettle("convert", a.model, "--to", "hf", "--type", "F32", "--out", folder)
    json.dump(ids, open(f"{root}/ids.json", "w"))

    def logits(model, *options):
        fettle("logits", model, "--ids", f"{root}/ids.json", "--out", f"{root}/x.npy", "--activations", "f32", *options)
        return torch.from_numpy(np.load(f"{root}/x.npy"))

    for kind, options in KINDS.items():
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), LoraConfig(task_type="CAUSAL_LM", **options)).eval()
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for name, value in model.named_parameters():
                noise = torch.randn(value.shape, generator=generator)
                if "lora_magnitude" in name: value.mul_(1 + 0.1 * noise)
                elif "lora_" in name: value.copy_(0.03 * noise)
            theirs = model(torch.tensor([ids])).logits[0]
        adapter = f"{root}/adapter"
        model.save_pretrained(adapter)
        fettle("merge", folder, adapter, "--type", "F32", "--out", f"{root}/merged.gguf", "--force")
        for what, ours in [("beside", logits(folder, "--adapter", adapter)), ("merged", logits(f"{root}/merged.gguf"))]:
            error = ((ours - theirs).pow(2).mean() / theirs.pow(2).mean()).sqrt().item()
            if not error <= LIMIT: bad.append(f"{kind}, {what}")
            print(f"{kind + ', ' + what:32} {error:.1e}  {'ok' if error <= LIMIT else 'WRONG'}", flush=True)
print("wrong: " + "; ".join(bad) if bad else "all as PEFT")
raise SystemExit(bool(bad))
