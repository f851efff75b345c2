"""Weights that Python and C++ draw alike, bit for bit, from a seed: the twin of tests/golden/seeded_weights.cc.

Element i of the tensor `name` of model `seed` takes the top 24 bits of SplitMix64's i-th number, the generator being
started at FNV-1a(f"{seed}:{name}"), as u in [-1, 1) with 24 bits, and becomes float32(offset + scale * u), where the
sum is taken in double. Scale and offset follow from name and shape (`scale_and_offset`).
"""

import numpy as np


def fnv1a(data, state=0xCBF29CE484222325):
    for byte in data:
        state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return state


def splitmix64(seed, count):
    """The first `count` numbers of Steele, Lea and Flood's generator started at `seed`."""
    z = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def scale_and_offset(name, shape):
    """Norm gains lie in [3/4, 5/4), biases and embeddings (small beside what the layers add, so
    that a tied model does not just repeat its input) in [-1/4, 1/4). Other matrices take the largest power
    of two that keeps the sum over their inputs near unit variance: scale^2 * fan_in in (1, 4]."""
    if name.endswith("norm.weight"):
        return 0.25, 1.0
    if name.endswith((".bias", "embed_tokens.weight")):
        return 0.25, 0.0
    # W_lc is [h', h] and alpha [h, h, P]: their inputs are rows.
    fan_in = shape[0] if name.endswith(("_hlc.weight", ".iha_q", ".iha_k", ".iha_v")) else shape[1]
    scale = 1.0
    while scale * scale * fan_in > 4.0:
        scale *= 0.5
    return scale, 0.0


def seeded_tensor(seed, name, shape):
    """float32 array of `shape`."""
    with np.errstate(over="ignore"):
        bits = splitmix64(fnv1a(f"{seed}:{name}".encode()), int(np.prod(shape)))
    u = ((bits >> np.uint64(40)).astype(np.float64) - 2.0**23) / 2.0**23
    scale, offset = scale_and_offset(name, shape)
    return (offset + scale * u).astype(np.float32).reshape(shape)


def checksum(arrays):
    """Over the bits of all elements, sensitive to order: per array the sum of (2 i + 1) * bits[i]; 31 * sum + next."""
    total = 0
    for array in arrays:
        bits = array.reshape(-1).view(np.uint32).astype(np.uint64)
        term = (bits * np.arange(1, 2 * bits.size, 2, dtype=np.uint64)).sum(dtype=np.uint64)
        total = (31 * total + int(term)) & 0xFFFFFFFFFFFFFFFF
    return total
