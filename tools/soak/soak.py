"""Loads a server of its own for a while with all that clients.py knows, stops and wakes it, ends it under load,
kills it and starts it again; watches memory, health and metrics from outside, and says whether all held.

usage: tools/soak/run [--minutes 30] [--streams 24] [--out DIR]        see README.md

Writes DIR/soak.json and DIR/soak.svg. Ends with 1 where something did not hold."""

import argparse
import collections
import contextlib
import json
import mmap
import os
import pathlib
import random
import signal
import statistics
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/clients")]

import grpc_stubs  # noqa: E402
import clients  # noqa: E402
import plot  # noqa: E402
import serving  # noqa: E402

SAMPLE_PERIOD_S = 5
WARM_UP_S = 300  # memory may grow until here
MAX_GROWTH = 0.02
PAUSE_PERIOD_S, PAUSE_S = 240, 3
CLOCK_PERIOD_S, CLOCK_STEPS_S = 90, (3600, 0, -3600, 0)


class WallClock:
    """Of the servers that start from now on; the others here keep theirs (tests/support/wall_clock.cc)."""

    def __init__(self, scratch):
        path = scratch / "wall_clock"
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self.ahead = mmap.mmap(file.fileno(), 8)
        self.num_steps = 0
        os.environ["MEA_WALL_CLOCK"] = str(path)
        os.environ["LD_PRELOAD"] = str(ROOT / "build/release/tests/support/libmea_set_wall_clock.so")

    def step(self):
        self.ahead[:] = CLOCK_STEPS_S[self.num_steps % len(CLOCK_STEPS_S)].to_bytes(8, "little", signed=True)
        self.num_steps += 1


class Tally:
    """How calls ended, by kind, and how long those that ended well took."""

    def __init__(self):
        self.lock = threading.Lock()
        self.ends = collections.Counter()
        self.unexpected = []
        self.latencies = []

    def add(self, kind, end, seconds):
        with self.lock:
            self.ends[f"{kind} {end}" if not end.startswith("unexpected") else f"{kind} unexpected"] += 1
            if end.startswith("unexpected") and len(self.unexpected) < 50:
                self.unexpected.append(f"{kind}: {end}")
            if end == "ok":
                self.latencies.append(seconds)

    def take_latencies(self):
        with self.lock:
            taken, self.latencies = self.latencies, []
            return taken


def work(server, seed, tally, stop):
    rng = random.Random(seed)
    kinds, weights = zip(*clients.MIX)
    while not stop.is_set():
        kind = rng.choices(kinds, weights)[0]
        start = time.monotonic()
        try:
            end = kind(server, rng)
        except (OSError, clients.http.client.HTTPException) as error:
            end = f"unexpected: {type(error).__name__} {error}"
        tally.add(kind.__name__, end, time.monotonic() - start)


def rss_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def watch(server, tally, clock, minutes, rows, problems):
    """Samples every few seconds until the time is over; now and then pauses the process, and sets its clock."""
    start = time.monotonic()
    next_pause = PAUSE_PERIOD_S
    next_step = CLOCK_PERIOD_S
    while (now := time.monotonic() - start) < minutes * 60:
        time.sleep(SAMPLE_PERIOD_S)
        asked = time.monotonic()
        health = server.ask("GET", "/health", address=server.admin_address).status
        row = {"t": round(now, 1), "rss_mib": rss_mib(server.process.pid), "health": health, "health_ms": (time.monotonic() - asked) * 1e3,
               "fds": len(os.listdir(f"/proc/{server.process.pid}/fd")), "threads": len(os.listdir(f"/proc/{server.process.pid}/task")),
               "used": server.metric("mea_kv_cache_bytes", state="used")}
        latencies = tally.take_latencies()
        if latencies:
            row["latency_p50"] = statistics.median(latencies)
            row["latency_p99"] = sorted(latencies)[int(len(latencies) * 0.99)]
            row["calls"] = len(latencies)
        rows.append(row)
        if health != 200:
            problems.append(f"health {health} after {now:.0f} s")
        if now > next_step:
            next_step += CLOCK_PERIOD_S
            clock.step()
        if now > next_pause:
            next_pause += PAUSE_PERIOD_S
            os.kill(server.process.pid, signal.SIGSTOP)
            time.sleep(PAUSE_S)
            os.kill(server.process.pid, signal.SIGCONT)
            time.sleep(2)  # the watch over the engine may first see that it slept


def check_rest(server, problems):
    """Nothing is left behind once everybody has gone."""
    try:
        server.wait_until_idle()
    except AssertionError as error:
        problems.append(f"not idle after the load: {error}")
    for name in ("mea_num_requests_running", "mea_num_requests_waiting", "mea_num_tokens_waiting"):
        if server.metric(name) != 0:
            problems.append(f"{name} is {server.metric(name)} after the load")


def check_count(tally, counted, problems):
    """Every request has exactly one status; of a client that left at once the server may not have read it."""
    asked = sum(n for end, n in tally.ends.items() if not end.startswith(("garbage", "connections")) and not end.endswith("before asking"))
    unsure = tally.ends["leaving left"]
    if not asked - unsure <= counted <= asked:
        problems.append(f"{counted} requests are counted, {asked - unsure} to {asked} were made")


def check_memory(rows, problems):
    late = [row["rss_mib"] for row in rows if row["t"] >= min(WARM_UP_S, rows[-1]["t"] / 2)]
    quarter = max(1, len(late) // 4)
    first, last = statistics.median(late[:quarter]), statistics.median(late[-quarter:])
    growth = last / first - 1
    if growth > MAX_GROWTH:
        problems.append(f"RSS grew by {growth:.1%}: {first:.1f} to {last:.1f} MiB")
    return {"first_mib": first, "last_mib": last, "growth": growth}


def end_under_load(server, tally, problems):
    """SIGTERM while streams run: what runs ends whole, and the program with 0."""
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(server, 1000 + i, Tally(), stop), daemon=True) for i in range(8)]
    rng = random.Random(5)
    ended = []
    streams = [threading.Thread(target=lambda: ended.append(clients.stream(server, rng)), daemon=True) for _ in range(6)]
    for thread in streams:
        thread.start()
    time.sleep(0.3)
    for thread in threads:
        thread.start()
    start = time.monotonic()
    server.process.terminate()
    code = server.process.wait(timeout=60)
    stop.set()
    for thread in streams:
        thread.join(30)
    bad = [end for end in ended if end not in ("ok", "429", "503")]
    if code != 0 or bad:
        problems.append(f"SIGTERM under load: exit code {code}, streams {ended}")
    return {"exit_code": code, "seconds": time.monotonic() - start, "streams": ended}


@contextlib.contextmanager
def served(directory, stubs):
    with serving.serve(directory, "--max-num-seqs", "16", "--max-queued-requests", "64", may_end=True) as server:
        server.stubs = stubs
        yield server


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--streams", type=int, default=24)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/soak")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    problems, rows, tally = [], [], Tally()
    with tempfile.TemporaryDirectory() as scratch:
        clock = WallClock(pathlib.Path(scratch))
        directory = serving.make_model(pathlib.Path(scratch) / "model")
        stubs = grpc_stubs.make_stubs(scratch)
        with served(directory, stubs) as server:
            stop = threading.Event()
            threads = [threading.Thread(target=work, args=(server, i, tally, stop), daemon=True) for i in range(flags.streams)]
            for thread in threads:
                thread.start()
            watch(server, tally, clock, flags.minutes, rows, problems)
            stop.set()
            for thread in threads:
                thread.join(clients.PATIENCE_S)
                if thread.is_alive():
                    problems.append("a client waits for an answer that does not come")
            check_rest(server, problems)
            counted = server.metric("mea_requests_total")
            check_count(tally, counted, problems)
            drain = end_under_load(server, tally, problems)
        with served(directory, stubs) as server:  # SIGKILL, and again
            rng = random.Random(1)
            before = clients.chat(server, rng)
            server.process.kill()
        with served(directory, stubs) as server:
            after = clients.chat(server, rng)
            if (before, after) != ("ok", "ok"):
                problems.append(f"around a SIGKILL: {before}, {after}")
            server.process.kill()
    problems += tally.unexpected
    summary = {"minutes": flags.minutes, "streams": flags.streams, "clock_steps": clock.num_steps, "calls": sum(tally.ends.values()), "requests_counted": counted,
               "ends": dict(sorted(tally.ends.items())), "memory": check_memory(rows, problems), "drain": drain,
               "health_ms_max": max(row["health_ms"] for row in rows), "fds_max": max(row["fds"] for row in rows),
               "threads_max": max(row["threads"] for row in rows), "problems": problems, "rows": rows}
    (flags.out / "soak.json").write_text(json.dumps(summary, indent=1))
    (flags.out / "soak.svg").write_text(plot.draw(rows))
    print(json.dumps({key: value for key, value in summary.items() if key != "rows"}, indent=1))
    sys.exit(1 if problems else 0)


main()
