#!/usr/bin/env python3
"""Makes the adapter fixtures with PEFT, the reference implementation, on a tiny random Llama, and checks folders that fettle wrote.

  make_peft_golden.py make OUT [NAME...]  OUT/plain, OUT/patterns, OUT/dora: PEFT folders, and deltas.json beside them
  make_peft_golden.py check GOLDEN OURS   loads OURS with PEFT and compares what it adds to the weights with GOLDEN's deltas.json

deltas.json: {GGUF tensor name: [[row, column, value], ...]}: samples of scale * B A, q and k rows in the order of GGUF's llama files
(for each head, rows (2, half) transposed), without DoRA's magnitudes. Needs: torch, transformers, peft.
"""
import json
import os
import sys
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

HEADS, KV_HEADS, DIM, FF, LAYERS = 2, 1, 16, 24, 3
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
CONFIGS = {
    "plain": dict(r=2, lora_alpha=6, target_modules=[n.split(".")[1] for n in NAMES]),
    "patterns": dict(r=2, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "k_proj", "down_proj"], layers_to_transform=[0, 2],
                     rank_pattern={"down_proj": 3, r"layers\.2\.self_attn\.q_proj": 1}, alpha_pattern={r".*\.k_proj": 8}),
    "dora": dict(r=2, lora_alpha=6, use_dora=True, target_modules=[n.split(".")[1] for n in NAMES], layers_to_transform=[1]),
}


def base():
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=DIM, intermediate_size=FF, num_hidden_layers=LAYERS,
                                        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, tie_word_embeddings=False))


def deltas(model):
    out = {}
    for name, module in model.named_modules():
        if not hasattr(module, "get_delta_weight"):
            continue
        layer, part = name.split(".layers.")[1].split(".", 1)
        w = module.get_delta_weight("default").detach()
        heads = {"self_attn.q_proj": HEADS, "self_attn.k_proj": KV_HEADS}.get(part)
        if heads:
            w = w.reshape(heads, 2, w.shape[0] // heads // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
        places = [(i * 7 % w.shape[0], i * 5 % w.shape[1]) for i in range(12)]
        out[f"blk.{layer}.{NAMES[part]}.weight"] = [[r, c, float(w[r, c])] for r, c in places]
    return out


def make(folder, names):
    for name, options in CONFIGS.items():
        if names and name not in names:
            continue
        model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", **options))
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for key, p in model.named_parameters():
                if "lora_" in key:
                    noise = torch.randn(p.shape, generator=generator) * 0.1
                    p.copy_(p * (1 + noise) if "magnitude" in key else noise)
        model.peft_config["default"].base_model_name_or_path = "tiny"
        path = os.path.join(folder, name)
        model.save_pretrained(path)
        os.remove(os.path.join(path, "README.md"))
        with open(os.path.join(path, "deltas.json"), "w") as f:
            json.dump(deltas(model), f)


def check(golden, ours):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT warns of missing keys
        model = PeftModel.from_pretrained(base(), ours)
    want, got = json.load(open(os.path.join(golden, "deltas.json"))), deltas(model)
    assert set(want) == set(got), set(want) ^ set(got)
    worst = max(abs(a[2] - b[2]) for n in want for a, b in zip(want[n], got[n]))
    assert worst < 1e-7, worst
    print(f"{ours}: {len(got)} modules, largest difference {worst:.1e}")


if __name__ == "__main__":
    make(sys.argv[2], sys.argv[3:]) if sys.argv[1] == "make" else check(*sys.argv[2:4])
