"""Programs that measure a point when asked, and rounds in which they alternate."""

import json
import os
import select
import statistics
import subprocess
import tempfile
import time
from pathlib import Path


class Failure(Exception):
    pass


class Contender:
    """A program that answers a line "BATCH CONTEXT TOKENS" with a line of JSON; it is started when first asked, and
    again after a failure. A system may take part in several variants. One that has `refuses`, a reason, is never
    started."""

    def __init__(self, system, variant, storage, command=(), environment=None, refuses=None):
        self.system, self.variant, self.storage, self.refuses = system, variant, storage, refuses
        self.command = [str(word) for word in command]
        self.environment = {**os.environ, **(environment or {})}
        self.process = None
        self.errors = tempfile.TemporaryFile("w+")

    def ask(self, point, seconds):
        if self.refuses:
            raise Failure(self.refuses)
        if self.process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
            self.process = subprocess.Popen(self.command, env=self.environment, text=True, **pipes)
        try:
            self.process.stdin.write(f"{point.batch} {point.context} {point.tokens}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # what it wrote before tells why
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else None
        answer = (
            json.loads(line) if line else {"error": self.last_words() if ready else f"no answer in {seconds:.0f} s"}
        )
        if "error" in answer:
            self.stop()
            raise Failure(answer["error"])
        row = answer["results"][0] if "results" in answer else answer
        if "skipped" in row:
            raise Failure(row["skipped"])
        return row

    def last_words(self):
        self.process.wait(10)
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return lines[-1][:200] if lines else f"ended with {self.process.returncode}"

    def cpu_seconds(self):
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Machine:
    """How many cores others keep busy, hypervisors included."""

    def __init__(self, contenders):
        self.contenders = contenders
        self.start()

    def start(self):
        self.before = (time.monotonic(), self.busy(), self.own())

    def others(self):
        elapsed = max(time.monotonic() - self.before[0], 0.01)
        return max(0.0, (self.busy() - self.before[1] - (self.own() - self.before[2])) / elapsed)

    def busy(self):
        user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")

    def own(self):
        return sum(contender.cpu_seconds() for contender in self.contenders) + time.process_time()


def spread(seconds):
    return {
        "median": statistics.median(seconds),
        "min": min(seconds),
        "max": max(seconds),
        "rounds": len(seconds),
    }


# A variant of a peer so much slower than its best in the first round takes no part in the others.
HOPELESS = 1.25


def alternate(contenders, point, options):
    """A result for each contender: rows of `mea bench`, {"seconds": ...} alone of peers, or {"skipped": why}."""
    rows = {contender: [] for contender in contenders}
    skipped = {}
    started = time.monotonic()
    for number in range(options.rounds):
        if number > 0 and time.monotonic() - started > options.point_seconds:
            break
        for contender in contenders:
            if contender in skipped:
                continue
            try:
                rows[contender].append(contender.ask(point, options.answer_seconds))
            except Failure as failure:
                skipped[contender] = str(failure)
        if number == 0:
            started = time.monotonic()  # the peer's first round fills its cache
            first = {c: rows[c][0]["seconds"] for c in contenders if c not in skipped and c.system != "mea"}
            for contender, seconds in first.items():
                best = min(other for c, other in first.items() if c.system == contender.system)
                if seconds > HOPELESS * best:
                    skipped[contender] = f"{seconds / best:.1f} times its other way in the first round"
    return [result_of(contender, rows[contender], skipped.get(contender)) for contender in contenders]


def result_of(contender, rows, why):
    result = {"system": contender.system, "variant": contender.variant, "storage": contender.storage}
    if why is not None:
        return {**result, "skipped": why}
    if contender.system != "mea":
        return {**result, "seconds": spread([row["seconds"] for row in rows])}
    roofline = {
        name: statistics.median(row["roofline"][name] for row in rows)
        for name in ("bytes_per_second", "flops_per_second")
    }
    kept = {name: rows[0][name] for name in ("bytes", "flops", "cache_bytes")}
    return {**result, **kept, "seconds": spread([row["seconds"]["median"] for row in rows]), "roofline": roofline}
