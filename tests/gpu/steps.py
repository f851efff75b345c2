"""The steps of tests/gpu/run. Python's own library alone: the machine need have nothing else."""

import argparse
import datetime
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]  # of a checkout or of an unpacked bundle
SHAPES = {letter: name for letter, name in (
    ("a", "a_llama_3.2_1b_h4"), ("b", "b_llama_3_8b_h4"),
    ("c", "c_qwen3_30b_a3b_h2_dense"), ("d", "d_llama_2_7b_h16"))}  # fmt: skip

# What the sanitizers run: seconds without them, minutes with them.
TINY = [
    "Seeds/SimtTest.*/0", "*/RowwiseTest.*/0", "*/RopeTest.*/0", "*/SkinnyGemmTest.*/0", "*/SampleTest.*/2",
    "WorkListTest.AnEmptyBatchHasNoWork", "WorkListTest.SplitsDependOnTheRowAlone",
    "*/FastDecodeTest.AgreesForPlainHeads/*", "*/PrefillTest.AgreesForAMixedBatch/*",
    "CudaModelTest.ATinyModelAgrees",
]  # fmt: skip


class Skipped(Exception):
    """Why a step cannot run here; no failure."""


class Step:
    """One process, with a time limit of its own, so that a kernel that hangs costs no more than that."""

    def __init__(self, name, limit_s, command, is_ours=True, refusal=None):
        self.name = name
        self.limit_s = limit_s
        self.command = command  # of a Run: list of strings; raises Skipped
        self.is_ours = is_ours  # that a peer fails or takes too long is no failure of the run
        self.refusal = refusal  # in its output: it cannot run on this machine


def tests(*suites):
    return lambda run: run.gtest(suites)


# What compute-sanitizer says of a device on which it cannot look at anything, as some hypervisors
# offer them.
SANITIZER_REFUSAL = "Device not supported"


def sanitizer(tool):
    def command(run):
        path = shutil.which("compute-sanitizer") or next(
            iter(sorted(glob.glob("/usr/local/cuda*/bin/compute-sanitizer"))), None
        )
        if path is None:
            raise Skipped("no compute-sanitizer")
        return [path, "--tool", tool, "--error-exitcode", "9", *run.gtest(TINY)]

    return command


def bench(kind, *arguments):
    return lambda run: [run.program("mea"), "bench", kind, "--device", "cuda", *arguments,
                        "--json", run.json_file()]  # fmt: skip


def attention(letter, *arguments):
    return bench("attention", str(ROOT / "tests/bench/shapes" / SHAPES[letter]), "--uncompressed",
                 "--batch", "1,8,32,128", "--context", "1024,4096,16384,65536",
                 "--round-seconds", "0.03", *arguments)  # fmt: skip


def prefill(letter, kernel):
    return bench("attention", str(ROOT / "tests/bench/shapes" / SHAPES[letter]), "--uncompressed",
                 "--batch", "1", "--context", "6144,30720", "--chunk", "512,2048",
                 "--decode-kernel", kernel, "--prefill-kernel", kernel,
                 "--round-seconds", "0.03")  # fmt: skip


def engine(letter, *arguments):
    return bench("engine", "--random-weights", str(ROOT / "tests/bench/shapes" / SHAPES[letter]),
                 "--uncompressed", "--chunk", "2048", "--round-seconds", "0.05", *arguments)  # fmt: skip


def peers(letter, *arguments):
    def command(run):
        try:
            subprocess.run([sys.executable, "-c", "import torch, transformers"], check=True,
                           capture_output=True, timeout=120)  # fmt: skip
        except (subprocess.SubprocessError, OSError):
            raise Skipped("no torch and transformers")
        return [sys.executable, str(ROOT / "tools/bench_peer_gpu.py"), "--device", "cuda",
                str(ROOT / "tests/bench/shapes" / SHAPES[letter]), *arguments,
                "--json", run.json_file()]  # fmt: skip

    return command


# In order of importance: where time runs out, the last ones are left.
STEPS = [
    Step("device", 60, tests("DeviceTest.*")),
    Step("primitives", 60, tests("*SimtTest*")),
    Step("rows", 60, tests("*Rowwise*", "*Rope*")),
    Step("products", 60, tests("*SkinnyGemm*")),
    Step("sampling", 60, tests("*Sample*")),
    Step("layout", 60, tests("SlabLayoutTest.*", "WorkListTest.*")),
    Step("attention-general", 60, tests("GeneralDecodeTest.*")),
    Step("attention-decode", 90, tests("*FastDecodeTest.*")),
    Step("attention-prefill", 60, tests("*PrefillTest.*", "AttentionTest.*", "*IsolationTest.*")),
    Step("backend", 60, tests("CudaBackendTest.*")),
    Step("integer-cache", 60, tests("*IntegerCacheTest.*", "IntegerAppendTest.*")),
    Step("models", 90, tests("*CudaModelTest*", "*CudaEngineTest*")),
    Step("memcheck", 75, sanitizer("memcheck"), refusal=SANITIZER_REFUSAL),
    Step("bench-attention-b", 60, attention("b")),
    Step("bench-engine-b", 90, engine("b", "--batch", "1,32,128", "--context", "2048,8192",
                                      "--max-cache-bytes", "88GiB", "--equal-memory", "40GiB")),
    *(Step(f"bench-engine-b-{name}", 60, engine("b", "--kv-dtype", dtype, "--batch", "32,128",
                                                "--context", "8192", "--max-cache-bytes", "88GiB"))
      for name, dtype in (("int8", "int8"), ("int8-int4", "k=int8,v=int4"), ("int4", "int4"))),
    Step("bench-attention-b-wgmma", 45, attention("b", "--decode-kernel", "wgmma")),
    Step("bench-prefill-b", 45, prefill("b", "mma")),
    Step("bench-prefill-b-wgmma", 45, prefill("b", "wgmma")),
    Step("bench-attention-d", 60, attention("d")),
    Step("bench-attention-a", 60, attention("a")),
    Step("bench-prefill-a", 30, prefill("a", "mma")),
    Step("bench-prefill-a-wgmma", 30, prefill("a", "wgmma")),
    Step("bench-attention-c", 60, attention("c")),
    Step("bench-engine-a", 60, engine("a", "--batch", "1,32", "--context", "2048")),
    Step("peer-attention-b", 90, peers("b", "--what", "attention", "--batch", "1,32",
                                       "--context", "4096,16384"), is_ours=False),
    Step("peer-decode-b", 150, peers("b", "--what", "decode", "--batch", "1,32", "--context", "2048",
                                     "--rounds", "3"), is_ours=False),
    Step("racecheck", 75, sanitizer("racecheck"), refusal=SANITIZER_REFUSAL),
    Step("bench-engine-d", 60, engine("d", "--batch", "1,32", "--context", "2048",
                                      "--max-cache-bytes", "88GiB")),
    Step("bench-engine-c", 60, engine("c", "--batch", "1,32", "--context", "2048")),
    Step("synccheck", 60, sanitizer("synccheck"), refusal=SANITIZER_REFUSAL),
]  # fmt: skip


def cublas_directories():
    """Where cuBLASLt may lie outside the loader's own path: toolkits, and the wheels that torch needs."""
    patterns = ["/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/x86_64-linux/lib"]
    patterns += [f"{path}/nvidia/*/lib" for path in sys.path if path.endswith("-packages")]
    found = (path for pattern in patterns for path in sorted(glob.glob(pattern), reverse=True))
    return [path for path in found if glob.glob(f"{path}/libcublasLt.so.1[23]")]


class Run:
    """One call of tests/gpu/run: where its programs are, what came out so far."""

    def __init__(self, out, programs, seconds):
        self.out = out
        self.programs = programs
        self.deadline = time.monotonic() + seconds
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="mea_gpu_"))
        self.steps = []
        self.results = []
        self.machine = {}
        self.log = (out / "log.txt").open("w")
        self.environment = dict(os.environ, MEA_SOURCE_DIR=str(ROOT))
        module = programs / "lib/libmea_cuda.so"
        if module.exists():
            self.environment["MEA_CUDA_MODULE"] = str(module)
        paths = [*cublas_directories(), os.environ.get("LD_LIBRARY_PATH", "")]
        self.library_path = ":".join(filter(None, paths))

    def program(self, name):
        for place in ("bin", "server", "tests/gpu"):
            if (self.programs / place / name).exists():
                return str(self.programs / place / name)
        raise Skipped(f"no program {name}")

    def json_file(self):
        return str(self.scratch / "step.json")

    def gtest(self, filters):
        return [self.program("mea_gpu_tests"), "--gtest_filter=" + ":".join(filters),
                "--gtest_brief=1", "--gtest_output=json:" + self.json_file()]  # fmt: skip

    def take(self, step):
        """Runs a step and notes what came of it."""
        limit = min(step.limit_s, self.deadline - time.monotonic())
        outcome = {"name": step.name, "status": "passed", "seconds": 0.0}
        start = time.monotonic()
        pathlib.Path(self.json_file()).unlink(missing_ok=True)
        try:
            if limit < 5:
                raise Skipped("no time left")
            command = step.command(self)
            self.log.write(f"\n==== {step.name}: {' '.join(command)}\n")
            self.log.flush()
            begin = os.fstat(self.log.fileno()).st_size
            status = self.call(command, limit)
            if step.refusal and step.refusal in self.logged_from(begin):
                raise Skipped(step.refusal)
            if status != 0:
                detail = f"after {limit:.0f} s" if status is None else f"exit status {status}"
                failed = "TIMED OUT" if status is None else "FAILED"
                outcome.update(status=failed if step.is_ours else "incomplete", detail=detail)
        except Skipped as reason:
            outcome.update(status="skipped", detail=str(reason))
        outcome["seconds"] = round(time.monotonic() - start, 1)
        self.read_json(outcome)
        self.steps.append(outcome)
        self.write()
        return outcome

    def logged_from(self, begin):
        with open(self.log.name, errors="replace") as log:
            log.seek(begin)
            return log.read()

    def call(self, command, limit):
        """The exit status, or None when the limit ended it."""
        environment = dict(self.environment)
        if not command[0].startswith(sys.executable):  # torch brings libraries of its own
            environment["LD_LIBRARY_PATH"] = self.library_path
        # A process group of its own: what it started ends with it.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                   env=environment, cwd=ROOT, start_new_session=True)  # fmt: skip
        try:
            return process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None

    def read_json(self, outcome):
        """What GoogleTest or a benchmark wrote, also if it did not come to its end."""
        try:
            report = json.loads(pathlib.Path(self.json_file()).read_text())
        except (OSError, ValueError):
            return
        if "testsuites" in report:
            outcome["tests"] = report["tests"]
            outcome["failures"] = [
                f"{suite['name']}.{test['name']}: {test['failures'][0]['failure'][:400]}"
                for suite in report["testsuites"]
                for test in suite["testsuite"]
                if "failures" in test
            ]
            if report["tests"] == 0 and outcome["status"] == "passed":
                outcome.update(status="FAILED", detail="no test of that name")
        if "results" in report:
            self.results += report["results"]
            self.machine.update(report["machine"])
            outcome["results"] = len(report["results"])

    def write(self):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        report = {"command": "tests/gpu/run", "date": now, "machine": self.machine,
                  "steps": self.steps, "results": self.results}  # fmt: skip
        (self.out / "results.json").write_text(json.dumps(report, indent=1) + "\n")

    def close(self):
        self.log.close()
        shutil.rmtree(self.scratch)


def line_of(outcome):
    counted = f"{outcome['tests']} tests" if "tests" in outcome else ""
    if "results" in outcome:
        counted = f"{outcome['results']} results"
    failures = [f"\n    {failure.splitlines()[0]}" for failure in outcome.get("failures", [])]
    return (f"{outcome['name']:24} {outcome['status']:10} {outcome['seconds']:7.1f} s  {counted:12}"
            f" {outcome.get('detail', '')}" + "".join(failures[:5]))  # fmt: skip


def unpack(bundle):
    """A bundle as a directory, with this file's twin in it."""
    directory = tempfile.mkdtemp(prefix="mea_bundle_")
    subprocess.run(["tar", "-xf", bundle, "-C", directory], check=True)
    return pathlib.Path(directory)


def build():
    subprocess.run(["cmake", "--preset", "cuda"], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    targets = ["mea", "mea_cuda", "mea_gpu_tests"]
    subprocess.run(["cmake", "--build", "--preset", "cuda", "--target", *targets], check=True, cwd=ROOT)
    return ROOT / "build/cuda"


def parse_options():
    parser = argparse.ArgumentParser(prog="tests/gpu/run")
    parser.add_argument("out", type=pathlib.Path, nargs="?", metavar="OUT")
    parser.add_argument("--bundle", metavar="FILE")
    parser.add_argument("--seconds", type=float, default=520, help="for all steps together")
    parser.add_argument("--only", metavar="STEP,...", help="names or beginnings of names")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.out is None and not options.list:
        parser.error("a directory for the output is required")
    return options


def main():
    options = parse_options()
    only = options.only.split(",") if options.only else [""]
    steps = [step for step in STEPS if step.name.startswith(tuple(only))]
    if options.list:
        print("\n".join(f"{step.name:24} at most {step.limit_s} s" for step in steps))
        return 0
    if options.bundle:
        rest = ["--seconds", str(options.seconds)] + (["--only", options.only] if options.only else [])
        script = unpack(options.bundle) / "tests/gpu/steps.py"
        os.execv(sys.executable, [sys.executable, str(script), str(options.out.absolute()), *rest])
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options.out, ROOT if (ROOT / "bin/mea").exists() else build(), options.seconds)
    lines = []
    for step in steps:
        outcome = run.take(step)
        lines.append(line_of(outcome))
        print(lines[-1], flush=True)
        if step.name == "device" and outcome["status"] != "passed":
            break  # nothing else can come of it
    table = subprocess.run([sys.executable, str(ROOT / "tools/bench_table"), str(run.out / "results.json")],
                           capture_output=True, text=True).stdout  # fmt: skip
    (run.out / "table.txt").write_text("\n".join(lines) + "\n\n" + table)
    print("\n" + table, end="")
    failed = [o["name"] for o in run.steps if o["status"] not in ("passed", "skipped", "incomplete")]
    print(f"tests/gpu/run: {len(failed)} of {len(run.steps)} steps failed" +
          (": " + ", ".join(failed) if failed else ""))  # fmt: skip
    run.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
