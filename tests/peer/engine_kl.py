"""What does computing in few bits cost, in fettle and in llama.cpp, on the same file? Run by hand: it needs a model, a text, and llama-cpp-python
built for the machine.

usage: engine_kl.py PROGRAM MODEL.gguf TEXT [--chunks 24] [--length 512]
The reference is plain f32 arithmetic on the file's decoded weights (`fettle logits --activations f32`, which agrees with transformers); what is
compared with it is each program's whole engine as it serves: rounded activations, keys and values in f16. Of fettle, prompts (`auto`) and, where the
processor has matrix tiles, the products that generated tokens take (bytes; FETTLE_ISA=avx512). The second half of each chunk is scored.
needs: llama-cpp-python numpy. Ends with 1 where fettle's mean is above the peer's by more than two standard errors of their difference."""
import argparse, json, os, subprocess, sys, tempfile
import numpy as np
from llama_cpp_here import llama_cpp

p = argparse.ArgumentParser()
p.add_argument("program"); p.add_argument("model"); p.add_argument("text")
p.add_argument("--chunks", type=int, default=24); p.add_argument("--length", type=int, default=512)
p.add_argument("--threads", type=int, default=os.cpu_count())
a = p.parse_args()
peer = llama_cpp.Llama(a.model, n_ctx=a.length, n_batch=a.length, n_threads=a.threads, n_threads_batch=a.threads, flash_attn=True, logits_all=True, verbose=False)


def log_softmax(x):
    x = x.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


with tempfile.TemporaryDirectory() as folder:
    def ours(ids, activations, isa=None):
        json.dump([int(i) for i in ids], open(f"{folder}/ids.json", "w"))
        environment = dict(os.environ, FETTLE_ISA=isa) if isa else None
        subprocess.run([a.program, "logits", a.model, "--ids", f"{folder}/ids.json", "--out", f"{folder}/x.npy", "--activations", activations, "-q"], check=True,
                       env=environment, stdout=subprocess.DEVNULL)
        return np.load(f"{folder}/x.npy")

    def theirs(ids):
        peer.reset(); peer.eval([int(i) for i in ids])
        return np.array(peer.scores[:len(ids)])

    engines = {"fettle": lambda ids: ours(ids, "auto"), "llama.cpp": theirs}
    if "amx_tile" in open("/proc/cpuinfo").read(): engines["fettle, generated"] = lambda ids: ours(ids, "auto", "avx512")
    ids = json.loads(subprocess.run([a.program, "tokenize", a.model], stdin=open(a.text, "rb"), capture_output=True, check=True).stdout)
    found = {name: [] for name in engines}
    half = a.length // 2
    for c in range(a.chunks):
        chunk = ids[c * a.length:(c + 1) * a.length]
        if len(chunk) < a.length: break
        reference = log_softmax(ours(chunk, "f32")[half:-1])
        for name, engine in engines.items():
            other = log_softmax(engine(chunk)[half:-1])
            found[name].append(((np.exp(reference) * (reference - other)).sum(-1), reference.argmax(-1) == other.argmax(-1)))
worse = []
peer_kl = np.concatenate([r[0] for r in found["llama.cpp"]])
for name, rows in found.items():
    kl, same = np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])
    more = kl - peer_kl
    if more.mean() > 2 * more.std() / len(kl) ** 0.5: worse.append(name)
    print(f"{name:20} KL {kl.mean():.6f} +- {kl.std() / len(kl) ** 0.5:.6f}, 99 % {np.quantile(kl, 0.99):.5f}, same first choice {100 * same.mean():.2f} %, {len(kl)} positions")
sys.exit(f"above llama.cpp's: {', '.join(worse)}" if worse else 0)
