"""Draws what `mea convert IN --profile-layers TEXT --report FILE` measured (MEA paper, figure 8, keys and values apart):
what the loss rises by when one layer alone keeps so many component heads. Wants matplotlib.

usage: plot_profile.py PROFILE.json OUT.png"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FLOOR = 1e-4  # nats per token: below, a difference is the noise of measuring


def main(profile_file, image_file):
    report = json.loads(Path(profile_file).read_text())
    entries = report["profile"]
    layers, heads = sorted({e["layer"] for e in entries}), sorted({e["heads"] for e in entries})
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    colours = plt.get_cmap("viridis")
    for axis, kind in zip(axes, ("keys", "values")):
        for i, count in enumerate(heads):
            rise = {e["layer"]: e["loss_increase"] for e in entries if e["of"] == kind and e["heads"] == count}
            line = [(layer, max(FLOOR, rise[layer])) for layer in layers if layer in rise]
            colour = colours(i / max(1, len(heads) - 1) * 0.92)
            axis.plot(*zip(*line), marker="o", markersize=4, linewidth=1.5, color=colour, label=str(count), clip_on=False)
        axis.set(title=f"{kind} of one layer composed", xlabel="layer", yscale="log")
        axis.set_xticks(layers[:: max(1, len(layers) // 16)])
        axis.grid(axis="y", color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylim(bottom=FLOOR)
    axes[0].set_ylabel(f"loss increase, nats per token\n({FLOOR:g} and less at the foot)")
    handles, labels = axes[0].get_legend_handles_labels()
    title = f"component heads\nof {report['kv_heads']}"
    figure.legend(handles, labels, title=title, loc="outside right center", frameon=False)
    figure.savefig(image_file, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
