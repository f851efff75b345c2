"""What tools/bench_peer found, as JSON in the form of `mea bench`, as Markdown and as a plot."""

import json

PLAIN, HALF = ("mea", "plain"), ("mea", "mea")
PEERS = ["llama.cpp", "ik_llama.cpp", "vLLM"]
# A line of matplotlib; a system keeps its colour in every plot, whichever others are there.
STYLES = {"plain": "C0o-", "half": "C1s-", "limit of plain": "k--", "limit of half": "k:"}
STYLES |= dict(zip(PEERS, ["C2^-", "C3v-", "C4d-"]))


def head(peers):
    """Headings of Point.cells of these peers."""
    columns = ["model", "step", "batch", "depth", "plain ms", "min..max", "half ms", "min..max"]
    columns += [f"{peer} ms" for peer in peers]
    return columns + ["best peer / plain", "/ half", "of limit: plain", "half", "best peer", "others"]


def with_limits(results):
    """Adds rates and the share of the machine's limit: a peer must move and compute at least what mea with every head
    stored does."""
    measured = {(r["system"], r["storage"]): r for r in results if r["system"] == "mea" and "skipped" not in r}
    for result in results:
        of = (result["system"], result["storage"])
        if "skipped" in result:
            continue
        median = result["seconds"]["median"]
        result["tokens_per_second"] = result["batch"] * result["tokens"] / median
        cost = measured.get(of if of == HALF else PLAIN)
        if cost is None:
            continue
        result.update({name: cost[name] for name in ("bytes", "flops", "cache_bytes", "roofline")})
        reading = cost["bytes"] / cost["roofline"]["bytes_per_second"]
        computing = cost["flops"] / cost["roofline"]["flops_per_second"]
        result["limit"] = "read" if reading > computing else "fma"
        result["floor_seconds"] = max(reading, computing)
        result["share_of_floor"] = result["floor_seconds"] / median
    return results


class Point:
    """All results of one step of one model."""

    def __init__(self, results):
        self.first = results[0]
        ours = {(r["system"], r["storage"]): r for r in results if r["system"] == "mea"}
        self.plain, self.half = ours.get(PLAIN), ours.get(HALF)
        ways = {peer: [r for r in results if r["system"] == peer] for peer in PEERS}
        self.peers = {peer: fastest(results) for peer, results in ways.items() if results}
        self.best = fastest(list(self.peers.values()))

    def cells(self):
        first = self.first
        cells = [first["shape"], first["bench"], first["batch"], first["depth"]]
        cells += times(self.plain) + times(self.half)
        for result in self.peers.values():
            variant = f" ({result['variant']})" if is_timed(result) and result["variant"] else ""
            cells.append(times(result)[0] + variant)
        cells += [ratio(self.best, self.plain), ratio(self.best, self.half)]
        cells += [share(result) for result in (self.plain, self.half, self.best)]
        return cells + [f"{first['others']:.2f}" if "others" in first else ""]


def fastest(results):
    """Of those that were timed; without any, the first."""
    timed = [r for r in results if is_timed(r)]
    return min(timed, key=lambda r: r["seconds"]["median"], default=results[0] if results else None)


def is_timed(result):
    return result is not None and "skipped" not in result


def times(result):
    if result is None:
        return ["", ""]
    if "skipped" in result:
        return [result["skipped"], ""]
    took = result["seconds"]
    return [f"{1e3 * took['median']:.4g}", f"{1e3 * took['min']:.4g}..{1e3 * took['max']:.4g}"]


def share(result):
    return f"{100 * result['share_of_floor']:.0f} %" if is_timed(result) and "share_of_floor" in result else ""


def ratio(peer, ours):
    if not (is_timed(peer) and is_timed(ours)):
        return ""
    return f"{peer['seconds']['median'] / ours['seconds']['median']:.2f}"


def grouped(report):
    """{(shape, bench): [Point]}, in order."""
    points = {}
    for result in report["results"]:
        points.setdefault((result["shape"], result["bench"], result["batch"], result["depth"]), []).append(result)
    groups = {}
    for (shape, bench, _, _), results in points.items():
        groups.setdefault((shape, bench), []).append(Point(results))
    return groups


def markdown(report):
    machine = report["machine"]
    peers = ", ".join(report["peers"])
    lines = [f"{machine['processor']}, {machine['threads']} threads, {report['date']}, {peers}."]
    for roofline in report["roofline"]:
        spread = {name: roofline[name] for name in ("bytes_per_second", "flops_per_second")}
        rates = [f"{1e-9 * s['median']:.1f} ({1e-9 * s['min']:.1f}..{1e-9 * s['max']:.1f})" for s in spread.values()]
        lines.append(f"Roofline of {roofline['threads']} threads: read {rates[0]} GB/s, FMA {rates[1]} GF/s.")
    most = max((result.get("others", 0) for result in report["results"]), default=0)
    quiet = "was quiet" if most < 0.1 else "WAS NOT QUIET"
    lines += report["checks"]
    lines.append(f"The machine {quiet}: others kept up to {most:.2f} cores busy (last column).")
    groups = grouped(report)
    columns = head(next(iter(groups.values()))[0].peers) if groups else []
    lines += [f"`{report['command']}`", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for points in groups.values():
        lines += ["| " + " | ".join(str(cell) for cell in point.cells()) + " |" for point in points]
    return "\n".join(lines) + "\n"


def series(points, axis):
    """{name of a line: [(x, ms per token)]}"""
    lines = {name: [] for name in STYLES}
    for point in points:
        x = point.first[axis]

        def add(name, result, seconds):
            lines[name].append((x, 1e3 * seconds / (result["batch"] * result["tokens"])))

        named = {"plain": point.plain, "half": point.half, **point.peers}
        for name, result in named.items():
            if not is_timed(result):
                continue
            add(name, result, result["seconds"]["median"])
            if name not in PEERS and "floor_seconds" in result:
                add(f"limit of {name}", result, result["floor_seconds"])
    return {name: line for name, line in lines.items() if line}


def draw(axes, title, points, axis):
    lines = series(points, axis)
    for name, line in lines.items():
        axes.plot(*zip(*sorted(line)), STYLES[name], label=name)
    axes.set(title=title, xlabel=axis if axis == "batch" else "depth, tokens", ylabel="ms per token", yscale="log")
    if axis == "depth":
        axes.set_xscale("symlog", base=2, linthresh=256)
    else:
        axes.set_xscale("log", base=2)
    ticks = sorted({x for line in lines.values() for x, _ in line})
    axes.set_xticks(ticks, [str(x) for x in ticks])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    if axes.lines:
        axes.legend()


def plot(report, path):
    """False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups = grouped(report)
    shapes = sorted({shape for shape, _ in groups})
    figure, axes = plt.subplots(len(shapes), 3, figsize=(16, 4.5 * len(shapes)), squeeze=False)
    for row, shape in zip(axes, shapes):
        decode = groups.get((shape, "decode"), [])
        depths = sorted({p.first["depth"] for p in decode if p.first["batch"] > 1})
        depth = 512 if 512 in depths or not depths else depths[0]
        draw(row[0], f"{shape}: decode, batch 1", [p for p in decode if p.first["batch"] == 1], "depth")
        draw(row[1], f"{shape}: decode, depth {depth}", [p for p in decode if p.first["depth"] == depth], "batch")
        draw(row[2], f"{shape}: prefill", groups.get((shape, "prefill"), []), "depth")
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)  # it is drawn anew after every point
    return True


def write(report, stem):
    """STEM.json, STEM.md and, with matplotlib, STEM.png."""
    stem.with_name(stem.name + ".json").write_text(json.dumps(report, indent=1) + "\n")
    stem.with_name(stem.name + ".md").write_text(markdown(report))
    return plot(report, stem.with_name(stem.name + ".png"))
