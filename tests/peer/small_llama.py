"""A small Llama of random weights as a Hugging Face folder, with a tokenizer of bytes: what peers can pack and train in seconds."""
import json
import torch
from transformers import LlamaConfig, LlamaForCausalLM

CONFIG = dict(vocab_size=260, hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              tie_word_embeddings=False, initializer_range=0.1, bos_token_id=256, eos_token_id=257)


def write_small_llama(folder):
    torch.manual_seed(3)
    LlamaForCausalLM(LlamaConfig(**CONFIG)).half().save_pretrained(folder)
    write_tokenizer(folder)


def write_tokenizer(folder):
    names = [chr(b) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174 else None for b in range(256)]
    hidden = iter(range(256, 512))
    vocab = {n if n is not None else chr(next(hidden)): i for i, n in enumerate(names)}
    pieces = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    control = [dict(id=i, content=f"<{i}>", special=True, single_word=False, lstrip=False, rstrip=False, normalized=False) for i in range(256, 260)]
    json.dump(dict(version="1.0", added_tokens=control, normalizer=None, pre_tokenizer=pieces, post_processor=None, decoder=pieces,
                   model=dict(type="BPE", vocab=vocab, merges=[])), open(f"{folder}/tokenizer.json", "w"))
    json.dump(dict(bos_token="<256>", eos_token="<257>", tokenizer_class="PreTrainedTokenizerFast"), open(f"{folder}/tokenizer_config.json", "w"))
