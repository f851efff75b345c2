"""Packs a directory with the package `mea` as a wheel, and prints the wheel's path.

    pack.py STAGE OUT_DIRECTORY

The tag names the oldest glibc of systems on which the program and its libraries start, read from the versions of their
symbols.
"""

import base64
import hashlib
import pathlib
import re
import subprocess
import sys
import zipfile

NAME = "mea_server"
INSTALLED = "mea/_installed"
# Newest symbols GLIBCXX_3.4.N -> glibc of the oldest system that has them, as auditwheel's policies say: RHEL 9, Ubuntu 22.04, Ubuntu 24.04.
LIBSTDCXX_OF = ((29, (2, 34)), (30, (2, 35)), (33, (2, 39)))
TIME = (1980, 1, 1, 0, 0, 0)  # the same files make the same wheel
METADATA = """\
Metadata-Version: 2.1
Name: mea-server
Version: {version}
Summary: LLM inference server with a compressed KV cache, and its gRPC client
License: Apache-2.0
Requires-Python: >=3.9
Requires-Dist: grpcio>=1.51
Requires-Dist: protobuf>=4.21
Provides-Extra: hf
Requires-Dist: torch; extra == "hf"
Requires-Dist: transformers>=5; extra == "hf"
Requires-Dist: safetensors; extra == "hf"
Requires-Dist: tokenizers; extra == "hf"
"""
WHEEL = """\
Wheel-Version: 1.0
Generator: mea
Root-Is-Purelib: false
Tag: {tag}
"""
ENTRY_POINTS = "[console_scripts]\nmea = mea._program:main\n"


def is_elf(path):
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def floor(files):
    """(2, 35): the oldest glibc of a system with all symbols that these want of glibc and of libstdc++."""
    text = subprocess.run(["readelf", "-VW", *files], stdout=subprocess.PIPE, text=True, check=True).stdout
    glibc = max(tuple(map(int, found)) for found in re.findall(r"\bGLIBC_(\d+)\.(\d+)", text))
    libstdcxx = max(map(int, re.findall(r"\bGLIBCXX_3\.4\.(\d+)", text)))
    return max(glibc, next(system for newest, system in LIBSTDCXX_OF if libstdcxx <= newest))


def soname_of(path):
    text = subprocess.run(["readelf", "-dW", path], stdout=subprocess.PIPE, text=True, check=True).stdout
    found = re.search(r"\(SONAME\).*\[(.*)\]", text)
    return found and found[1]


def packed_files(stage):
    """Name in the wheel -> file. A wheel holds no links: of a library's names it has the one that programs ask for."""
    files = {path.relative_to(stage).as_posix(): path for path in sorted(stage.rglob("*")) if path.is_file()}
    for name, path in list(files.items()):
        if name.startswith(f"{INSTALLED}/lib/") and soname_of(path) not in (None, path.name):
            del files[name]
    return files


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    stage, out = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    files = packed_files(stage)
    version = subprocess.run([stage / INSTALLED / "bin/mea", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    major, minor = floor([path for path in files.values() if is_elf(path)])
    tag = f"py3-none-manylinux_{major}_{minor}_x86_64"
    info = f"{NAME}-{version}.dist-info"
    contents = {name: path.read_bytes() for name, path in files.items()}
    contents[f"{info}/METADATA"] = METADATA.format(version=version).encode()
    contents[f"{info}/WHEEL"] = WHEEL.format(tag=tag).encode()
    contents[f"{info}/entry_points.txt"] = ENTRY_POINTS.encode()
    contents[f"{info}/LICENSE"] = contents[f"{INSTALLED}/share/doc/mea/LICENSE"]
    contents[f"{info}/sboms/mea.cdx.json"] = contents[f"{INSTALLED}/share/doc/mea/sbom.cdx.json"]
    record = [f"{name},sha256={digest(data)},{len(data)}" for name, data in contents.items()]
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()

    out.mkdir(parents=True, exist_ok=True)
    wheel = out / f"{NAME}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name, TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if data[:4] == b"\x7fELF" else 0o100644) << 16
            archive.writestr(entry, data)
    print(wheel)


def digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    main()
