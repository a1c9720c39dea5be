"""Makes tokenizer_text.json: SmolLM2's ids on more than 1 MB of mixed text (prose, questions, code-like templates, JSON, many scripts), as the
`tokenizers` package gives them, told as one digest per piece of 8,192 characters.

usage: make_tokenizer_text_golden.py MODEL.gguf SHARED_DATA_DIR > tokenizer_text.json      needs: tokenizers gguf
The texts are data sets that are not ours to ship; the test that reads this file is skipped where they are absent."""
import hashlib, json, os, struct, sys
from make_tokenizer_golden import read_model

FILES = ["wikitext2/test.txt", "banking77/test.csv", "gsm8k/test.jsonl", "chat_templates/meta-llama-Llama-3.1-8B-Instruct.jinja",
         "chat_templates/openai-gpt-oss-120b.jinja", "tokenizers/ggml-vocab-llama-bpe.gguf.inp"]
PIECE = 8192
tokenizer = read_model(sys.argv[1])
pieces = []
for file in FILES:
    text = open(os.path.join(sys.argv[2], file), encoding="utf-8", newline="").read()[:400000]
    for at in range(0, len(text), PIECE):
        part = text[at:at + PIECE]
        ids = tokenizer.encode(part, add_special_tokens=False).ids
        pieces.append(dict(file=file, bytes=len(part.encode()), ids=len(ids), sha256=hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()))
print('[\n' + ",\n".join(json.dumps(p) for p in pieces) + '\n]')
