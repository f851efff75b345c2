"""Two peers: finds llama.cpp (or builds it, outside of this tree) and its fork ik_llama.cpp, and builds llama_steps,
which times their steps."""

import json
import os
import statistics
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from .contest import Contender

HERE = Path(__file__).resolve().parent
SDIST = "llama-cpp-python==0.3.36"  # it contains the source of llama.cpp
# As its own README builds it for the machine at hand.
CMAKE_FLAGS = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF"]
CMAKE_FLAGS += ["-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"]
CMAKE_FLAGS += ["-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_UI=OFF", "-G", "Ninja"]

CACHES = {"bf16": "f16", "int8": "q8_0"}  # of mea: of both
FLASH, NO_FLASH = {"flash": 1, "repack": 0}, {"flash": 0, "repack": 0}


@dataclass(frozen=True)
class Project:
    system: str
    libraries: list  # in the order of their needs
    ways: dict  # ways to run it: the best one counts
    defines: list = field(default_factory=list)
    bench_has_depths: bool = True  # its llama-bench


LLAMA = Project("llama.cpp", ["llama", "ggml", "ggml-cpu", "ggml-base"], {"flash": FLASH, "no flash": NO_FLASH})
IK = Project(
    "ik_llama.cpp",
    ["llama", "ggml"],
    {"flash": FLASH, "repacked": {"flash": 1, "repack": 1}},
    defines=["PEER_IK_LLAMA"],
    bench_has_depths=False,
)


def run(*command):
    subprocess.run([str(word) for word in command], check=True)


def download(cache):
    """The source tree of llama.cpp."""
    found = list(cache.glob("llama_cpp_python-*/vendor/llama.cpp"))
    if found:
        return found[0]
    print(f"bench_peer: downloading {SDIST}", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    run(*pip, "-q", "-d", cache, SDIST)
    with tarfile.open(next(cache.glob("llama_cpp_python-*.tar.gz"))) as archive:
        archive.extractall(cache, filter="data")
    return next(cache.glob("llama_cpp_python-*/vendor/llama.cpp"))


def library(build, name):
    for pattern in (f"lib{name}.a", f"lib{name}.so"):
        for path in build.rglob(pattern):
            return path
    sys.exit(f"bench_peer: no lib{name} below {build}")


class Llama:
    """`directory` is a build of the project, or holds one; None: llama.cpp is downloaded and built in `cache`."""

    def __init__(self, project, directory, cache):
        cache.mkdir(parents=True, exist_ok=True)
        self.project = project
        if directory is None:
            self.source, self.build = download(cache), cache / "build"
            if not (self.build / "bin" / "llama-bench").exists():
                print("bench_peer: building llama.cpp, some minutes", file=sys.stderr)
                run("cmake", "-S", self.source, "-B", self.build, *CMAKE_FLAGS)
                run("cmake", "--build", self.build, "-j", os.cpu_count(), "--target", "llama-bench")
        else:
            self.build = find(directory, "CMakeCache.txt").parent
            self.source = source_of(self.build)
        self.bench = self.build / "bin" / "llama-bench"
        self.gguf_py = self.source / "gguf-py"
        self.steps = self.link(cache / f"{project.system}_steps")

    def link(self, program):
        libraries = [library(self.build, name) for name in self.project.libraries]
        paths = [f"-Wl,-rpath,{path.parent}" for path in libraries if path.suffix == ".so"]
        flags = [f"-I{self.source}/include", f"-I{self.source}/ggml/include", "-std=c++20", "-O2", "-Wall", "-Wextra"]
        flags += ["-fopenmp"] + [f"-D{name}" for name in self.project.defines]
        run("c++", *flags, HERE / "llama_steps.cc", *libraries, *paths, "-lpthread", "-ldl", "-o", program)
        return program

    def contenders(self, paths, shape, _weights, _points, options):
        """One for each way to run it."""
        cache_type = CACHES[options.cache_type]
        for name, way in self.project.ways.items():
            kept = options.cache / "states" / shape.name / f"{self.project.system}-{cache_type}-{way['flash']}"
            kept.mkdir(parents=True, exist_ok=True)
            flags = [options.threads, way["flash"], way["repack"], cache_type, options.round_seconds, kept]
            yield Contender(self.project.system, name, "plain", [self.steps, paths["gguf"], *flags])

    def own_bench(self, gguf, chunk, depths, options):
        """(tokens of a step, depth, its seconds) of the project's own llama-bench."""
        cache_type = CACHES[options.cache_type]
        flags = ["-m", gguf, "-t", options.threads, "-fa", 1, "-ctk", cache_type, "-ctv", cache_type, "-o", "json"]
        flags += ["-r", options.rounds, "-p", chunk, "-n", 16]
        flags += ["-d", ",".join(map(str, depths))] if self.project.bench_has_depths else []
        command = [str(word) for word in [self.bench, *flags]]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=options.answer_seconds, check=True)
        for row in json.loads(ended.stdout):
            steps = 1 if row["n_prompt"] else row["n_gen"]
            yield row["n_prompt"] or 1, row.get("n_depth", 0), 1e-9 * statistics.median(row["samples_ns"]) / steps

    def version(self):
        for place in [self.source, *self.source.parents]:
            if place.name.startswith("llama_cpp_python-"):
                return f"{self.project.system} of {place.name}"
        git = ["git", "-C", str(self.source), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
        return f"{self.project.system} {commit}".strip()


def find(directory, name):
    found = next(directory.rglob(name), None)
    if found is None:
        sys.exit(f"bench_peer: no {name} in {directory}")
    return found


def source_of(build):
    cached = (build / "CMakeCache.txt").read_text().splitlines()
    return Path(next(line for line in cached if line.startswith("CMAKE_HOME_DIRECTORY:")).split("=", 1)[1])
