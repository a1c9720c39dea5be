"""Official OpenAI clients (Python and Node) against a running server. usage: run.py MODEL [--fettle build/fettle] [--server 'URL KEY NAME']
Installs both packages into .cache/ when they are missing, starts `fettle serve MODEL --port 0`, runs both. The last line: 'N passed, N failed'.
--server talks to one that runs already. Without Node or npm its half is skipped and said so."""
import argparse, os, re, secrets, shutil, signal, subprocess, sys, threading

here = os.path.dirname(os.path.abspath(__file__))
cache = os.path.join(os.path.dirname(os.path.dirname(here)), ".cache")
p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("model", nargs="?", default="smollm2-135m-instruct")
p.add_argument("--fettle", default="build/fettle")
p.add_argument("--server", help="'URL KEY NAME' of a running server, URL ending in /v1")
arguments = p.parse_args()


def python_packages():
    folder = os.path.join(cache, "clients-python")
    if not os.path.isdir(os.path.join(folder, "openai")):
        print("installing the Python package openai into", os.path.relpath(folder), flush=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", folder, "openai"], check=True)
    return folder


def node_packages():
    folder = os.path.join(cache, "clients-node")
    if not os.path.isdir(os.path.join(folder, "node_modules", "openai")):
        print("installing the npm package openai into", os.path.relpath(folder), flush=True)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "package.json"), "w") as f:
            f.write('{"private": true}\n')
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, "openai"], check=True, stdout=subprocess.DEVNULL)
    return folder


def start_server():
    """The process, its URL and key; serve prints 'url  http://.../v1' when it is ready."""
    key = secrets.token_urlsafe(24)
    process = subprocess.Popen([arguments.fettle, "serve", arguments.model, "--port", "0"], env=dict(os.environ, FETTLE_API_KEY=key),
                               stdout=subprocess.PIPE, text=True)
    url = name = None
    for line in process.stdout:
        url = url or (re.search(r"http://\S+/v1\b", line) or [None])[0]
        name = name or (re.match(r"model\s+(\S+)", line) or [None, None])[1]
        if url and name:
            break
    # what it says later must not fill the pipe
    threading.Thread(target=process.stdout.read, daemon=True).start()
    if not url or not name:
        sys.exit(f"the server ended with code {process.wait()} before it named its URL")
    return process, url, key, name


def run(command, environment=None):
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    counts = re.search(r"(\d+) passed, (\d+) failed\s*$", done.stdout)
    return (int(counts[1]), int(counts[2])) if counts else (0, 1)


process = None
if arguments.server:
    url, key, name = arguments.server.split()
else:
    process, url, key, name = start_server()
try:
    print("Python")
    passed, failed = run([sys.executable, os.path.join(here, "python_client.py"), url, key, name],
                         dict(os.environ, PYTHONPATH=python_packages(), NO_PROXY="127.0.0.1,localhost"))
    if shutil.which("node") and shutil.which("npm"):
        print("Node")
        more = run(["node", os.path.join(here, "node_client.mjs"), node_packages(), url, key, name], dict(os.environ, NO_PROXY="127.0.0.1,localhost"))
        passed, failed = passed + more[0], failed + more[1]
    else:
        print("Node: skipped, node or npm is not installed")
finally:
    if process:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
if process:
    clean = code in (0, 130)
    print("ok     the server ended cleanly" if clean else f"FAILED the server ended with code {code}")
    passed, failed = passed + clean, failed + (not clean)
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
