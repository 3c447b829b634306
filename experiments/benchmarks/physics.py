"""Measures environment steps per second of MuJoCo's native engine and of MJX, with random actions.

    python -m experiments.benchmarks.physics --out experiments/results/physics.json

This is `gorl bench physics` over several tasks. The implementations take turns in one process, and the numbers are
medians over rounds, without compilation. `load_per_core` is the number of runnable processes per core: above 1 the
machine was shared, and only ratios are meaningful.
"""

import argparse
import json
import pathlib

from experiments.benchmarks.provenance import provenance
from gorl.environments import speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["CheetahRun", "HopperStand"])
    parser.add_argument("--impl", nargs="+", default=["native", "jax"])
    parser.add_argument("--envs", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    results = []
    for task in args.tasks:
        found = speed.compare_implementations(task, args.impl, speed.Setting(args.envs, args.steps, args.rounds))
        print(
            f"{task}: "
            + ", ".join(
                f"{s.impl} {s.env_steps_per_s:,.0f} env steps/s (start {s.start_s:.0f} s)" for s in found.speeds
            ),
            flush=True,
        )
        results.append(found.as_json())
    if args.out:
        shared = any(r["load_per_core"] > 1.25 for r in results)
        note = "other programs were running: the ratios are more reliable than the absolute numbers" if shared else ""
        args.out.write_text(json.dumps({**provenance(), "note": note, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
