#!/usr/bin/env python3
"""Writes formats.txt: what the reference implementation makes of block formats.

decode NAME HEX SHA256 FLOATS   random valid blocks, the SHA-256 of their decoded f32 bytes, and the first eight of them as hex; where blocks
                                name rows of a codebook, every row is named at least once
quality NAME G H GW HW          relative RMSE of ggml's own quantization of sample_weights(): Gaussian and heavy-tailed rows, plain and
                                (weighted by sample_importance()) with an importance matrix; see format_test.cc for the same samples

NF4 and FP4 are bitsandbytes', whose blocks are put together here as four_bits.h has them, and decoded by it.

Needs: pip install gguf llama-cpp-python numpy torch bitsandbytes.   Run: python make_format_golden.py > formats.txt
"""
import ctypes
import glob
import hashlib
import os
import sys

import gguf
import llama_cpp
import numpy as np

ROWS, COLUMNS, BLOCKS = 16, 2048, 8
Type = gguf.GGMLQuantizationType
DECODED = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "IQ3_XXS",
           "IQ3_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_S", "IQ1_M", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4"]
ENCODED = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "TQ1_0", "TQ2_0",
           "MXFP4"]
# byte offsets of the half-precision scales in a block, which random bytes would make infinite
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "IQ4_NL": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_XS": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ2_XXS": [0], "IQ2_XS": [0],
          "IQ2_S": [0], "IQ1_S": [0], "TQ1_0": [52], "TQ2_0": [64]}

libraries = glob.glob(os.path.join(os.path.dirname(llama_cpp.__file__), "lib", "libggml-base.so"))
ggml = ctypes.CDLL(libraries[0]) if libraries else sys.exit("llama_cpp has no libggml-base.so")
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
                                     ctypes.c_void_p]


def random_blocks(name, rng):
    block, size = gguf.GGML_QUANT_SIZES[Type[name]]
    count = 64 if block == 1 else BLOCKS
    if name in CODEBOOKS:
        count = max(count, CODEBOOKS[name][0] * CODEBOOKS[name][1] // 256)
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    if name in ("F16", "BF16"):
        scales = rng.normal(size=count) * 2.0 ** rng.integers(-20, 10, count)
        half = scales.astype(np.float16).view(np.uint8) if name == "F16" else (scales.astype(np.float32).view(np.uint32) >> 16).astype(
            np.uint16).view(np.uint8)
        return half.reshape(count, 2)
    for offset in HALVES.get(name, []):
        # all sizes of scale, denormal halves and both signs among them
        scales = rng.normal(size=count) * 2.0 ** rng.integers(-22, 4, count)
        blocks[:, offset:offset + 2] = scales.astype(np.float16).view(np.uint8).reshape(count, 2)
    if name == "IQ1_M":  # the scale hides in the top four bits of the four u16 at 48..55
        scales = rng.normal(size=count).astype(np.float16).view(np.uint16)
        for i in range(4):
            blocks[:, 48 + 2 * i + 1] = (blocks[:, 48 + 2 * i + 1] & 15) | (((scales >> (4 * i)) & 15) << 4).astype(np.uint8)
    if name == "MXFP4":
        blocks[:, 0] = rng.choice([0, 1, 2, 100, 120, 127, 130, 200], count)
    if name in CODEBOOKS:
        name_every_row(name, blocks)
    return blocks


# Rows of the codebook, of how many weights each.
CODEBOOKS = {"IQ1_S": (2048, 8), "IQ1_M": (2048, 8), "IQ2_XXS": (256, 8), "IQ2_XS": (512, 8), "IQ2_S": (1024, 8), "IQ3_XXS": (256, 4),
             "IQ3_S": (512, 4)}


def name_every_row(name, blocks):
    """Replaces the rows that random blocks name by all rows in turn; signs and scales stay."""
    rows, weights = CODEBOOKS[name]
    count, each = len(blocks), 256 // weights
    row = (np.arange(count * each) % rows).reshape(count, each)
    low, high = (row & 255).astype(np.uint8), row >> 8
    if name == "IQ2_XXS":
        blocks[:, 2:].reshape(count, 8, 8)[:, :, :4] = low.reshape(count, 8, 4)
    elif name == "IQ2_XS":
        words = np.ascontiguousarray(blocks[:, 2:66]).view(np.uint16)
        blocks[:, 2:66] = ((words & 0xfe00) | row.astype(np.uint16)).view(np.uint8)
    elif name == "IQ2_S":
        blocks[:, 2:34] = low
        blocks[:, 66:74] = (high.reshape(count, 8, 4) << [0, 2, 4, 6]).sum(axis=2)
    elif name == "IQ3_XXS":
        blocks[:, 2:66] = low
    elif name == "IQ3_S":
        blocks[:, 2:66] = low
        blocks[:, 66:74] = (high.reshape(count, 8, 8) << np.arange(8)).sum(axis=2)
    elif name == "IQ1_S":
        words = np.ascontiguousarray(blocks[:, 34:50]).view(np.uint16)
        upper = (high.reshape(count, 8, 4) << [0, 3, 6, 9]).sum(axis=2).astype(np.uint16)
        blocks[:, 2:34], blocks[:, 34:50] = low, ((words & 0xf000) | upper).view(np.uint8)
    elif name == "IQ1_M":
        blocks[:, :32] = low
        blocks[:, 32:48] = (blocks[:, 32:48] & 0x88) | (high.reshape(count, 16, 2) << [0, 4]).sum(axis=2).astype(np.uint8)


def samples(count, seed):
    """Numbers in [0, 1) that any language can repeat: a 64-bit LCG's top 24 bits."""
    out = np.empty(count)
    state = seed
    for i in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        out[i] = (state >> 40) / 16777216.0
    return out


def sample_weights():
    """Rows of sums of four uniforms (nearly Gaussian); the second half divided by 0.05 + uniform (heavy tails)."""
    u = samples(ROWS * COLUMNS * 5, 1).reshape(ROWS, COLUMNS, 5)
    x = (u[..., 0] + u[..., 1]) + (u[..., 2] + u[..., 3]) - 2.0
    x[ROWS // 2:] = x[ROWS // 2:] / (0.05 + u[ROWS // 2:, :, 4])
    return (x * 0.03125).astype(np.float32)


def sample_importance():
    u = samples(COLUMNS, 2)
    return (1.0 / (0.01 + u)).astype(np.float32)


def quantize(name, x, importance):
    block, size = gguf.GGML_QUANT_SIZES[Type[name]]
    out = np.zeros((ROWS, COLUMNS // block * size), np.uint8)
    pointer = None if importance is None else importance.ctypes.data
    ggml.ggml_quantize_chunk(int(Type[name]), x.ctypes.data, out.ctypes.data, 0, ROWS, COLUMNS, pointer)
    return gguf.quants.dequantize(out, Type[name])


def errors(x, decoded, importance):
    def relative(rows):
        e = (decoded[rows].astype(np.float64) - x[rows]) ** 2 * importance
        return np.sqrt(e.sum() / (x[rows].astype(np.float64) ** 2 * importance).sum())
    return [relative(slice(0, ROWS // 2)), relative(slice(ROWS // 2, ROWS))]


def ggml_decode(name, blocks, count):
    function = getattr(ggml, "dequantize_row_" + name.replace("_K", "_k").lower().replace("_k", "_K"))
    out = np.empty(count, np.float32)
    function(ctypes.c_void_p(blocks.ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.c_int64(count))
    return out


def in_memory(rng):
    """Formats that GGUF has not: blocks of an f32 scale and 32 codes, and their weights as bitsandbytes and numpy have them."""
    import torch
    from bitsandbytes.functional import QuantState, dequantize_4bit, get_4bit_type
    for name in ("NF4", "FP4", "Q8_F32"):
        scales = (rng.normal(size=BLOCKS) * 2.0 ** rng.integers(-22, 4, BLOCKS)).astype(np.float32)
        codes = rng.integers(0, 256 if name == "Q8_F32" else 16, (BLOCKS, 32), dtype=np.uint8)
        codes[0, :16] = np.arange(16)
        if name == "Q8_F32":
            packed, floats = codes, codes.view(np.int8).astype(np.float32) * scales[:, None]
        else:
            packed = codes[:, :16] | codes[:, 16:] << 4
            theirs = torch.tensor(codes[:, 0::2] << 4 | codes[:, 1::2]).reshape(-1, 1)
            kind = name.lower()
            state = QuantState(torch.tensor(scales), (BLOCKS, 32), get_4bit_type(kind, "cpu", 32), 32, kind, torch.float32)
            floats = dequantize_4bit(theirs, state).numpy()
        yield name, np.concatenate([scales.view(np.uint8).reshape(BLOCKS, 4), packed], axis=1), floats.ravel()


def print_decode(name, blocks, floats):
    print("decode", name, blocks.tobytes().hex(), hashlib.sha256(floats.tobytes()).hexdigest(), floats[:8].tobytes().hex())


def main():
    rng = np.random.default_rng(7)
    for name in DECODED:
        blocks = random_blocks(name, rng)
        floats = gguf.quants.dequantize(blocks, Type[name]).astype(np.float32).ravel()
        if name not in ("F16", "BF16"):
            theirs = ggml_decode(name, blocks, floats.size)
            if floats.tobytes() != theirs.tobytes():
                bad = np.flatnonzero(floats.view(np.uint32) != theirs.view(np.uint32))
                print(f"{name}: gguf-py and ggml differ at {bad.size} of {floats.size}: {floats[bad[:4]]} {theirs[bad[:4]]}", file=sys.stderr)
        print_decode(name, blocks, floats)
    for name, blocks, floats in in_memory(np.random.default_rng(8)):
        print_decode(name, blocks, floats)
    x, importance = sample_weights(), sample_importance()
    for name in ENCODED:
        plain = errors(x, quantize(name, x, None), np.ones(COLUMNS))
        weighted = errors(x, quantize(name, x, importance), importance.astype(np.float64))
        print("quality", name, *(f"{e:.6g}" for e in plain + weighted))


if __name__ == "__main__":
    main()
