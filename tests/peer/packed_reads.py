"""Do the packages that read packed weights read ours, and we theirs, and are they the same weights? Run by hand, on a CPU.

usage: packed_reads.py PROGRAM MODEL [--kinds gptq4,awq,nf4] [--tokens 48]
Ours there: `fettle convert --to KIND` of MODEL and of a small random Llama, opened by transformers (gptqmodel, bitsandbytes), and the Llama's by
GPTQModel.load too. Theirs here: the small Llama, packed by gptqmodel and bitsandbytes. Each time the packages' modules give their weights, which must be,
rounded as they round them, those that `fettle convert FOLDER --to hf --type F32` writes; and the packages' logits, in 16 bits, must be near those of
`fettle logits`. gptqmodel is held to its backends of plain PyTorch: others are compiled when they are first used, which takes long.
needs: torch transformers optimum gptqmodel bitsandbytes safetensors numpy"""
import argparse, copy, json, os, subprocess, sys, tempfile

# no compiler for packing; two workers, which gptqmodel wants even where there is one core
os.environ.update(GPTQMODEL_DISABLE_PACK_EXT="1", GPTQMODEL_CPU_WORKERS="2")
import numpy as np, torch
from safetensors.torch import load_file
from small_llama import write_small_llama, write_tokenizer
from transformers import AutoModelForCausalLM, AwqConfig, BitsAndBytesConfig, GPTQConfig

NEAR = 5e-2  # RMS of the logits' difference against that of the logits: bitsandbytes rounds what it multiplies by 8 bits to 8 bits too
BACKENDS = {"gptq": "gptq_torch", "awq": "torch_awq"}
KINDS = {"gptq2": ("gptq", 2), "gptq3": ("gptq", 3), "gptq4": ("gptq", 4), "gptq8": ("gptq", 8), "awq": ("awq", 4), "nf4": ("nf4", 4)}
THEIRS = {"gptq, 4 bits": dict(bits=4), "gptq, 4 bits, zeros": dict(bits=4, sym=False), "gptq, 4 bits, by activations": dict(bits=4, desc_act=True, act_group_aware=False),
          "gptq, 3 bits": dict(bits=3), "gptq, 2 bits": dict(bits=2), "gptq, 8 bits": dict(bits=8), "awq": dict(bits=4, quant_method="awq", format="gemm")}
BYTES = {"nf4": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4"), "fp4": dict(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
         "nf4, nested": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True), "8 bits": dict(load_in_8bit=True)}

p = argparse.ArgumentParser()
p.add_argument("program"); p.add_argument("model"); p.add_argument("--kinds", default=",".join(KINDS)); p.add_argument("--tokens", type=int, default=48)
a = p.parse_args()
bad = []


def fettle(*arguments):
    subprocess.run([a.program, *map(str, arguments), "-q"], check=True, stdout=subprocess.DEVNULL)


def opened(folder):
    method = json.load(open(f"{folder}/config.json"))["quantization_config"]["quant_method"]
    config = {"gptq": GPTQConfig(bits=4, backend=BACKENDS["gptq"]), "awq": AwqConfig(backend=BACKENDS["awq"])}.get(method)  # the folder's own, but for the backend
    return AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", dtype=torch.float16, **({"quantization_config": config} if config else {})).eval()


def weight_of(module):
    """The weight that a packed linear stands for; None: it is none."""
    if hasattr(module, "dequantize_weight"): return module.dequantize_weight().T
    if hasattr(module, "qweight"):
        from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
        return dequantize_gemm(module.qweight, module.qzeros, module.scales, module.bits, module.group_size).T
    weight = getattr(module, "weight", None)
    if getattr(weight, "quant_state", None) is not None:
        import bitsandbytes
        state = copy.copy(weight.quant_state)
        state.dtype = torch.float32
        return bitsandbytes.functional.dequantize_4bit(weight.data, state)
    scale = getattr(weight, "SCB", None)
    return None if scale is None else weight.data.float() * (scale.float()[:, None] / 127)


def weights_of(model):
    weights = {n + ".weight": weight_of(m) for n, m in model.named_modules()}
    weights = {n: w for n, w in weights.items() if w is not None}
    packed = set(weights)
    for name, value in model.state_dict().items():
        if name.endswith((".weight", ".bias")) and name.rsplit(".", 1)[0] + ".weight" not in packed: weights[name] = value
    return {n: w.clone() for n, w in weights.items()}, len(packed)


def compare(what, folder, model):
    with tempfile.TemporaryDirectory() as root, torch.no_grad():
        there, packed = weights_of(model)  # first: bitsandbytes moves them about when they are used
        ids = list(range(10, 10 + a.tokens))
        json.dump(ids, open(f"{root}/ids.json", "w"))
        fettle("logits", folder, "--ids", f"{root}/ids.json", "--out", f"{root}/x.npy", "--activations", "f32")
        ours, theirs = torch.from_numpy(np.load(f"{root}/x.npy")), model(torch.tensor([ids])).logits[0].float()
        near = ((ours - theirs).pow(2).mean() / theirs.pow(2).mean()).sqrt().item()
        fettle("convert", folder, "--to", "hf", "--type", "F32", "--out", f"{root}/floats")
        here = load_file(f"{root}/floats/model.safetensors")
        equal = sum(torch.equal(here[n].to(w.dtype), w) for n, w in there.items() if n in here)
        worst = max(((here[n].to(w.dtype).float() - w.float()).abs().max() / w.float().abs().max()).item() for n, w in there.items() if n in here)
        lost = [n for n in here if n not in there] + [n for n in there if n not in here and n != "lm_head.weight"]
    ok = not lost and packed > 0 and worst <= 1e-6 and near <= NEAR
    if not ok: bad.append(what)
    print(f"{what:38} {equal}/{len(here)} tensors equal ({packed} packed), the others within {worst:.0e}; logits {near:.1e}  {'ok' if ok else f'WRONG {lost[:3]}'}", flush=True)


with tempfile.TemporaryDirectory() as root:
    small = f"{root}/small"
    write_small_llama(small)
    for source in (small, a.model):
        name = "small" if source == small else os.path.basename(a.model)[:12]
        for kind in a.kinds.split(","):
            to, bits = KINDS[kind]
            folder = f"{root}/{name}-{kind}"
            fettle("convert", source, "--to", to, "--bits", bits, *([] if to == "nf4" else ["--group", 32]), "--out", folder)
            compare(f"{name}, {kind}, ours there", folder, opened(folder))
            if source == small and to in BACKENDS:
                from gptqmodel import GPTQModel
                loaded = GPTQModel.load(folder, backend=to + "_torch", device="cpu", dtype=torch.float16)
                compare(f"{name}, {kind}, ours in GPTQModel", folder, loaded.model)
    for what, options in BYTES.items():
        folder = f"{root}/theirs-{what}"
        AutoModelForCausalLM.from_pretrained(small, quantization_config=BitsAndBytesConfig(**options), device_map="cpu", dtype=torch.float16).save_pretrained(folder)
        write_tokenizer(folder)
        compare(f"small, bitsandbytes, {what}, theirs here", folder, opened(folder))
    from gptqmodel import GPTQModel, QuantizeConfig
    for what, options in THEIRS.items():
        folder = f"{root}/theirs-{what}"
        model = GPTQModel.load(small, QuantizeConfig(group_size=32, **options), device="cpu")
        rows = [dict(input_ids=torch.randint(0, 256, (64,)).tolist(), attention_mask=[1] * 64) for _ in range(16)]
        model.quantize(rows, batch_size=1, backend=options.get("quant_method", "gptq") + "_torch")
        model.save(folder)
        compare(f"small, {what}, theirs here", folder, opened(folder))
print("wrong: " + "; ".join(bad) if bad else "all the same weights")
sys.exit(bool(bad))
