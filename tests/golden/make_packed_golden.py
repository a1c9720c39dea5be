#!/usr/bin/env python3
"""Writes packed.safetensors and packed.json: small weights as the packages pack them, and what they decode them to.

Each case is a module of packed.safetensors; packed.json has its quantization_config, the format that fettle is to hold it in, and the SHA-256
of the decoded weights as f32, row by row: products in f32 of the stored scales, or, where "format" is a float, in that precision.

GPTQ and AWQ by GPTQModel's own packing modules, bitsandbytes and compressed-tensors by themselves, all on the CPU.
Needs: pip install torch safetensors bitsandbytes compressed-tensors gptqmodel.   Run: python make_packed_golden.py
"""
import hashlib
import json
from types import SimpleNamespace

import bitsandbytes
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from compressed_tensors.compressors.naive_quantized.base import IntQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from gptqmodel.nn_modules.qlinear.gemv_awq import AwqGEMVLinear
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module
from safetensors.torch import save_file

OUT, IN = 32, 128
tensors, cases = {}, []


def add(name, parts, config, form, weights, why=None):
    for part, value in parts.items():
        tensors[f"{name}.{part}"] = value.detach().clone().contiguous()
    floats = weights.detach().float().contiguous().numpy()
    cases.append({"module": name, "config": config, "format": form, "shape": list(floats.shape), "sha256": hashlib.sha256(floats.tobytes()).hexdigest(),
                  "first": [float(x) for x in floats.ravel()[:4]]})


def some(generator, bits, groups, symmetric, dtype=torch.float16):
    """Codes, zeros, scales (OUT, groups) at random."""
    codes = torch.randint(0, 2**bits, (OUT, IN), generator=generator)
    zeros = torch.full((OUT, groups), 2 ** (bits - 1)) if symmetric else torch.randint(0, 2**bits, (OUT, groups), generator=generator)
    scales = (torch.rand(OUT, groups, generator=generator) * 0.02 + 0.001).to(dtype)
    return codes, zeros, scales


def linear_of(codes, zeros, scales, g_idx):
    linear = torch.nn.Linear(IN, OUT, bias=False)
    linear.weight.data = scales.float()[:, g_idx] * (codes - zeros[:, g_idx]).float()
    return linear


def gptq(name, seed, bits, size, symmetric, form, kind="gptq", scatter=False, idx=True, dtype=torch.float16):
    g = torch.Generator().manual_seed(seed)
    groups = 1 if size == -1 else IN // size
    codes, zeros, scales = some(g, bits, groups, symmetric, dtype)
    g_idx = torch.arange(IN) // (IN if size == -1 else size)
    if scatter:
        g_idx = g_idx[torch.randperm(IN, generator=g)]
    module = TorchLinear(bits=bits, group_size=size, sym=symmetric, desc_act=scatter, in_features=IN, out_features=OUT, bias=False)
    module.pack_original(linear_of(codes, zeros, scales, g_idx), scales.float(), zeros.float(), g_idx.to(torch.int32))
    stored = scales.T.contiguous()
    module.scales = stored if form in ("F16", "BF16") else stored.float()
    module.dequant_dtype = torch.int16
    module.post_init()
    weights = module.dequantize_weight().T
    truth = scales.float()[:, g_idx] * (codes - zeros[:, g_idx]).float()
    assert torch.equal(weights.float(), (truth.to(dtype).float() if form in ("F16", "BF16") else truth)), name
    if kind == "gptq":
        convert_gptq_v2_to_v1_format_module(module, SimpleNamespace(bits=bits, pack_dtype=torch.int32))
    parts = {"qweight": module.qweight, "qzeros": module.qzeros, "scales": stored}
    if idx:
        parts["g_idx"] = module.g_idx.to(torch.int32)
    config = {"quant_method": "gptq", "bits": bits, "group_size": size, "desc_act": scatter, "sym": symmetric, "checkpoint_format": kind,
              "pack_dtype": "int32"}
    add(name, parts, config, form, weights)


def awq(name, seed, size, version):
    g = torch.Generator().manual_seed(seed)
    codes, zeros, scales = some(g, 4, IN // size, False)
    g_idx = torch.arange(IN) // size
    linear = linear_of(codes, zeros, scales, g_idx)
    kind = AwqTorchLinear if version == "gemm" else AwqGEMVLinear
    module = kind.__new__(kind)
    torch.nn.Module.__init__(module)
    module.bits, module.group_size, module.in_features, module.out_features = 4, size, IN, OUT
    module.clear_weight_cache = lambda: None
    # their layouts ask for scales and zeros in different orders: (groups, out) is turned inside one of them
    module.pack(linear, scales.float() if version == "gemm" else scales, zeros.float())
    parts = {"qweight": module.qweight, "qzeros": module.qzeros, "scales": module.scales.half()}
    weights = linear.weight
    if version == "gemm":
        from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
        weights = dequantize_gemm(module.qweight, module.qzeros, module.scales.float(), 4, size).T
    config = {"quant_method": "awq", "bits": 4, "group_size": size, "zero_point": True, "version": version}
    add(name, parts, config, "Q5_0", weights)


def four_bits(name, seed, kind, nested, shape, form, blocksize=64):
    g = torch.Generator().manual_seed(seed)
    weights = torch.randn(shape, generator=g) * 0.02
    packed, state = bitsandbytes.functional.quantize_4bit(weights, quant_type=kind, compress_statistics=nested, blocksize=blocksize)
    parts = {"weight": packed} | {f"weight.{key}": value for key, value in state.as_dict(packed=True).items()}
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": nested}
    absmax = state.absmax
    if nested:
        absmax = bitsandbytes.functional.dequantize_blockwise(absmax, state.state2) + state.offset
    # the plain definition: the CPU's kernel goes wrong where runs of more than 64 end within a row
    weights = _dequantize_4bit_compute(packed.reshape(-1), absmax, state.code, blocksize, shape, torch.float32)
    assert blocksize > 64 or torch.equal(weights, bitsandbytes.functional.dequantize_4bit(packed, state)), name
    add(name, parts, config, form, weights)


def eight_bits(name, seed):
    g = torch.Generator().manual_seed(seed)
    weights = (torch.randn(OUT, IN, generator=g) * 0.02).half()
    codes, scb, _ = torch.ops.bitsandbytes.int8_vectorwise_quant(weights)
    scales = scb * 7.874015718698502e-3
    parts = {"weight": codes, "SCB": scb, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    # int8_vectorwise_dequant multiplies in another order, which can differ in the last bit
    theirs, ours = bitsandbytes.functional.int8_vectorwise_dequant(codes, scb), codes * scales[:, None]
    assert torch.allclose(theirs, ours, rtol=2e-7, atol=0)
    add(name, parts, {"quant_method": "bitsandbytes", "load_in_8bit": True}, "Q8_F32", ours)


def compressed(name, seed, bits, strategy, symmetric, form, layout="pack-quantized", size=32, scatter=False, dtype=torch.bfloat16):
    g = torch.Generator().manual_seed(seed)
    groups = IN // size if strategy == "group" else 1
    rows = 1 if strategy == "tensor" else OUT
    half = 2 ** (bits - 1)
    codes = torch.randint(-half, half, (OUT, IN), generator=g)
    zeros = torch.zeros(rows, groups, dtype=torch.int8) if symmetric else torch.randint(-half, half, (rows, groups), generator=g).to(torch.int8)
    scales = (torch.rand(rows, groups, generator=g) * 0.02 + 0.001).to(dtype)
    g_idx = torch.arange(IN) // (size if strategy == "group" else IN)
    if scatter:
        g_idx = g_idx[torch.randperm(IN, generator=g)]
    args = QuantizationArgs(num_bits=bits, symmetric=symmetric, strategy=strategy, group_size=size if strategy == "group" else None)
    truth = scales.float()[:, g_idx] * (codes - zeros[:, g_idx].int()).float()
    state = {"weight": truth, "weight_scale": scales.float(), "weight_zero_point": zeros}
    if scatter:  # their compressor is given columns in the order of their groups, and told the order
        order = torch.argsort(g_idx, stable=True)
        state["weight"] = truth[:, order]
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    kind = PackedQuantizationCompressor if layout == "pack-quantized" else IntQuantizationCompressor
    parts = kind.compress(dict(state), scheme)
    weights = kind.decompress(dict(parts), scheme)["weight"]
    assert torch.equal(weights.float(), state["weight"]), name
    if form in ("F16", "BF16"):  # products in the precision of the stored scales, as they are multiplied when a model is opened
        weights = kind.decompress(dict(parts) | {"weight_scale": scales}, scheme)["weight"]
        assert torch.equal(weights, state["weight"].to(dtype)), name
    if scatter:  # what older versions wrote: columns in their own order, packed the same way
        state["weight"] = truth
        from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
        parts["weight_packed"] = pack_to_int32(codes.to(torch.int8), bits)
        parts["weight_g_idx"] = g_idx.to(torch.int32)
        weights = truth.to(dtype)
    parts["weight_scale"] = scales
    config = {"quant_method": "compressed-tensors", "format": layout, "quantization_status": "compressed", "ignore": ["lm_head"],
              "config_groups": {"group_0": {"targets": ["Linear"], "weights": json.loads(args.model_dump_json()), "input_activations": None,
                                            "output_activations": None}}}
    add(name, parts, config, form, weights)


gptq("gptq4", 1, 4, 64, True, "Q4_0")
gptq("gptq4_zeros", 2, 4, 32, False, "Q5_0")
gptq("gptq4_zeros_v2", 3, 4, 128, False, "Q5_0", kind="gptq_v2", idx=False)
gptq("gptq4_columns", 4, 4, -1, True, "Q4_0", idx=False)
gptq("gptq4_scattered", 5, 4, 32, True, "F16", scatter=True)
gptq("gptq4_scattered_bf16", 6, 4, 32, False, "BF16", scatter=True, dtype=torch.bfloat16)
gptq("gptq4_bf16", 7, 4, 64, True, "Q4_0", dtype=torch.bfloat16)
gptq("gptq2", 8, 2, 64, False, "Q4_0")
gptq("gptq3", 9, 3, 64, True, "Q4_0")
gptq("gptq3_zeros", 10, 3, 32, False, "Q4_0")
gptq("gptq3_zeros_v2", 11, 3, 32, False, "Q4_0", kind="gptq_v2")
gptq("gptq8", 12, 8, 128, True, "Q8_0")
gptq("gptq8_zeros", 13, 8, 64, False, "F16")
gptq("gptq4_16", 14, 4, 16, True, "F16")
awq("awq", 20, 64, "gemm")
awq("awq32", 21, 32, "gemm")
awq("awq_gemv", 22, 64, "gemv")
four_bits("nf4", 30, "nf4", False, (OUT, IN), "NF4")
four_bits("nf4_nested", 31, "nf4", True, (OUT, 3 * IN), "NF4")
four_bits("fp4", 32, "fp4", False, (OUT, IN), "FP4")
four_bits("nf4_wide", 33, "nf4", True, (OUT, 96), "NF4", blocksize=128)
four_bits("nf4_odd", 34, "nf4", False, (OUT, 40), "F32")
eight_bits("int8", 40)
compressed("packed4", 50, 4, "group", True, "Q4_0")
compressed("packed4_zeros", 51, 4, "group", False, "Q5_0")
compressed("packed4_scattered", 52, 4, "group", True, "BF16", scatter=True)
compressed("packed8", 53, 8, "channel", True, "Q8_0")
compressed("packed3", 54, 3, "group", False, "Q4_0")
compressed("packed5", 55, 5, "channel", True, "Q5_0")
compressed("packed4_f32", 56, 4, "channel", True, "Q8_F32", dtype=torch.float32)
compressed("ints_rows", 57, 8, "channel", True, "Q8_0", layout="int-quantized", dtype=torch.float16)
compressed("ints_whole", 58, 8, "tensor", True, "Q8_0", layout="int-quantized")
compressed("ints_zeros", 59, 8, "channel", False, "BF16", layout="int-quantized")
save_file(tensors, "packed.safetensors")
with open("packed.json", "w") as file:
    json.dump(cases, file, indent=0)
    file.write("\n")
