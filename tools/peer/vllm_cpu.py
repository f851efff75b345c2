"""A peer: vLLM's CPU build in a virtual environment. Not named vllm.py, which vllm_steps.py would import as vLLM."""

import os
import subprocess
from pathlib import Path

from .contest import Contender

HERE = Path(__file__).resolve().parent
ROOM = 2 * 128  # tokens of a sequence beyond its context: it ends in a block that is not full, and grows


class Vllm:
    def __init__(self, venv):
        self.venv = venv.absolute()
        self.python = self.venv / "bin" / "python"

    def contenders(self, paths, shape, weights, points, options):
        """It has BF16 weights beside a BF16 cache, or nothing that would compare."""
        if weights.name != "bf16" or options.cache_type != "bf16":
            yield Contender("vLLM", "", "plain", refuses="BF16 weights and cache only")
            return
        batch = max(point.batch for point in points)
        context = min(max(point.context for point in points) + ROOM, shape.max_position)
        cached = max(context, *(point.batch * (point.context + ROOM) for point in points))
        numbers = [context, batch, cached, options.round_seconds]
        command = [self.python, HERE / "vllm_steps.py", paths["plain"], *numbers]
        yield Contender("vLLM", "", "plain", command, self.environment(options.threads))

    def environment(self, threads):
        """What its server sets for its workers: torch's own OpenMP, a core for each thread."""
        cores = " ".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
        variables = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
        variables["PATH"] = f"{self.venv / 'bin'}:{os.environ['PATH']}"
        openmp = next(self.venv.glob("lib/python*/site-packages/torch/lib/libgomp*.so*"), None)
        if openmp is not None:
            variables |= {"LD_PRELOAD": str(openmp), "GOMP_CPU_AFFINITY": cores}
        return variables

    def version(self):
        asked = "import importlib.metadata; print(importlib.metadata.version('vllm'))"
        told = subprocess.run([self.python, "-c", asked], capture_output=True, text=True, check=True)
        return f"vLLM {told.stdout.strip()}"
