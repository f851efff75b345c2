"""Simulates decode attention on a GPU: work list, rings of slabs, partial results, combination.

    python3 tools/simulate_decode.py            the tables of docs/results/decode-splits.md

No device has confirmed it. Blocks share the memory's rate; none gets more than its ring can have under way. Ragged
lengths lie between an eighth of the context and fifteen.
Splits "by row" are those of SplitTokens in kernels/cuda/attention/work_list.h, "by share" those of a list whose
workers have equal shares.
"""

import math
import random

# An H200: bytes and nanoseconds. The first is a measured copy rate; the rest are read in published kernels.
MEMORY = 4300.0  # bytes per ns, all multiprocessors
L2 = 5500.0  # likewise, of what the second-level cache holds
L2_BYTES = 40 << 20  # of partial results that stay there
SMS = 132
BLOCKS = 2 * SMS
LATENCY = 900.0  # of a slab under load
ISSUE = 4 * 1.755 * SMS  # instructions of warps per ns
START = 2000.0  # of the kernel until the first copies are issued, the wait for the last one included
ITEM_END = 700.0  # merging the warps' sums and writing them
COMBINE = 2000.0  # the kernel, without its bytes
TILE = 64
WHOLE_TILES = 8  # shares smaller than this are whole tiles

SHAPES = {  # query heads, slabs of keys and values per tile, head_dim, parts of an item
    "a": (32, 8, 64, 1),
    "b": (32, 8, 128, 1),
    "c": (32, 4, 128, 1),
    "d": (32, 32, 128, 1),
    "b uncompressed": (32, 2, 128, 8),
}


# Of a cache: bytes of a head of d elements, as KvHeadBytes has them, and the instructions of a warp for a product with 128
# of its elements, widening included.
FORMATS = {
    "bf16": (lambda d: 2 * d, 1.5),
    "int8": (lambda d: d + 2, 9.5),
    "int4": (lambda d: d // 2 + 4, 5.5),
}


def split_tokens(context):
    return 256 if context <= 8192 else 512 if context <= 32768 else 1024


def by_row(contexts, slab_bytes, slabs, parts):
    """The tiles of every block's units in order, units dealt in runs of equal cost."""
    units = []
    for context in contexts:
        size = split_tokens(context)
        for begin in range(0, context, size):
            tiles = -(-(min(context, begin + size) - begin) // TILE)
            units += [tiles] * parts
    total = sum(tiles + 1 for tiles in units)
    blocks = [[] for _ in range(BLOCKS)]
    done = 0
    for tiles in units:
        middle = done + (tiles + 1) / 2
        blocks[min(BLOCKS - 1, int(middle * BLOCKS / total))].append(tiles)
        done += tiles + 1
    return blocks, len(units) // parts


def by_share(contexts, slab_bytes, slabs, parts, least_bytes=65536, item_bytes=24576):
    """Every column of `parts` blocks has an equal share of all tiles; rows are cut where shares end."""
    tile_bytes = slabs * slab_bytes
    item_cost = max(1, round(16 * item_bytes / tile_bytes))
    least = max(1, -(-least_bytes // tile_bytes))
    columns = max(1, BLOCKS // parts)
    rows = [-(-context // TILE) for context in contexts]
    total = sum(16 * tiles + item_cost for tiles in rows)
    share = max(16 * least + item_cost, total / columns)
    whole = 16 * math.ceil((share - item_cost) / 16)
    if share < 16 * WHOLE_TILES and whole * columns >= total - 8:
        share = whole  # of shares of one tile and of two all would take as long as two
    columns = math.ceil(total / share)
    shares = [[] for _ in range(columns)]
    begin = num_items = 0
    for tiles in rows:
        base = begin + item_cost
        cuts = []
        for i in range(columns):
            boundary = int(i * share)
            cut = (boundary - base + 8) // 16
            if least <= cut <= tiles - least:
                cuts.append((cut, i))
        edges = [(0, None)] + cuts + [(tiles, None)]
        for (first, i), (last, _) in zip(edges, edges[1:]):
            if i is None:  # begins with the row: of the column that holds the row's first tile
                middle = base + 8 * (cuts[0][0] if cuts else tiles)
                i = cuts[0][1] - 1 if cuts else min(columns - 1, int(middle / share))
            shares[i].append(last - first)
            num_items += 1
        begin += 16 * tiles + item_cost
    return shares * parts, num_items


def ring_bytes(head_dim, heads_of_a_block, formats):
    """What a block has under way, as Shape of decode_mma.cu and decode_integers.cu has its stages."""
    if formats == ("bf16", "bf16"):
        return 3 * 16384
    row_tiles = 1 if heads_of_a_block <= 16 else 2 if heads_of_a_block <= 32 else 4
    tokens = 128 if row_tiles * head_dim <= 128 else 64
    stage = tokens * head_dim // (1 if "int8" in formats else 2)
    mean = sum(FORMATS[name][0](head_dim) for name in formats) * tokens / 2
    return (3 if stage > 8192 else 7) * mean


def simulate(shape, contexts, policy, formats=("bf16", "bf16")):
    """Nanoseconds of a layer's decode attention, its share of MEMORY, its items; `formats` of keys and values, which have
    equally many slabs."""
    q_heads, slabs, head_dim, parts = SHAPES[shape]
    heads = q_heads // parts
    slab_bytes = TILE * sum(FORMATS[name][0](head_dim) for name in formats) / 2
    ring = ring_bytes(head_dim, heads, formats)
    # Every 16 heads of a block widen and multiply on their own.
    instructions = sum(FORMATS[name][1] for name in formats) / 2 * math.ceil(min(heads, 64) / 16)
    issue = ISSUE * 128 / instructions * slab_bytes / (TILE * head_dim)  # bytes per ns
    memory = min(MEMORY, issue)
    blocks, num_items = policy(contexts, slab_bytes, slabs, parts)
    # Fluid: all blocks that read have the same rate until the next of them is done.
    reads = []  # bytes of every block
    ends = []  # what a block spends at the ends of its items while its ring fills up again
    for tiles in blocks:
        if tiles:
            reads.append(sum(tiles) * slabs * slab_bytes)
            ends.append(len(tiles) * max(0.0, ITEM_END - ring / (MEMORY / BLOCKS)) + ITEM_END + LATENCY)
    now = level = 0.0
    for done, bytes_read in enumerate(sorted(reads)):
        now += (bytes_read - level) / min(memory / (len(reads) - done), ring / LATENCY)
        level = bytes_read
    partial = num_items * q_heads * head_dim * 4
    partial_rate = L2 if partial <= L2_BYTES else MEMORY
    time = START + now + max(ends) + 2 * partial / partial_rate + COMBINE
    return time, sum(contexts) * slabs * parts * slab_bytes / TILE / MEMORY / time, num_items


def print_formats():
    print("| shape | format | MB of a layer | at the copy rate, us | predicted, us | share | measured, us |")
    print("|---|---|---|---|---|---|---|")
    for shape, (_, slabs, head_dim, parts) in SHAPES.items():
        for formats in (("bf16", "bf16"), ("int8", "int8"), ("int8", "int4"), ("int4", "int4")):
            time, share, _ = simulate(shape, [8192] * 32, by_share, formats)
            read = 32 * 8192 * slabs * parts * sum(FORMATS[name][0](head_dim) for name in formats) / 2
            name = formats[0] if formats[0] == formats[1] else f"k={formats[0]},v={formats[1]}"
            print(f"| {shape} | {name} | {read / 1e6:.0f} | {read / MEMORY / 1000:.1f} "
                  f"| {time / 1000:.1f} | {100 * share:.0f} % | |")


def main():
    random.seed(1)
    print("| shape | B | context | by row: items, us, share, share of ragged | by share |")
    print("|---|---|---|---|---|")
    for shape in SHAPES:
        for batch in (1, 32, 128):
            for context in (2048, 8192, 16384):
                ragged = [random.randrange(context // 8, 2 * context - context // 8) for _ in range(batch)]
                cells = []
                for policy in (by_row, by_share):
                    time, share, items = simulate(shape, [context] * batch, policy)
                    of_ragged = simulate(shape, ragged, policy)[1]
                    cells.append(f"{items}, {time / 1000:.1f}, {100 * share:.0f} %, {100 * of_ragged:.0f} %")
                print(f"| {shape} | {batch} | {context} | " + " | ".join(cells) + " |")
    print()
    print_formats()


if __name__ == "__main__":
    main()
