"""fettle beside its peer on this machine: speed in turns, and memory.  usage: bench.py PROGRAM [MODEL] [--quick] [--sequences 16] [--threads N]

Called by `./dev bench`. The peer (llama-cpp-python, built from source for this very processor) is installed by name into .cache/peers; without it
fettle is timed alone. MODEL: any name or file that fettle takes; smollm2-135m-instruct by default. Prints one row for each work: tokens per second
of both, the median ratio and its range, and what share of the machine's measured limit fettle reaches. For figures that count, leave the machine
otherwise idle."""
import argparse, json, os, subprocess, sys

PEER = "llama-cpp-python"


def install_peer(folder):
    """A Python that has the peer, or None with the reason printed."""
    python = os.path.join(folder, "bin", "python")
    if not os.path.exists(python):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    if subprocess.run([python, "-c", "import llama_cpp"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
        return python
    print(f"installing {PEER} into {folder} (it is compiled here: some minutes)", file=sys.stderr)
    environment = dict(os.environ, CMAKE_ARGS=os.environ.get("CMAKE_ARGS", "-DGGML_NATIVE=ON"))
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], env=environment)
    if done.returncode:
        print(f"{PEER} could not be installed; fettle is timed alone", file=sys.stderr)
        return None
    return python


def bench(program, model, options, environment):
    done = subprocess.run([program, "bench", model, *map(str, options), "--json"], env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip())


def show(document):
    peer = document.get("peer")
    theirs = {row["work"]: row for row in peer["rows"]} if peer else {}
    rows = [["work", "fettle tok/s", "share of limit"] + ([peer["name"] + " tok/s", "ratio", "lowest", "highest"] if peer else [])]
    for row in document["rows"]:
        cells = [row["work"], f"{row['tokens_per_s']:.1f}", f"{100 * row['share']:.0f} %"]
        if row["work"] in theirs:
            t = theirs[row["work"]]
            cells += [f"{t['tokens_per_s']:.1f}", f"{t['ratio']:.2f}", f"{min(t['ratios']):.2f}", f"{max(t['ratios']):.2f}"]
        elif peer:
            cells += ["-"] * 4
        rows.append(cells)
    table(rows)
    print(f"\n{document['model']}, {document['bytes'] / 1e6:.1f} MB; {document['threads']} threads, {document['isa']}; "
          f"load {document['load_ms']:.0f} ms, first token after {document['first_token_ms']:.0f} ms, "
          f"peak {document['peak_rss_bytes'] / 1e6:.0f} MB" + (f"; peer: {', '.join(peer[k] for k in ('version', 'note') if k in peer)}" if peer else ""))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program")
    p.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    p.add_argument("--quick", action="store_true", help="fewer tokens, two turns")
    p.add_argument("--sequences", type=int, default=16)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--alone", action="store_true", help="no peer")
    p.add_argument("--json", action="store_true", help="the document of fettle bench")
    a = p.parse_args()
    python = None if a.alone else install_peer(os.path.join(".cache", "peers"))
    options = ["--sequences", a.sequences, "--threads", a.threads]
    options += ["--prefill", 128, "--decode", 32, "--each", "32+16", "--repeat", 2] if a.quick else ["--repeat", 5]
    environment = dict(os.environ)
    if python:
        options.append("--against")
        environment["FETTLE_PYTHON"] = os.path.abspath(python)
    document = bench(a.program, a.model, options, environment)
    if a.json:
        print(json.dumps(document))
    else:
        show(document)


if __name__ == "__main__":
    main()
