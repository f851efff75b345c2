"""Stubs of vllm.grpc.engine made of our .proto files."""

import pathlib
import sys
import tempfile

import serving
from grpc_tools import protoc

_folder = tempfile.TemporaryDirectory()
_root = serving.ROOT / "proto"
_files = [str(path.relative_to(_root)) for folder in ("vllm", "smg") for path in (_root / folder).rglob("*.proto")]
assert protoc.main(["protoc", f"-I{_root}", f"--python_out={_folder.name}", f"--grpc_python_out={_folder.name}", *_files]) == 0

# A package in full, or the wheel smg would be found in its place.
for _part in ("smg", "smg/grpc", "smg/grpc/common"):
    (pathlib.Path(_folder.name) / _part / "__init__.py").touch()
sys.path.insert(0, _folder.name)
from smg.grpc.common import common_pb2  # noqa: E402
from vllm.grpc.engine import vllm_engine_pb2, vllm_engine_pb2_grpc  # noqa: E402
