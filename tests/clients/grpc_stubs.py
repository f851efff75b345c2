"""Stubs of mea.v1 made of the .proto files alone, as a client in Python makes them."""

import importlib
import pathlib
import sys

import grpc_tools
import serving
from grpc_tools import protoc


def make_stubs(folder):
    """The modules types_pb2, inference_pb2 and inference_pb2_grpc, written into a folder that stays."""
    root = serving.ROOT / "proto"
    files = [str(path.relative_to(root)) for path in root.glob("mea/v1/*.proto")]
    include = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    assert protoc.main(["protoc", f"-I{root}", f"-I{include}", f"--python_out={folder}", f"--grpc_python_out={folder}", *files]) == 0
    sys.path.insert(0, str(folder))
    return tuple(importlib.import_module(f"mea.v1.{name}") for name in ("types_pb2", "inference_pb2", "inference_pb2_grpc"))
