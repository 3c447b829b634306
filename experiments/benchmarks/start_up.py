"""Measures the time from the end of imports to the first training step, for a first start and for later ones.

    python -m experiments.benchmarks.start_up quickstart.gin --repeats 3

The first start has an empty compilation cache, and the others find it filled. `imports_s`, which includes the
simulator's imports, is reported separately, and so are the times for tracing, lowering, and compiling or loading.
Prints JSON.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ONE_ITERATION = [
    "Experiment.stages = [@stage0/Stage()]",
    "stage0/Stage.phases = [@ImprovePolicy()]",
    "WARMUP_STEPS = 1",
]


def start(files: list[str], folder: pathlib.Path, cache: pathlib.Path) -> dict:
    sets = [x for binding in ONE_ITERATION for x in ("--set", binding)]
    command = [sys.executable, "-m", "gorl.cli.main", "train", *files, *sets, "--no-aim", "--run-dir", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "GORL_CACHE": str(cache)})
    status = json.loads((folder / "status.json").read_text())
    return {**status["start_up"], "imports_s": json.loads((folder / "run.json").read_text())["imports_s"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        starts = [
            start(args.files, pathlib.Path(root) / f"run{i}", pathlib.Path(root) / "cache")
            for i in range(1 + args.repeats)
        ]
        facts = json.loads((pathlib.Path(root) / "run0" / "run.json").read_text())
    cold, warm = starts[0], starts[1:]
    median = sorted(s["first_training_step_s"] for s in warm)[len(warm) // 2]
    ratio = round(cold["first_training_step_s"] / median, 2)
    keep = ("gorl", "versions", "git", "device", "environment", "python")
    print(
        json.dumps(
            {"cold": cold, "warm": warm, "cold_over_warm_median": ratio, "facts": {k: facts[k] for k in keep}}, indent=2
        )
    )


if __name__ == "__main__":
    main()
