"""Draws what `mea convert IN --profile-layers TEXT --report FILE` measured (MEA paper, figure 8, keys and values apart):
loss increase over layers, one line per number of component heads. Wants matplotlib.

usage: plot_profile.py PROFILE.json OUT.png"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main(profile_file, image_file):
    report = json.loads(Path(profile_file).read_text())
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for axis, kind in zip(axes, ("keys", "values")):
        entries = [entry for entry in report["profile"] if entry["of"] == kind]
        for heads in sorted({entry["heads"] for entry in entries}):
            line = sorted((e["layer"], e["loss_increase"]) for e in entries if e["heads"] == heads)
            axis.plot(*zip(*line), marker="o", label=f"{heads} of {report['kv_heads']}")
        axis.set(title=f"{kind}, {report['method']}", xlabel="layer composed alone")
        axis.set_yscale("symlog", linthresh=1e-3)
        axis.legend(title="component heads")
    axes[0].set_ylabel("loss increase, nats per token")
    figure.tight_layout()
    figure.savefig(image_file, dpi=120)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
