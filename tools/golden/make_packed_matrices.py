"""Writes tests/engine/checkpoint/data/packed/model.safetensors: matrices as GPTQ and AWQ checkpoints store them, and
their numbers.

NAME.qweight, NAME.qzeros, NAME.scales and NAME.g_idx are packed as AutoGPTQ and AutoAWQ do it; NAME.expected is
scale * (q - zero), in float64 and then float32, which holds it exactly. The words are taken apart again with the formulas
by which these libraries compute; no other code is shared with the engine. The cases' sizes and configurations are repeated in
tests/engine/checkpoint/packed_matrix_test.cc.

usage: python tools/golden/make_packed_matrices.py        (needs numpy)
"""

import json
import pathlib
import struct

import numpy as np

OUT = pathlib.Path(__file__).parents[2] / "tests/engine/checkpoint/data/packed/model.safetensors"
AWQ_PACKS = [0, 2, 4, 6, 1, 3, 5, 7]  # output of each place of a word
AWQ_UNPACKS = [0, 4, 1, 5, 2, 6, 3, 7]  # place of each output
# name: method, outputs, inputs, group (-1: the row), what is taken off stored zeros, dtype of scales, act-order
CASES = {
    "gptq": ("gptq", 32, 64, 32, 1, "F16", False),
    "gptq_v2": ("gptq", 32, 64, 32, 0, "F16", False),
    "gptq_order": ("gptq", 32, 64, 32, 1, "F16", True),
    "gptq_row": ("gptq", 8, 264, -1, 1, "F16", False),
    "gptq_256": ("gptq", 8, 512, 256, 1, "BF16", False),
    "gptq_order_64": ("gptq", 8, 200, 64, 0, "BF16", True),
    "awq": ("awq", 32, 64, 32, 0, "F16", False),
    "awq_128": ("awq", 16, 272, 128, 0, "F16", False),
}


def pack(values, order):
    """[n, 8 m] integers to [n, m] words, place p of a word being order[p] of its eight."""
    words = np.zeros((values.shape[0], values.shape[1] // 8), np.uint32)
    for word in range(words.shape[1]):
        for place in range(8):
            words[:, word] |= values[:, 8 * word + order[place]].astype(np.uint32) << np.uint32(4 * place)
    return words


def unpack(words, places):
    shifts = np.array([4 * place for place in places], np.uint32)
    return ((words[:, :, None] >> shifts) & 15).reshape(words.shape[0], -1).astype(np.int64)


def to_bf16(x):
    return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def make(rng, method, outs, ins, group, offset, dtype, act_order):
    size = ins if group == -1 else group
    groups = -(-ins // size)
    g_idx = np.arange(ins) // size
    if act_order:
        g_idx = rng.permutation(g_idx)
    q = rng.integers(0, 16, (outs, ins))
    zeros = rng.integers(0, 16, (groups, outs)) + offset
    scales = 2.0 ** rng.uniform(-9, -4, (groups, outs))
    if dtype == "F16":
        stored = scales.astype(np.float16)
        scales = stored.astype(np.float64)
    else:  # down to where F16 has few bits
        stored = to_bf16(scales * 2.0 ** rng.integers(-14, 0, (1, outs)))
        scales = (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)

    expected = scales[g_idx].T * (q - zeros[g_idx].T)
    if method == "gptq":
        qweight = pack(q, range(8)).T
        qzeros = pack(zeros - offset, range(8))
        again = unpack(qweight.T, range(8)), unpack(qzeros, range(8)) + offset
    else:
        qweight = pack(q.T, AWQ_PACKS)
        qzeros = pack(zeros, AWQ_PACKS)
        again = unpack(qweight, AWQ_UNPACKS).T, unpack(qzeros, AWQ_UNPACKS)
    assert (again[0] == q).all() and (again[1] == zeros).all()
    assert (expected == expected.astype(np.float32)).all()
    tensors = {
        "qweight": ("I32", np.ascontiguousarray(qweight)),
        "qzeros": ("I32", qzeros),
        "scales": (dtype, stored),
        "expected": ("F32", expected.astype(np.float32)),
    }
    if method == "gptq":
        tensors["g_idx"] = ("I32", g_idx.astype(np.int32))
    return tensors


def main():
    rng = np.random.default_rng(4)
    header, data = {}, b""
    for name, case in CASES.items():
        for part, (dtype, values) in make(rng, *case).items():
            raw = values.tobytes()
            header[f"{name}.{part}"] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_bytes(struct.pack("<Q", len(text)) + text + data)
    print(OUT, OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
