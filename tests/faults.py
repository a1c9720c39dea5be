"""What a user's bad day looks like, against the built program: broken models and data, a full disk, kill -9, Ctrl-C. Each must end in a clear error or a
clean stop, and nothing that was there may be lost.

usage: faults.py PROGRAM      $FETTLE_SMOLLM2 names a real model (tests that need it are skipped without). The last line: 'N passed, N failed'."""
import glob, json, os, resource, signal, subprocess, sys, tempfile, time, unittest
from pathlib import Path

PROGRAM = os.path.abspath(sys.argv.pop(1))
MODEL = os.environ.get("FETTLE_SMOLLM2", "")
SANITIZED = b"__asan_init" in Path(PROGRAM).read_bytes()
ROW = '{"messages": [{"role": "user", "content": "question %d, please"}, {"role": "assistant", "content": "label_%d"}]}\n'


class Faults(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.environment = dict(os.environ, FETTLE_HOME=self.path("home"))

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, content):
        Path(self.path(name)).write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.path(name)

    def run_fettle(self, *arguments, largest_file=None, **more):
        """Exit code, stdout, stderr. largest_file: writes beyond so many bytes fail, as they do on a full disk."""
        def limit():
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        done = subprocess.run([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=self.environment,
                              timeout=120, preexec_fn=limit, restore_signals=False, cwd=self.folder.name, **more)  # SIGXFSZ stays ignored
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def refused(self, *arguments, says=()):
        code, out, err = self.run_fettle(*arguments)
        self.assertEqual(code, 3, err)
        for word in says:
            self.assertIn(word, err)
        self.assertLess(len(err), 2000)
        return err

    def test_broken_models(self):
        head = Path(MODEL).read_bytes()[:3_000_000] if MODEL else b"GGUF\3\0\0\0" + b"\xff" * 16
        cases = {"empty.gguf": b"", "four.gguf": b"GGUF", "garbage.gguf": os.urandom(1 << 16), "cut.gguf": head,
                 "counts.gguf": b"GGUF\3\0\0\0" + b"\xff" * 16, "text.gguf": b"<html>404 not found</html>"}
        self.refused("inspect", self.path("absent.gguf"), says=["absent.gguf"])
        for name, content in cases.items():
            for command in (["inspect"], ["run", "--max-tokens", "1"], ["quantize", "--type", "Q8_0", "--out", self.path("never.gguf")]):
                file = self.write(name, content)
                self.refused(command[0], file, *command[1:], *(["hello"] if command[0] == "run" else []), says=[name])
                self.assertEqual(Path(file).read_bytes(), content)
        self.assertFalse(os.path.exists(self.path("never.gguf")))

    def test_broken_rows_are_named(self):
        rows = [ROW % (i, i) for i in range(6)]
        rows[2] = '{"messages": [{"role": "user", "content": "no answer"}]}\n'
        rows[3] = '{"messages": [{"role": "wizard", "content": "x"}, {"role": "assistant", "content": "y"}]}\n'
        rows[4] = '{"messages": [{"role": "user", "content": "cut\n'
        file = self.write("rows.jsonl", "".join(rows))
        err = self.refused("data", "split", file, "--out", self.path("parts"), says=["rows.jsonl:3"])
        self.assertIn("--skip-bad", err)
        code, out, err = self.run_fettle("data", "check", file, "--json")
        document = json.loads(out)
        self.assertEqual([p["row"] for p in document["problems"]], [3, 4, 5])
        self.assertEqual((document["rows"], document["accepted"]), (6, 3))

    def test_line_ends_marks_and_a_huge_line(self):
        windows = b"\xef\xbb\xbf" + "".join(ROW % (i, i) for i in range(4)).replace("\n", "\r\n").encode()
        code, out, err = self.run_fettle("data", "check", self.write("windows.jsonl", windows), "--json")
        self.assertEqual((code, json.loads(out)["accepted"]), (0, 4), err)
        with open(self.path("huge.jsonl"), "w") as f:
            f.write(ROW % (1, 1))
            f.write('{"messages": [{"role": "user", "content": "')
            for _ in range(100):
                f.write("x" * (1 << 20))
            f.write('"}, {"role": "assistant", "content": "y"}]}\n')
            f.write(ROW % (2, 2))
        code, out, err = self.run_fettle("data", "check", self.path("huge.jsonl"), "--json")
        document = json.loads(out)
        self.assertEqual([(p["row"], p["kind"]) for p in document["problems"] if p["row"] == 2][:1], [(2, "too-long-line")], out)
        self.assertEqual(document["accepted"], 2)
        self.assertLess(document["peak_rss_bytes"], (400 if SANITIZED else 100) << 20)  # shadow memory counts too
        self.refused("data", "check", self.write("utf16.jsonl", (ROW % (1, 1)).encode("utf-16")), says=["utf16.jsonl"])

    @unittest.skipUnless(MODEL, "no real model")
    def test_full_disk_while_saving(self):
        kept = self.write("out.gguf", b"what stood here before")
        code, out, err = self.run_fettle("quantize", MODEL, "--type", "Q8_0", "--out", kept, "--force", largest_file=20_000_000)
        self.assertEqual(code, 1, err)
        self.assertIn("out.gguf", err)
        self.assertEqual(Path(kept).read_bytes(), b"what stood here before")
        self.assertEqual(sorted(os.listdir(self.folder.name)), sorted(n for n in os.listdir(self.folder.name) if "tmp" not in n), "no half files stay")

    # Each command's exit code and words, one after the other on a disk of its own that is mounted where nobody else sees it.
    def on_a_small_disk(self, megabytes, *steps):
        home = self.environment["FETTLE_HOME"]
        os.makedirs(home, exist_ok=True)
        script = f"mount -t tmpfs -o size={megabytes}m none {home} || exit 77\n"
        for i, step in enumerate(steps):
            script += f"( {step.format(fettle=PROGRAM, model=MODEL, home=home)} ) >{self.path(str(i))} 2>&1; echo $? >>{self.path('codes')}\n"
        done = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script], env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        if not os.path.exists(self.path("codes")):
            self.skipTest("no disk can be mounted here: " + done.stdout.decode())
        codes = Path(self.path("codes")).read_text().split()
        return [(int(code), Path(self.path(str(i))).read_text(errors="replace")) for i, code in enumerate(codes)]

    READING = ["{fettle} list", "{fettle} show m", "{fettle} ps", "{fettle} run m --raw --max-tokens 2 hello", "timeout -s INT 5 {fettle} serve m --port 0"]
    MAKE = "cp {model} {home}/m.gguf && {fettle} pull {home}/m.gguf && {fettle} tag m m:live"  # a link, so the disk holds one

    def read_all_right(self, results):
        for (code, said), step in zip(results, self.READING):
            self.assertEqual(code, 124 if "timeout" in step else 0, step + said)
        self.assertIn("m:live", results[0][1])
        self.assertIn("/chat/completions", results[-1][1])
        self.assertIn("will not know this server", results[-1][1])

    @unittest.skipUnless(MODEL, "no real model")
    def test_full_home(self):
        fill = "cat /dev/zero >{home}/fill; true"
        self.write("rows.jsonl", "".join(ROW % (i, i) for i in range(6)))
        results = self.on_a_small_disk(115, self.MAKE, fill, *self.READING, "{fettle} tag m m:other", "{fettle} pull {model}",
                                       "{fettle} tune m " + self.path("rows.jsonl") + " --out {home}/run; c=$?; ls {home}; exit $c", "{fettle} doctor --mend",
                                       "{fettle} rm m", "{fettle} list", "rm {home}/m.gguf; {fettle} pull {model}",
                                       fill, "{fettle} rm smollm2-135m-instruct.q4_1", "{fettle} pull {model}", "{fettle} doctor --digests")
        self.assertEqual(results[0][0], 0, results[0][1])
        read, (tag, pull, tune, doctor, rm, left, again, _, freed, anew, last) = results[2:2 + len(self.READING)], results[2 + len(self.READING):]
        self.read_all_right(read)
        self.assertNotIn("\nrun\n", tune[1], "no folder in the way of the next try")
        for code, said in (tag, pull, tune):
            self.assertEqual(code, 1, said)
            self.assertRegex(said, r"/home/\S+: cannot write: no space left on the disk")
            self.assertIn("fettle rm", said)
        self.assertEqual((doctor[0], doctor[1].count("problem: ")), (4, 1), doctor[1])
        self.assertEqual(rm[0], 0, "nothing was freed, the file has another name too: " + rm[1])
        self.assertNotIn("m:1", left[1])
        self.assertEqual((again[0], freed[0], anew[0]), (0, 0, 0), again[1] + freed[1] + anew[1])
        self.assertEqual(last[1].count("problem: "), 1, "the small disk: " + last[1])

    @unittest.skipUnless(MODEL, "no real model")
    def test_read_only_home(self):
        results = self.on_a_small_disk(115, self.MAKE, "mount -o remount,ro {home}", *self.READING, "{fettle} rm m", "{fettle} tag m m:other",
                                       "{fettle} doctor", "mount -o remount,rw {home}; {fettle} run m --raw --max-tokens 1 x")
        self.assertEqual((results[0][0], results[1][0]), (0, 0), results[:2])
        read, (rm, tag, doctor, after) = results[2:2 + len(self.READING)], results[2 + len(self.READING):]
        self.read_all_right(read)
        for code, said in (rm, tag):
            self.assertEqual(code, 1, said)
            self.assertIn("fettle.db: could not be written: it, or its disk, is read-only", said)
        self.assertEqual(doctor[1].count("problem: "), 1, doctor[1])
        self.assertEqual(after[0], 0, "nothing was removed: " + after[1])

    @unittest.skipUnless(MODEL, "no real model")
    def test_kill_while_saving(self):
        for delay in (0.3, 1.0, 1.7):
            kept = self.write("out.gguf", b"what stood here before")
            child = subprocess.Popen([PROGRAM, "quantize", MODEL, "--type", "IQ4_NL", "--out", kept, "--force", "-q"], env=self.environment, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
            time.sleep(delay)
            child.kill()
            child.wait()
            content = Path(kept).read_bytes()[:64]
            self.assertTrue(content == b"what stood here before" or content.startswith(b"GGUF"), "the old file or a whole new one")

    def train(self, out, *more):
        data = self.write("train.jsonl", "".join(ROW % (i, i % 3) for i in range(48)))
        return [PROGRAM, "tune", MODEL, data, "--out", out, "--batch", "2", "--rank", "2", "--checkpoint-every", "1", *more]

    def started(self, run, steps):
        """A training process that has taken some steps."""
        child = subprocess.Popen(self.train(run), env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(600):
            try:
                if len(Path(run, "metrics.jsonl").read_text().splitlines()) >= steps:
                    return child
            except OSError:
                pass
            if child.poll() is not None:
                self.fail(child.stderr.read().decode())
            time.sleep(0.1)
        child.kill()
        self.fail("no step in a minute")

    @unittest.skipUnless(MODEL, "no real model")
    def test_kill_while_tuning_and_resume(self):
        run = self.path("run")
        child = self.started(run, 3)
        child.kill()
        child.communicate()
        done = subprocess.run(self.train(run, "--resume", "--max-steps", "0", "--json"), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        steps = [json.loads(line)["step"] for line in Path(run, "metrics.jsonl").read_text().splitlines()]
        self.assertEqual(steps, list(range(1, len(steps) + 1)), "each step once, in order")
        self.assertTrue(glob.glob(os.path.join(run, "adapter*")))

    @unittest.skipUnless(MODEL, "no real model")
    def test_interrupt_while_tuning(self):
        run = self.path("run")
        child = self.started(run, 2)
        child.send_signal(signal.SIGINT)
        err = child.communicate(timeout=60)[1].decode()
        self.assertEqual(child.returncode, 130, err)
        self.assertIn("--resume", err)
        self.assertTrue(os.path.isdir(os.path.join(run, "checkpoint")))

    def interrupted(self, *arguments, when):
        """The end of a process that gets Ctrl-C once it has said `when`: its stderr."""
        child = subprocess.Popen([PROGRAM, *arguments], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=self.folder.name)
        said = b""
        while when.encode() not in said:
            line = child.stderr.readline()
            self.assertTrue(line, said.decode())
            said += line
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        err = (said + child.communicate(timeout=60)[1]).decode()
        self.assertEqual(child.returncode, 130, err)
        return err

    @unittest.skipUnless(MODEL, "no real model")
    def test_interrupt_says_what_is_kept(self):
        data = self.write("rows.jsonl", "".join(ROW % (i, i % 3) for i in range(2000)))
        for arguments, when in ((["quantize", MODEL, "--type", "Q2_K", "--out", "q.gguf"], "quantize: 0"), (["eval", MODEL, "--data", data], "exact: 0"),
                                (["eval", MODEL, "--data", data, "--task", "choice,perplexity", "--rows-out", "rows.out"], "choice: 0"),
                                (["compare", MODEL, MODEL, "--data", data], "exact: 0"), (["bench", MODEL, "--repeat", "50"], "bench: 0")):
            err = self.interrupted(*arguments, when=when)
            self.assertIn("nothing is kept", err)
            self.assertEqual([n for n in os.listdir(self.folder.name) if n not in ("home", "rows.jsonl")], [], arguments)
        err = self.interrupted("quantize", MODEL, "--type", "Q8_0", "--out", "q.gguf", "--measure", data, when="kl: 0")
        self.assertIn("q.gguf is whole", err)
        self.assertTrue(Path(self.path("q.gguf")).read_bytes().startswith(b"GGUF"))
        few = self.write("few.jsonl", "".join(ROW % (i, i % 3) for i in range(32)))
        err = self.interrupted("quantize", MODEL, "--type", "Q8_0", "--out", "q.gguf", "--force", "--importance", few, "--method", "weighted", "--heal", "1h", when="heal: 0")
        self.assertIn("q.gguf is whole", err)
        self.assertEqual(sorted(n for n in os.listdir(self.folder.name) if n.startswith("q.gguf")), ["q.gguf", "q.gguf.recipe.json"])

    @unittest.skipUnless(MODEL, "no real model")
    def test_interrupt_very_early_says_what_is_true(self):
        for delay in (0.02, 0.1, 0.3, 0.7):
            run = self.path("run" + str(delay))
            command = self.train(run, "--max-steps", "1")
            child = subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            time.sleep(delay)
            child.send_signal(signal.SIGINT)
            err = child.communicate(timeout=60)[1].decode()
            if child.returncode == 0:  # a fast machine was through before
                self.assertTrue(os.path.exists(os.path.join(run, "adapter.gguf")), err)
                continue
            self.assertIn(child.returncode, (130, -signal.SIGINT), err)  # the latter: before it could ask to be told
            self.assertEqual("--resume" in err, os.path.exists(run), err)
        code, out, err = self.run_fettle(*command[1:], "--resume" if os.path.exists(run) else "--force")
        self.assertEqual(code, 0, err)


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=0).result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad - len(result.skipped)} passed, {bad} failed, {len(result.skipped)} skipped")
    sys.exit(1 if bad else 0)
