"""Do the packages that read packed weights read ours, and we theirs, and is it the same model? Run by hand, on a CPU.

usage: packed_reads.py PROGRAM MODEL [--kinds gptq,gptq3,awq,nf4] [--tokens 48]
Ours there: `fettle convert MODEL --to KIND`, transformers opens the folder (gptqmodel, bitsandbytes), its modules give their weights, and a plain float32
model of these weights must give the logits of `fettle logits --activations f32` on the folder; it differs by the rounding of weights to f16 alone.
Theirs here: a small random Llama, packed by bitsandbytes (NF4 with and without double quantization, 8 bits) through transformers' save_pretrained,
opened by `fettle logits`, against the very same float32 model.
needs: torch transformers gptqmodel bitsandbytes numpy"""
import argparse, copy, json, subprocess, tempfile
import numpy as np, torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

LIMIT = 3e-3  # RMS of the logits' difference against that of the logits

p = argparse.ArgumentParser()
p.add_argument("program"); p.add_argument("model"); p.add_argument("--kinds", default="gptq,gptq3,awq,nf4"); p.add_argument("--tokens", type=int, default=48)
a = p.parse_args()
bad = []


def fettle(*arguments):
    subprocess.run([a.program, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def weight_of(module):
    """The weight that a packed linear stands for; None: it is none."""
    if hasattr(module, "dequantize_weight"): return module.dequantize_weight().T.float()
    if hasattr(module, "qweight"):
        from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
        return dequantize_gemm(module.qweight, module.qzeros, module.scales, module.bits, module.group_size).T.float()
    state = getattr(getattr(module, "weight", None), "quant_state", None)
    if state is not None:
        import bitsandbytes
        return bitsandbytes.functional.dequantize_4bit(module.weight.data, state).float()
    scb = getattr(getattr(module, "weight", None), "SCB", None)
    if scb is None and getattr(module, "state", None) is not None: scb = module.state.SCB
    return None if scb is None else module.weight.data.float() * scb.float()[:, None] / 127


def plain(model, config):
    """A float32 model of the same weights."""
    config = copy.deepcopy(config)
    if hasattr(config, "quantization_config"): del config.quantization_config
    weights = {}
    for name, module in model.named_modules():
        w = weight_of(module)
        if w is not None: weights[name + ".weight"] = w
    for name, value in model.state_dict().items():
        if value.is_floating_point() and name.rsplit(".", 1)[0] + ".weight" not in weights: weights[name] = value.float()
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    missing, strange = fresh.load_state_dict(weights, strict=False)
    strange = [n for n in strange if n.endswith((".weight", ".bias"))]
    assert not strange and all("lm_head" in n for n in missing), (missing, strange)
    fresh.tie_weights()
    return fresh.eval()


def compare(what, folder, model, ids):
    with tempfile.TemporaryDirectory() as root:
        json.dump(ids, open(f"{root}/ids.json", "w"))
        fettle("logits", folder, "--ids", f"{root}/ids.json", "--out", f"{root}/x.npy", "--activations", "f32")
        ours = torch.from_numpy(np.load(f"{root}/x.npy"))
    with torch.no_grad(): theirs = model(torch.tensor([ids])).logits[0]
    error = ((ours - theirs).pow(2).mean() / theirs.pow(2).mean()).sqrt().item()
    if not error <= LIMIT: bad.append(what)
    print(f"{what:28} {error:.1e}  {'ok' if error <= LIMIT else 'WRONG'}", flush=True)


with tempfile.TemporaryDirectory() as root:
    for kind in a.kinds.split(","):
        folder = f"{root}/{kind}"
        options = {"gptq": ["--to", "gptq", "--group", 32], "gptq3": ["--to", "gptq", "--bits", 3, "--group", 32], "awq": ["--to", "awq", "--group", 32],
                   "nf4": ["--to", "nf4"]}[kind]
        fettle("convert", a.model, *options, "--out", folder)
        model = AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", dtype=torch.float16)
        compare(f"ours there, {kind}", folder, plain(model, AutoConfig.from_pretrained(folder)), list(range(100, 100 + a.tokens)))
        del model
    torch.manual_seed(3)
    config = LlamaConfig(vocab_size=260, hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         tie_word_embeddings=False, initializer_range=0.1, bos_token_id=256, eos_token_id=257)
    LlamaForCausalLM(config).half().save_pretrained(f"{root}/plain")
    for what, options in {"nf4": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4"), "fp4": dict(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
                          "nf4, nested": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
                          "8 bits": dict(load_in_8bit=True)}.items():
        folder = f"{root}/theirs"
        model = AutoModelForCausalLM.from_pretrained(f"{root}/plain", quantization_config=BitsAndBytesConfig(**options), device_map="cpu", dtype=torch.float16)
        model.save_pretrained(folder)
        # a tokenizer, which a model's folder has: bytes, and two tokens of control
        names = [chr(b) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174 else None for b in range(256)]
        hidden = iter(range(256, 512))
        vocab = {n if n is not None else chr(next(hidden)): i for i, n in enumerate(names)}
        json.dump({"version": "1.0", "added_tokens": [{"id": i, "content": f"<{i}>", "special": True} for i in range(256, 260)], "normalizer": None,
                   "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
                                                                          {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
                   "post_processor": None, "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": vocab, "merges": []}},
                  open(f"{folder}/tokenizer.json", "w"))
        json.dump({"bos_token": "<256>", "eos_token": "<257>"}, open(f"{folder}/tokenizer_config.json", "w"))
        compare(f"theirs here, {what}", folder, plain(model, config), list(range(10, 10 + a.tokens)))
print("wrong: " + ", ".join(bad) if bad else "all the same model")
raise SystemExit(bool(bad))
