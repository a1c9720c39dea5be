#!/usr/bin/env python3
"""Writes src/format/codebooks.h: the rows of values that the indices of the IQ1, IQ2 and IQ3 formats stand for.

These are facts of the GGUF format; the figures come from the package gguf (gguf/quants.py). Each row becomes one number: which of a format's
magnitudes (or trits) each weight has, 2 or 3 bits a weight, the first weight lowest.

Needs: pip install gguf numpy.   Run: python tools/make_codebooks.py && ./dev fmt"""
import os

import gguf.quants as source
import numpy as np

BOOKS = [("IQ1_S", "kIq1Rows", "IQ1_S and IQ1_M: rows of eight trits, 0 1 2 for -1 0 1."),
         ("IQ2_XXS", "kIq2XxsRows", "IQ2: rows of eight magnitudes, 0 1 2 for 8 25 43."), ("IQ2_XS", "kIq2XsRows", None),
         ("IQ2_S", "kIq2SRows", None),
         ("IQ3_XXS", "kIq3XxsRows", "IQ3: rows of four magnitudes, 0 to 7 for 4 12 20 28 36 44 52 62 and, in IQ3_S, for 1 3 5 ... 15."),
         ("IQ3_S", "kIq3SRows", None)]
PLACE = os.path.join(os.path.dirname(__file__), "..", "src", "format", "codebooks.h")
HEAD = """// Which values the indices of the IQ1, IQ2 and IQ3 formats stand for: facts of the GGUF format, written by tools/make_codebooks.py from
// the figures in the Python package gguf. A number is a row: 2 bits a weight in rows of eight, 3 bits in rows of four, the first weight
// lowest.
#pragma once
#include <cstdint>

namespace fettle {

"""


def rows(name):
    book = getattr(source, name)
    book.init_grid()
    grid = book.grid.reshape(book.grid_shape)
    which = np.searchsorted(book.grid_map, grid)
    assert (np.take(book.grid_map, which) == grid).all()
    bits = 2 if len(book.grid_map) <= 4 else 3
    numbers = (which << (bits * np.arange(grid.shape[1]))).sum(axis=1)
    assert len(set(numbers)) == len(numbers)
    return numbers


with open(PLACE, "w") as out:
    out.write(HEAD)
    for name, array, comment in BOOKS:
        numbers = rows(name)
        width = 3 if name.startswith("IQ3") else 4
        if comment:
            out.write(f"// {comment}\n")
        out.write(f"inline constexpr uint16_t {array}[{len(numbers)}] = {{{', '.join(f'0x{n:0{width}x}' for n in numbers)}}};\n\n")
    out.write("}  // namespace fettle\n")
