"""Checks of structure that no compiler makes. usage: check.py BUILD
- includes between rooms point down, and go to a room's public headers only
- files and functions stay short
- a type's name stands for one type in a namespace: for two, the linker keeps one destructor, and which depends on the compiler
- objects of an instruction set carry no weak symbols: the linker could pick that copy for code that must run on any machine"""
import os, re, subprocess, sys

build = sys.argv[1]
LAYER = dict(base=0, tensor=1, simd=1, format=2, text=2, op=3, store=3, model=4, engine=5, eval=5, compress=5, train=5, pipeline=6, cli=7, serve=7)
PEERS = {("op", "simd"), ("op", "format"), ("store", "text"), ("store", "format"), ("eval", "engine"), ("model", "store"), ("model", "op"), ("cli", "serve")}
PUBLIC = {"store": {"store.h", "gguf.h", "packed.h", "folder.h"}, "op": {"op.h", "batch.h", "kv_cache.h", "linear.h", "probe.h", "product.h"}, "text": {"text.h", "tokenizer.h", "chat_template.h", "dataset.h"},
          "simd": {"simd.h", "tiles.h", "isa.h"}, "base": None}
MOST_LINES, MOST_FUNCTION = 600, 80
problems = []
types = {}  # "namespace::Name": where it is defined, outside unnamed namespaces
for folder, _, files in os.walk("src"):
    for file in files:
        if not file.endswith((".cc", ".h")):
            continue
        path = os.path.join(folder, file)
        room = path.split(os.sep)[1]
        lines = open(path).read().split("\n")
        if len(lines) > MOST_LINES:
            problems.append(f"{path}: {len(lines)} lines, at most {MOST_LINES}")
        test = file.endswith("_test.cc")
        for number, line in enumerate(lines, 1):
            m = re.match(r'#include "([a-z]+)/([^"]+)"', line)
            if not m or m[1] not in LAYER or m[1] == room:
                continue
            below = LAYER[m[1]] < LAYER[room] or (room, m[1]) in PEERS
            if not below:
                problems.append(f"{path}:{number}: {room} may not include {m[1]}/")
            public = PUBLIC.get(m[1], {m[1] + ".h"})
            if not test and public is not None and m[2] not in public:
                problems.append(f"{path}:{number}: {m[1]}/{m[2]} is private to {m[1]}")
        space, unnamed = "", False
        for number, line in enumerate(lines, 1):
            if m := re.match(r"namespace ([\w:]*) ?\{$", line):
                unnamed, space = not m[1], m[1] or space
            elif line == "}  // namespace":
                unnamed = False
            elif (m := re.match(r"(?:struct|class) (\w+)(?: final)?(?: :.*)? \{", line)) and not unnamed:
                name = f"{space}::{m[1]}"
                # each instruction set's vocabulary (simd/) lies in a namespace of its own, named by a macro
                if room != "simd" and types.setdefault(name, path) != path:
                    problems.append(f"{path}:{number}: {name} is another type in {types[name]}")
        # a function: from a line at the margin that ends with '{' to the '}' at the margin (the format guarantees both)
        start = None
        for number, line in enumerate(lines, 1):
            if start is None and re.match(r"^(?:  )?[A-Za-z].*\) (?:const )?(?:noexcept )?(?:override )?\{$", line) and not line.strip().startswith(("if", "for", "while", "switch", "namespace")):
                start, indent = number, len(line) - len(line.lstrip())
            elif start is not None and line == " " * indent + "}":
                if number - start + 1 > MOST_FUNCTION:
                    problems.append(f"{path}:{start}: a function of {number - start + 1} lines, at most {MOST_FUNCTION}")
                start = None
for folder, _, files in os.walk(build):
    for file in files:
        if file.endswith(".kernel.cc.o"):
            symbols = subprocess.run(["nm", "-C", os.path.join(folder, file)], stdout=subprocess.PIPE, text=True).stdout
            for line in symbols.split("\n"):
                if re.search(r"^\S* +[WVu] ", line) and "kernels_" not in line:
                    problems.append(f"{os.path.join(folder, file)}: weak symbol {line.split(maxsplit=2)[-1]}")
print("\n".join(problems) or "structure: nothing to complain about")
sys.exit(1 if problems else 0)
