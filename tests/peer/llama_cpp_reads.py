"""Does llama.cpp read the files that fettle writes, and see the same model in them? Run by hand: it needs a model, and llama-cpp-python built
for the machine.

usage: llama_cpp_reads.py PROGRAM MODEL.gguf [--types Q8_0,Q4_K_M,...] [--tokens 48]
For each type: `fettle quantize`, then llama.cpp answers three prompts greedily, and `fettle logits --activations f32` on the very same ids says at
each step which token plain arithmetic on the decoded weights would have taken. llama.cpp rounds activations to 8 bits, so a step may differ where two
tokens are all but equally likely; such steps must be few, and the gap small. A block that one of the two reads wrongly shows as a gap of whole units.
needs: llama-cpp-python numpy. Its AMX kernels are left out: those of 0.3 end with a fault on K types."""
import argparse, json, os, subprocess, sys, tempfile
import numpy as np
from llama_cpp_here import llama_cpp

PROMPTS = ["The history of the steam engine begins", "def fibonacci(n):\n", "<|im_start|>user\nWhere is my parcel?<|im_end|>\n<|im_start|>assistant\n"]
GAP = 0.75    # logits by which the peer's choice may trail ours
AGREE = 0.9   # share of steps with the same choice

p = argparse.ArgumentParser()
p.add_argument("program"); p.add_argument("model")
p.add_argument("--types", default="F16,Q8_0,Q5_0,Q5_1,Q4_0,Q4_1,IQ4_NL,Q6_K,Q5_K_M,Q4_K_M,Q3_K_M,Q2_K"); p.add_argument("--tokens", type=int, default=48)
p.add_argument("--threads", type=int, default=os.cpu_count())
a = p.parse_args()
bad = []
with tempfile.TemporaryDirectory() as folder:
    for kind in a.types.split(","):
        path = f"{folder}/{kind}.gguf"
        subprocess.run([a.program, "quantize", a.model, "--type", kind, "--out", path], check=True, stdout=subprocess.DEVNULL)
        peer = llama_cpp.Llama(path, n_ctx=512, n_threads=a.threads, verbose=False)
        same, steps, worst, texts = 0, 0, 0.0, 0
        for prompt in PROMPTS:
            ids = peer.tokenize(prompt.encode(), add_bos=False, special=True)
            peer.reset()
            answer = []
            for token in peer.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
                answer.append(int(token))
                if len(answer) == a.tokens:
                    break
            json.dump(list(map(int, ids)) + answer, open(f"{folder}/ids.json", "w"))
            subprocess.run([a.program, "logits", path, "--ids", f"{folder}/ids.json", "--out", f"{folder}/x.npy", "--activations", "f32"], check=True, stdout=subprocess.DEVNULL)
            logits = np.load(f"{folder}/x.npy")[len(ids) - 1:-1]
            gaps = logits.max(-1) - logits[np.arange(len(answer)), answer]
            same += int((gaps == 0).sum()); steps += len(answer); worst = max(worst, float(gaps.max())); texts += bool((gaps == 0).all())
        peer.close()
        os.remove(path)
        ok = worst <= GAP and same >= AGREE * steps
        if not ok: bad.append(kind)
        print(f"{kind:8} same choice {same}/{steps}, same whole answers {texts}/{len(PROMPTS)}, largest gap {worst:.3f}  {'ok' if ok else 'WRONG'}", flush=True)
sys.exit(f"llama.cpp and fettle do not see the same model: {', '.join(bad)}" if bad else 0)
