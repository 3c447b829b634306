"""Plots the evaluation return against environment steps, from the records of runs.

    python -m experiments.plot_run RUN [RUN ...] --out curve.png [--names NAME ...]

Runs of the same name (by default their configuration's) have the same color. A run of several seeds is drawn as one
curve per seed. The stages of the first run are shaded. For means over seeds and comparisons, use `gorl report`.
"""

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from gorl.runs.folder import RunFolder
from gorl.runs.record import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--names", nargs="+")
    args = parser.parse_args()
    groups = [RunFolder.open(run) for run in args.runs]
    names = args.names or [group.facts()["study"] for group in groups]
    members = [(name, member.path) for name, group in zip(names, groups, strict=True) for member in group.members]
    figure, axes = plt.subplots(figsize=(8, 4), dpi=120)
    colors: dict[str, str] = {}
    for name, run in members:
        facts = json.loads((run / "run.json").read_text())
        entries = [e for e in read(run / "metrics.jsonl")]
        points = [(e.env_steps / 1e6, e.metrics["return"]) for e in entries if e.subset == "eval"]
        new = name not in colors
        color = colors.setdefault(name, f"C{len(colors)}")
        axes.plot(*zip(*points), color=color, marker=".", markersize=4, linewidth=1.2, label=name if new else None)
    _shade_stages(axes, list(read(members[0][1] / "metrics.jsonl")))
    axes.set(xlabel="environment steps (millions, collection included)", ylabel="return (128 fresh episodes)")
    axes.set_title(f"{facts['environment']['name']}: {len(members)} runs", fontsize=10)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(args.out)


def _shade_stages(axes, entries) -> None:
    for stage in sorted({e.stage for e in entries}):
        steps = [e.env_steps / 1e6 for e in entries if e.stage == stage]
        axes.axvspan(
            min(steps) if stage else 0.0, max(steps), color="0.5", alpha=0.06 if stage % 2 else 0.14, linewidth=0
        )
        axes.text(
            (min(steps) + max(steps)) / 2,
            0.02,
            f"stage {stage}",
            transform=axes.get_xaxis_transform(),
            ha="center",
            fontsize=8,
            color="0.35",
        )


if __name__ == "__main__":
    main()
