"""Servers that alternate: each is started once, and stopped (SIGSTOP) while another is measured."""

import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path


class Failure(Exception):
    pass


class Server:
    """A server that speaks OpenAI's completions on `port` of the loopback."""

    def __init__(self, name, command, port, environment=None, ready_seconds=600):
        self.name, self.port, self.ready_seconds = name, port, ready_seconds
        self.command = [str(word) for word in command]
        self.environment = {**os.environ, **(environment or {})}
        self.log = tempfile.NamedTemporaryFile("w+", prefix=f"{name.replace(' ', '-')}-", suffix=".log", delete=False)
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Returns when it answers; the rest of the machine may be busy meanwhile."""
        self.process = subprocess.Popen(
            self.command, stdout=self.log, stderr=self.log, env=self.environment, start_new_session=True
        )
        give_up = time.monotonic() + self.ready_seconds
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise Failure(f"{self.name} did not start: {self.last_words()}")
            time.sleep(0.5)

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.url}/v1/models", timeout=2) as reply:
                return bool(json.load(reply)["data"])
        except (urllib.error.URLError, OSError, KeyError, ValueError):
            return False

    def last_words(self):
        lines = Path(self.log.name).read_text(errors="replace").strip().splitlines()
        return f"{lines[-1][:200] if lines else 'it said nothing'} ({self.log.name})"

    def pause(self):
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self):
        os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self):
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGCONT)
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()

    def cpu_seconds(self):
        """Of the whole group, for the share of the machine that others used."""
        total = 0
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue  # ended meanwhile
            if int(fields[2]) == self.process.pid:
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")


def mea(binary, model, port, threads, slots, context, flags=()):
    command = [binary, "serve", model, "--listen", "off", "--admin", "off", "--http", f"127.0.0.1:{port}"]
    command += ["--device", "cpu", "--threads", threads, "--max-num-seqs", slots, "--max-context", context]
    return command + list(flags)


def llama(binary, gguf, port, threads, slots, context):
    """llama.cpp and ik_llama.cpp: as many slots as there are streams, each with room for a whole request."""
    command = [binary, "-m", gguf, "--host", "127.0.0.1", "--port", port, "-t", threads, "-tb", threads]
    return command + ["-np", slots, "-c", slots * context, "-fa", "on"]


def vllm(binary, model, port, slots, context):
    command = [binary, "serve", model, "--host", "127.0.0.1", "--port", port, "--dtype", "bfloat16"]
    return command + ["--max-model-len", context, "--max-num-seqs", slots]
