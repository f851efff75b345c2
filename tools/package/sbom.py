"""Writes what an installed mea brings of others: share/doc/mea/sbom.cdx.json (CycloneDX) and their licences.

    sbom.py PREFIX VERSION [--cuda VERSION] [--base ROOT]

Libraries are looked up in dpkg's database: run it on the machine that built. One that no package owns is named by its
file and hash alone. --cuda: the CUDA toolkit whose runtime is linked into the CUDA back end, where PREFIX has one.
--base: the root of the image that PREFIX will lie in; its packages in /usr/local/cuda* are listed as well.
"""

import argparse
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import urllib.parse

# Compiled into the program: headers, of which no file is left to look up.
HEADERS = ("libboost1.74-dev", "libcli11-dev", "libeigen3-dev", "nlohmann-json3-dev")
XGRAMMAR = "xgrammar"
CUDA_LICENCE = {"name": "NVIDIA CUDA Toolkit EULA", "url": "https://docs.nvidia.com/cuda/eula/"}
FIELDS = ("binary:Package", "Version", "Architecture", "source:Package", "source:Version", "Homepage")


def output(*command):
    """Standard output, also of a command that found only a part of what it was asked for; empty if there is no such command."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout


def libraries(prefix):
    """Installed files of libraries that are not ours, without the links to them."""
    return sorted(file for file in (prefix / "lib").glob("*.so*") if not file.is_symlink() and not file.name.startswith("libmea"))


def owners(files):
    """File name -> name of the Debian package that owns a file of that name in a directory of libraries."""
    found = {}
    for line in output("dpkg-query", "-S", *(f"*/{file.name}" for file in files)).splitlines():
        packages, _, path = line.partition(": ")
        if re.fullmatch(r"(/usr)?/lib/[^/]+/[^/]+", path):
            found[pathlib.PurePath(path).name] = packages.split(",")[0]
    return found


def describe(packages, *database):
    """Fields of dpkg's database for each package that is installed."""
    form = "\\t".join(f"${{{field}}}" for field in FIELDS) + "\\n"
    rows = (line.split("\t") for line in output("dpkg-query", *database, "-W", "-f", form, *packages).splitlines())
    return [dict(zip(FIELDS, row)) for row in rows if row[1]]


def distribution(root="/"):
    try:
        fields = dict(line.split("=", 1) for line in pathlib.Path(root, "etc/os-release").read_text().splitlines() if "=" in line)
    except OSError:
        fields = {}
    return fields.get("ID", "linux").strip('"'), fields.get("VERSION_ID", "").strip('"')


def file_component(file, prefix):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    path = str(file.relative_to(prefix))
    return {"type": "file", "bom-ref": path, "name": path, "hashes": [{"alg": "SHA-256", "content": digest}]}


def package_component(package, licence, files=(), root="/"):
    name = package["binary:Package"].split(":")[0]
    system, release = distribution(root)
    query = urllib.parse.urlencode({"arch": package["Architecture"], "distro": f"{system}-{release}"})
    purl = f"pkg:deb/{system}/{name}@{urllib.parse.quote(package['Version'], safe='')}?{query}"
    component = {"type": "library", "bom-ref": purl, "name": name, "version": package["Version"], "purl": purl, "licenses": [{"license": licence}]}
    if package["Homepage"]:
        component["externalReferences"] = [{"type": "website", "url": package["Homepage"]}]
    component["properties"] = [{"name": "debian:source", "value": f"{package['source:Package']} {package['source:Version']}"}]
    if files:
        component["components"] = files
    return component


def cuda_runtime(version):
    """The part of the CUDA toolkit that is linked into libmea_cuda.so."""
    purl = f"pkg:generic/cuda-cudart@{version}"
    return {"type": "library", "bom-ref": purl, "name": "cuda-cudart", "version": version, "purl": purl, "licenses": [{"license": CUDA_LICENCE}]}


def cuda_of_image(root):
    """The packages of an image that own shared libraries of CUDA."""
    database = f"--admindir={root}/var/lib/dpkg"
    lines = output("dpkg-query", database, "-S", "/usr/local/cuda*.so*").splitlines()
    packages = {name.strip() for line in lines for name in line.rpartition(": ")[0].split(",")}
    if not packages:
        return []
    return [package_component(package, CUDA_LICENCE, root=root) for package in describe(sorted(packages), database)]


def copy_licence(package, directory):
    name = package["binary:Package"].split(":")[0]
    copyright_file = pathlib.Path("/usr/share/doc", name, "copyright")
    if copyright_file.exists():
        (directory / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(copyright_file, directory / name / "copyright")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", type=pathlib.Path)
    parser.add_argument("version")
    parser.add_argument("--cuda")
    parser.add_argument("--base", type=pathlib.Path)
    flags = parser.parse_args()
    prefix, version = flags.prefix, flags.version
    documents = prefix / "share/doc/mea"
    files = libraries(prefix)
    owner_of = owners(files)
    components = [file_component(file, prefix) for file in files if file.name not in owner_of]
    for package in describe(sorted(set(owner_of.values())) + list(HEADERS)):
        own = [file for file in files if owner_of.get(file.name, "").split(":")[0] == package["binary:Package"].split(":")[0]]
        licence = {"name": f"share/doc/mea/libraries/{package['binary:Package'].split(':')[0]}/copyright"}
        components.append(package_component(package, licence, [file_component(file, prefix) for file in own]))
        copy_licence(package, documents / "libraries")
    stamp = documents / XGRAMMAR / "stamp"
    if stamp.exists():
        number = stamp.read_text().split()[0]
        purl = f"pkg:pypi/{XGRAMMAR}@{number}"
        components.append({"type": "library", "bom-ref": purl, "name": XGRAMMAR, "version": number, "purl": purl, "licenses": [{"license": {"id": "Apache-2.0"}}]})
    if flags.cuda and any((prefix / "lib").glob("libmea_cuda*")):
        components.append(cuda_runtime(flags.cuda))
    if flags.base:
        components += cuda_of_image(flags.base)
    mea = {"type": "application", "bom-ref": "mea", "name": "mea", "version": version, "licenses": [{"license": {"id": "Apache-2.0"}}]}
    bom = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": {"component": mea}, "components": components,
        "dependencies": [{"ref": "mea", "dependsOn": [component["bom-ref"] for component in components]}],
    }  # fmt: skip
    documents.mkdir(parents=True, exist_ok=True)
    (documents / "sbom.cdx.json").write_text(json.dumps(bom, indent=1) + "\n")


if __name__ == "__main__":
    main()
