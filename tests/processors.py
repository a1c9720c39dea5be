"""fettle on processors of 64-bit ARM: each gets the kernels that it can run, and answers as the others do.
usage: processors.py PROGRAM EMULATOR...   EMULATOR is QEMU's for user programs, to which '-cpu NAME' is added.
$FETTLE_SMOLLM2 names a real model (without one nothing is answered). The last line: 'N passed, N failed'."""
import json, os, subprocess, sys, tempfile

program, emulator = sys.argv[1], sys.argv[2:]
MODEL = os.environ.get("FETTLE_SMOLLM2", "")
KERNELS = {"cortex-a53": "portable", "cortex-a76": "neon", "neoverse-n1": "neon", "max": "neon_i8mm"}
passed = failed = 0


def expect(name, good, what=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print("passed" if good else "FAILED", name, "" if good else what, flush=True)


with tempfile.TemporaryDirectory() as home:

    def run(cpu, *arguments):
        return subprocess.run([*emulator, "-cpu", cpu, program, *arguments], env=dict(os.environ, FETTLE_HOME=home), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="replace")

    answers = set()
    for cpu, kernels in KERNELS.items():
        done = run(cpu, "doctor", "--json")
        expect(f"{cpu} runs {kernels}", f'"isa":"{kernels}"' in done.stdout.replace(" ", ""), done.stdout + done.stderr)
        if MODEL and kernels != "portable":  # whose sums are rounded otherwise
            done = run(cpu, "run", MODEL, "Name a colour.", "--max-tokens", "4", "--temperature", "0", "--json")
            text = json.loads(done.stdout or "{}").get("answer") if done.returncode == 0 else None
            expect(f"{cpu} answers", text, done.stdout + done.stderr)
            answers.add(text)
    if MODEL:
        expect("all give one answer", len(answers) == 1, answers)
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
