"""Makes logits_smollm2.json: what transformers computes in fp32 on the decoded weights of a SmolLM2 GGUF.

usage: make_logits_golden.py MODEL.gguf > logits_smollm2.json      needs: torch transformers gguf
Of each of 64 positions of three prompts: log-sum-exp, the most likely id, and the logits of 24 ids spread over the vocabulary (all of them would be
38 MB). `greedy` is the continuation of 64 tokens."""
import json, os, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "The lighthouse at the end of the harbour had been dark for eleven years when the council voted, by one voice, to light it again. Nobody could say "
    "any more where the key was kept, so the first thing that the new keeper did was to buy a lock, and the second was to count the two hundred and six steps.",
    "#include <vector>\n\n// Returns the index of the first element that is not smaller than x.\nint lower(const std::vector<int>& v, int x) {\n  int low = 0, high = "
    "(int)v.size();\n  while (low < high) {\n    int middle = low + (high - low) / 2;\n    if (v[middle] < x) low = middle + 1; else high = middle;\n  }\n  return low;\n}\n",
    "<|im_start|>system\nYou answer in one sentence.<|im_end|>\n<|im_start|>user\nWo ist mein Paket? Bestellt am 3. M\u00e4rz, 2 St\u00fcck, 49,90 \u20ac \U0001F4E6 \u2014 bitte schnell! "
    "It was promised for Friday.<|im_end|>\n<|im_start|>assistant\nI am sorry for the wait; your parcel left the warehouse this morning.<|im_end|>\n",
]
folder, name = os.path.split(os.path.abspath(sys.argv[1]))
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
rows = []
for text in PROMPTS:
    ids = tokenizer(text, add_special_tokens=False).input_ids[:64]
    with torch.no_grad():
        past = model(torch.tensor([ids]), use_cache=True)
        logits, greedy = past.logits[0], []
        for _ in range(64):  # by hand: generate() would stop at, or forbid, end tokens
            greedy.append(past.logits[0, -1].argmax().item())
            past = model(torch.tensor([greedy[-1:]]), past_key_values=past.past_key_values, use_cache=True)
    columns = [(i * 2039 + 17) % logits.shape[1] for i in range(24)]
    rows.append(dict(ids=ids, columns=columns, logits=[[round(v, 5) for v in row] for row in logits[:, columns].tolist()],
                     log_sum_exp=[round(v, 5) for v in logits.double().logsumexp(-1).tolist()], top=logits.argmax(-1).tolist(), greedy=greedy))
    assert len(ids) == 64, len(ids)
json.dump(rows, sys.stdout, separators=(",", ":"))
