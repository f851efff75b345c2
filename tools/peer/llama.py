"""The peer: finds or builds llama.cpp outside of this tree, and llama_steps, which times its steps."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SDIST = "llama-cpp-python==0.3.36"  # it contains the source of llama.cpp
# As its own README builds it for the machine at hand.
CMAKE_FLAGS = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF"]
CMAKE_FLAGS += ["-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"]
CMAKE_FLAGS += ["-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_UI=OFF", "-G", "Ninja"]
LIBRARIES = ["llama", "ggml", "ggml-cpu", "ggml-base"]  # in the order of their needs


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
    """`directory` holds a source tree of llama.cpp, or an unpacked distribution of llama-cpp-python, and its build/;
    None: both are made in `cache`."""

    def __init__(self, directory, cache):
        cache.mkdir(parents=True, exist_ok=True)
        if directory is None:
            self.source, self.build = download(cache), cache / "build"
            if not (self.build / "bin" / "llama-bench").exists():
                print("bench_peer: building llama.cpp, some minutes", file=sys.stderr)
                run("cmake", "-S", self.source, "-B", self.build, *CMAKE_FLAGS)
                run("cmake", "--build", self.build, "-j", os.cpu_count(), "--target", "llama-bench")
        else:
            self.source = next(directory.glob("**/include/llama.h")).parent.parent
            self.build = next(directory.glob("**/CMakeCache.txt")).parent
        self.bench = self.build / "bin" / "llama-bench"
        self.gguf_py = self.source / "gguf-py"
        self.steps = self.link(cache / "llama_steps")

    def link(self, program):
        libraries = [library(self.build, name) for name in LIBRARIES]
        paths = [f"-Wl,-rpath,{path.parent}" for path in libraries if path.suffix == ".so"]
        includes = [f"-I{self.source}/include", f"-I{self.source}/ggml/include"]
        flags = ["-std=c++20", "-O2", "-Wall", "-Wextra", "-fopenmp"]
        run("c++", *flags, *includes, HERE / "llama_steps.cc", *libraries, *paths, "-lpthread", "-ldl", "-o", program)
        return program

    def version(self):
        for place in [self.source, *self.source.parents]:
            if place.name.startswith("llama_cpp_python-"):
                return place.name
        return self.source.name
