"""Makes arch/NAME.json: what transformers computes, in fp32, with a tiny model of each architecture, and PEFT in one step of training.

usage: make_arch_golden.py [NAME...]      needs: torch transformers peft safetensors numpy
No weights are stored: each is MEAN + SCALE * u, where u in [-1, 1) is a hash of the tensor's name and the element's index, which the test computes as well
(src/model/families_test.cc). A fixture has
  config   config.json as transformers writes it; "old": as it was written before rope_parameters
  tensors  [name, shape, mean, scale] of model.safetensors
  ids, columns, logits (ids x columns), log_sum_exp, top
  lora     rank and alpha; of each module the gradients of A and B, whose values come from the same hash: sum of squares, and some of them
  loss     of predicting each id from those before it, with the adapters
of an encoder instead of what follows ids
  hidden   (ids x columns) of the last states
To add an architecture: one line in CASES. Make what is special felt: windows shorter than the 14 ids, caps that bite, heads whose width is not
hidden_size / heads. The test finds the fixture by itself."""
import json, os, sys, tempfile
import numpy as np, torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

VOCABULARY = 288
IDS = [72, 7, 201, 33, 250, 98, 14, 171, 5, 120, 66, 231, 72, 7]
ENCODERS = {"bert"}
COLUMNS = [i * 17 % VOCABULARY for i in range(20)]
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ATTENTION = SEVEN[:4]  # transformers keeps a block's experts in one tensor, which is no module that PEFT could adapt
COMMON = dict(vocab_size=VOCABULARY, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=256, tie_word_embeddings=False, pad_token_id=0)


def case(model_type, lora=SEVEN, old=False, **more):
    return dict(model_type=model_type, lora=lora, old=old, more=more)


def rope(theta, kind="default", **more):
    return dict(rope_theta=theta, rope_type=kind, **more)


CASES = {
    "llama": case("llama", rope_parameters=rope(1000.0), attention_bias=True, mlp_bias=True),
    "llama3": case("llama", old=True, head_dim=16, tie_word_embeddings=True,
                   rope_parameters=rope(500.0, "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
    "llama_linear": case("llama", old=True, rope_parameters=rope(100.0, "linear", factor=2.5)),
    "llama_yarn": case("llama", rope_parameters=rope(100.0, "yarn", factor=4.0, original_max_position_embeddings=64)),
    "mistral": case("mistral", old=True, sliding_window=5, head_dim=16),
    "qwen2": case("qwen2", tie_word_embeddings=True, rope_parameters=rope(1000.0)),
    "qwen2_yarn": case("qwen2", old=True, rope_parameters=rope(100.0, "yarn", factor=4.0, original_max_position_embeddings=64, attention_factor=1.5)),
    "qwen2_windows": case("qwen2", old=True, num_hidden_layers=3, use_sliding_window=True, sliding_window=5, max_window_layers=1, rope_parameters=rope(1000.0)),
    "qwen3": case("qwen3", head_dim=16),
    "qwen3_windows": case("qwen3", num_hidden_layers=3, use_sliding_window=True, sliding_window=5,
                          layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    "smollm3": case("smollm3", num_hidden_layers=5, rope_parameters=rope(100.0)),
    "phi3": case("phi3", lora=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], old=True, sliding_window=5),
    "phi3_long": case("phi3", lora=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], original_max_position_embeddings=8,
                      rope_parameters=rope(100.0, "longrope", partial_rotary_factor=0.67, short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=[1.0, 2.5, 4.0, 9.0])),
    "phi3_short": case("phi3", lora=["qkv_proj", "down_proj"], max_position_embeddings=1024, original_max_position_embeddings=256,
                       rope_parameters=rope(100.0, "longrope", partial_rotary_factor=0.67, short_factor=[1.0, 1.1, 1.5, 1.3], long_factor=[1.0, 2.5, 4.0, 9.0])),
    "granite": case("granite", rope_parameters=rope(1000.0), embedding_multiplier=3.0, residual_multiplier=0.6, attention_multiplier=0.35, logits_scaling=2.5),
    "gemma": case("gemma", head_dim=16, tie_word_embeddings=True),
    "gemma2": case("gemma2", num_hidden_layers=3, head_dim=16, tie_word_embeddings=True, sliding_window=5, query_pre_attn_scalar=16,
                   attn_logit_softcapping=2.0, final_logit_softcapping=4.0),
    "gemma3": case("gemma3_text", num_hidden_layers=7, head_dim=16, tie_word_embeddings=True, sliding_window=5, query_pre_attn_scalar=16,
                   rope_parameters=dict(sliding_attention=rope(10000.0), full_attention=rope(1000.0, "linear", factor=4.0))),
    "gemma3_local": case("gemma3_text", num_hidden_layers=4, head_dim=16, tie_word_embeddings=True, sliding_window=5, query_pre_attn_scalar=9, sliding_window_pattern=2,
                         rope_parameters=dict(sliding_attention=rope(50.0), full_attention=rope(1000.0))),
    "mixtral": case("mixtral", lora=ATTENTION, rope_parameters=rope(1000.0), num_local_experts=5, num_experts_per_tok=2),
    # within the length trained first: beyond it transformers' PhiMoE scales what is rotated, but goes on with the short factors
    "phimoe": case("phimoe", lora=ATTENTION, num_local_experts=6, num_experts_per_tok=2, router_jitter_noise=0.3, attention_bias=True, lm_head_bias=True,
                   rope_parameters=rope(1000.0, "longrope", original_max_position_embeddings=64, short_mscale=1.25, long_mscale=1.25,
                                        short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5], long_factor=[1.0, 1.5, 2.0, 3.0, 5.0, 9.0])),
    "qwen3moe": case("qwen3_moe", lora=ATTENTION, head_dim=16, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=40, norm_topk_prob=True),
    "qwen3moe_plain": case("qwen3_moe", lora=ATTENTION, head_dim=16, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=40, norm_topk_prob=False),
    "qwen3moe_dense": case("qwen3_moe", lora=ATTENTION, num_hidden_layers=3, head_dim=16, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=40, mlp_only_layers=[0],
                           use_sliding_window=True, sliding_window=5),
    "qwen2moe_dense": case("qwen2_moe", lora=ATTENTION, num_hidden_layers=3, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=40, shared_expert_intermediate_size=56,
                           decoder_sparse_step=2),
    "qwen2moe": case("qwen2_moe", lora=ATTENTION, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=40, shared_expert_intermediate_size=56),
    "qwen2moe_norm": case("qwen2_moe", lora=ATTENTION, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=40, shared_expert_intermediate_size=56,
                          norm_topk_prob=True),
    "olmoe": case("olmoe", lora=ATTENTION, num_experts=6, num_experts_per_tok=3, num_key_value_heads=4),
    "olmo2": case("olmo2", rope_parameters=rope(1000.0)),
    "olmo3": case("olmo3", num_hidden_layers=4, sliding_window=5,
                  rope_parameters=dict(sliding_attention=rope(100.0), full_attention=rope(100.0, "yarn", factor=4.0, original_max_position_embeddings=64))),
    "bert": case("bert", num_key_value_heads=4, max_position_embeddings=64, layer_norm_eps=1e-3),
}


def hash_of(name, count):
    """u in [-1, 1): FNV-1a of the name, then splitmix64's mixing of the index."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    with np.errstate(over="ignore"):
        x = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def values(name, shape, mean, scale):
    return (np.float32(mean) + np.float32(scale) * hash_of(name, int(np.prod(shape)))).reshape(shape)


def statistics(name, shape, gemma, tied):
    if len(shape) == 1:
        return (0.0 if gemma or "norm" not in name.lower() else 1.0, 0.3) if not name.endswith("bias") else (0.0, 0.3)
    if "embed" in name:
        return 0.0, 0.3 if gemma or tied else 1.0
    return 0.0, round(1.5 * (3 / shape[-1]) ** 0.5, 4)


def old_form(config):
    """As config.json was written before transformers 5."""
    parameters = config.pop("rope_parameters")
    config.pop("layer_types", None)
    config["rope_theta"] = parameters.pop("rope_theta")
    if parameters.pop("partial_rotary_factor", 1.0) != 1.0: raise ValueError("write it out")
    kind = parameters.pop("rope_type")
    if kind != "default": config["rope_scaling"] = dict(parameters, rope_type=kind)
    return config


def make(name, spec):
    config = AutoConfig.for_model(spec["model_type"], **{**COMMON, **spec["more"]})
    config._attn_implementation = "eager"
    gemma, encoder = "gemma" in spec["model_type"], spec["model_type"] in ENCODERS
    kind = AutoModel if encoder else AutoModelForCausalLM
    with tempfile.TemporaryDirectory() as folder:
        kind.from_config(config).save_pretrained(folder)
        written = load_file(f"{folder}/model.safetensors")
        tensors = [[n, list(written[n].shape), *statistics(n, written[n].shape, gemma, config.tie_word_embeddings)] for n in sorted(written)]
        save_file({n: values(n, shape, mean, scale) for n, shape, mean, scale in tensors}, f"{folder}/model.safetensors", metadata={"format": "pt"})
        config = json.load(open(f"{folder}/config.json"))
        for key in ("transformers_version", "use_cache", "initializer_range", "attention_dropout", "dtype", "bos_token_id", "eos_token_id"):
            config.pop(key, None)
        if spec["old"]: config = old_form(config)
        json.dump(config, open(f"{folder}/config.json", "w"))
        model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.tensor([IDS])
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "arch", name + ".json")
    if encoder:
        with torch.no_grad():
            hidden = model(ids).last_hidden_state[0].double()
        columns = [c % hidden.shape[1] for c in COLUMNS]
        out = dict(config=config, tensors=tensors, ids=IDS, columns=columns, hidden=[[round(v, 5) for v in row] for row in hidden[:, columns].tolist()])
        json.dump(out, open(path, "w"), separators=(",", ":"))
        print(f"{name}: {len(tensors)} tensors, states' deviation {hidden.std().item():.3f}, {os.path.getsize(path)} bytes")
        return
    with torch.no_grad():
        logits = model(ids).logits[0].double()
    out = dict(config=config, tensors=tensors, ids=IDS, columns=COLUMNS, logits=[[round(v, 5) for v in row] for row in logits[:, COLUMNS].tolist()],
               log_sum_exp=[round(v, 5) for v in logits.logsumexp(-1).tolist()], top=logits.argmax(-1).tolist())
    adapted = get_peft_model(model, LoraConfig(r=3, lora_alpha=6, target_modules=spec["lora"], lora_dropout=0))
    named = {n: p for n, p in adapted.named_parameters() if ".lora_" in n}
    for n, p in named.items():
        n = n.replace(".default", "")
        p.data = torch.from_numpy(values(n, tuple(p.shape), 0, 0.2))
    loss = adapted(ids, labels=ids).loss
    loss.backward()
    out["loss"] = round(loss.item(), 6)
    out["lora"] = dict(rank=3, alpha=6, modules={})
    for n, p in named.items():
        g = p.grad.flatten().double()
        picked = [i * (len(g) - 1) // 4 for i in range(5)]
        out["lora"]["modules"][n.replace(".default", "")] = dict(shape=list(p.shape), squares=float(f"{(g * g).sum().item():.7g}"),
                                                                 some=[float(f"{g[i].item():.6g}") for i in picked])
    json.dump(out, open(path, "w"), separators=(",", ":"))
    spread = logits.softmax(-1).max(-1).values.mean().item()
    print(f"{name}: {len(tensors)} tensors, loss {out['loss']}, mean top probability {spread:.3f}, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        make(name, CASES[name])
