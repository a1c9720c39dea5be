"""Are the embeddings of an encoder those of transformers, and of llama.cpp from the GGUF that fettle writes? Run by hand.

usage: embeddings.py PROGRAM FOLDER TEXTS.csv [--count 200]
FOLDER: a BERT as Hugging Face has it (MiniLM); TEXTS: a file whose lines, or whose first column, are texts. In order: the folder in plain f32
arithmetic against transformers in fp32, pooled by hand; the same as it serves; the GGUF that `fettle convert` makes of it, in fettle and in
llama.cpp; the folder that is written of the GGUF, in transformers.
needs: torch transformers numpy llama-cpp-python. Ends with 1 where f32 is further off than 1e-4 or another program's reading than 2e-3."""
import argparse, csv, json, os, subprocess, sys, tempfile
import numpy as np, torch, transformers
from llama_cpp_here import llama_cpp

p = argparse.ArgumentParser()
p.add_argument("program"); p.add_argument("folder"); p.add_argument("texts")
p.add_argument("--count", type=int, default=200)
a = p.parse_args()
rows = list(csv.reader(open(a.texts, encoding="utf-8")))
texts = [row[0].replace("\n", " ").strip() for row in rows[1:] if row and row[0].strip()][: a.count]
texts[0] += " Näïve 漢字 ... " + "word " * 100  # accents, another script, a long one
texts.append(texts[1] + " [SEP] more")  # a special token's name, which llama_cpp takes for text


def fettle(model, *more):
    done = subprocess.run([a.program, "embed", model, "--json", *more], input="\n".join(texts) + "\n", capture_output=True, text=True, check=True)
    return np.array(json.loads(done.stdout)["embeddings"])


def reference(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    vectors = []
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(text, truncation=True, max_length=model.config.max_position_embeddings, return_tensors="pt")
            vectors.append(torch.nn.functional.normalize(model(**ids).last_hidden_state[0].mean(0), dim=0).double().numpy())
    return np.array(vectors)


failed = []


def compare(name, vectors, truth, most):
    difference = np.abs(vectors - truth).max()
    cosine = (vectors * truth).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(truth, axis=1)
    print(f"{name:42} largest difference {difference:.2e}, least cosine {cosine.min():.6f}")
    if not difference <= most: failed.append(name)


truth = reference(a.folder)
print(f"{len(texts)} texts, vectors of {truth.shape[1]}")
compare("folder, f32", fettle(a.folder, "--activations", "f32"), truth, 1e-4)
compare("folder, as it serves", fettle(a.folder), truth, 2e-2)
with tempfile.TemporaryDirectory() as scratch:
    def convert(name, *more):
        subprocess.run([a.program, *more, "--out", f"{scratch}/{name}", "-q"], check=True, stdout=subprocess.DEVNULL)
        return f"{scratch}/{name}"
    gguf = convert("model.gguf", "convert", a.folder, "--type", "F32")
    half = convert("half.gguf", "convert", a.folder, "--type", "F16")
    eight = convert("eight.gguf", "quantize", a.folder, "--type", "Q8_0")
    back = convert("folder", "convert", gguf, "--to", "hf", "--type", "F32")
    compare("its GGUF, f32", fettle(gguf, "--activations", "f32"), truth, 1e-4)
    compare("Q8_0, as it serves", fettle(eight), truth, 3e-2)
    compare("its GGUF's folder, transformers", reference(back), truth, 1e-6)
    for name, file, most in (("its GGUF, llama.cpp", gguf, 2e-3), ("F16, llama.cpp", half, 5e-3), ("Q8_0, llama.cpp", eight, 3e-2)):
        peer = llama_cpp.Llama(file, embedding=True, n_ctx=512, n_batch=512, n_ubatch=512, verbose=False)
        vectors = np.array([peer.embed(text, normalize=True) for text in texts[:-1]])
        compare(name, vectors, truth[:-1], most)
print("failed: " + ", ".join(failed) if failed else "ok")
sys.exit(1 if failed else 0)
