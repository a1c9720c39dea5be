"""One turn of llama.cpp (the library inside llama-cpp-python) at the works that `fettle bench` times; prints tokens per second as one JSON line.

usage: peer_llama.py --version
       peer_llama.py MODEL.gguf [--prefill 512] [--decode 128] [--sequences 16 --prompt 128 --new 64] [--kv 1] [--threads 2] [--no-extra-buffers]
kv: ggml's number of the cache's type, 0 F32, 1 F16, 8 Q8_0.
`fettle bench --against` runs it in turns with its own. Like is compared with like: the same number of tokens in the same order of passes, the
logits of every decoded token, nothing sampled; flash attention on and one cache for all sequences, which are the peer's fastest settings."""
import argparse, importlib.metadata, json, os, sys, time


def load(a):
    llama = llama_cpp
    llama.llama_log_set(load.silence, None)
    llama.llama_backend_init()
    parameters = llama.llama_model_default_params()
    if a.no_extra_buffers:
        parameters.use_extra_bufts = False
    model = llama.llama_model_load_from_file(os.fsencode(a.model), parameters)
    if not model:
        sys.exit(f"llama.cpp cannot load {a.model}")
    return model


def make_context(model, tokens, sequences, a):
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx, parameters.n_batch, parameters.n_ubatch, parameters.n_seq_max = tokens, 2048, 512, sequences
    parameters.n_threads = parameters.n_threads_batch = a.threads
    parameters.type_k = parameters.type_v = a.kv
    # names that came late: an older peer runs with its defaults
    for name, value in (("flash_attn_type", 1), ("flash_attn", True), ("kv_unified", True)):
        if hasattr(parameters, name):
            setattr(parameters, name, value)
    return llama_cpp.llama_init_from_model(model, parameters)


def feed(context, rows):
    """rows: (token, position, sequence, logits wanted)"""
    for start in range(0, len(rows), 2048):
        part = rows[start:start + 2048]
        batch = llama_cpp.llama_batch_init(len(part), 0, 1)
        batch.n_tokens = len(part)
        for i, (token, position, sequence, wanted) in enumerate(part):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, position, 1, sequence, wanted
        if llama_cpp.llama_decode(context, batch):
            sys.exit("llama.cpp: decode failed")
        llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_synchronize(context)


def token(position, sequence):
    return (position * 7 + sequence) % 1000 + 10


def prompt(count, sequence=0):
    return [(token(i, sequence), i, sequence, i == count - 1) for i in range(count)]


def clear(context):
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)


def one_sequence(model, a):
    rates = {}
    context = make_context(model, max(a.prefill, 64 + a.decode) + 64, 1, a)
    feed(context, prompt(32))  # warm-up
    if a.prefill:
        clear(context)
        start = time.perf_counter()
        feed(context, prompt(a.prefill))
        rates["prefill"] = a.prefill / (time.perf_counter() - start)
    if a.decode:
        clear(context)
        feed(context, prompt(1))
        start = time.perf_counter()
        for i in range(a.decode):
            feed(context, [(token(i + 1, 0), i + 1, 0, True)])
        rates["decode"] = a.decode / (time.perf_counter() - start)
    llama_cpp.llama_free(context)
    return rates


def many_sequences(model, a):
    context = make_context(model, a.sequences * (a.prompt + a.new), a.sequences, a)
    start = time.perf_counter()
    feed(context, [row for s in range(a.sequences) for row in prompt(a.prompt, s)])
    middle = time.perf_counter()
    for i in range(a.new):
        feed(context, [(token(a.prompt + i, s), a.prompt + i, s, True) for s in range(a.sequences)])
    end = time.perf_counter()
    llama_cpp.llama_free(context)
    return {"batch": a.sequences * a.new / (end - middle), "batch_whole": a.sequences * a.new / (end - start)}


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("model", nargs="?")
    p.add_argument("--version", action="store_true")
    p.add_argument("--no-extra-buffers", action="store_true", help="weights as they lie in the file, not repacked for AMX or other kernels")
    for name, default in dict(prefill=512, decode=128, sequences=0, prompt=128, new=64, kv=1, threads=os.cpu_count()).items():
        p.add_argument("--" + name, type=int, default=default)
    a = p.parse_args()
    try:
        import llama_cpp
    except ImportError as error:
        sys.exit(f"llama_cpp cannot be imported: {error}")
    if a.version:
        print(json.dumps(dict(name="llama.cpp", version="llama-cpp-python " + importlib.metadata.version("llama-cpp-python"))))
    else:
        load.silence = llama_cpp.llama_log_callback(lambda *_: None)
        model = load(a)
        rates = one_sequence(model, a) if a.prefill or a.decode else {}
        if a.sequences:
            rates.update(many_sequences(model, a))
        print(json.dumps(rates))
