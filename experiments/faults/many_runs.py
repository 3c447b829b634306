"""Trains many small runs in one process, tracked by Aim, and shows what each of them leaves behind.

    python -m experiments.faults.many_runs [--runs 300] [--out experiments/results/many_runs.json]

After every run the process's open files, watches (inotify), threads, memory mappings and memory are counted.
"""

import argparse
import json
import os
import pathlib
import tempfile
import threading
import time
from typing import Any

import gorl
from gorl.runtime import compilation
from gorl.runtime.quiet import before_imports

FILES = ["ppo.gin", "parts/debug.gin"]
BINDINGS = [
    "Task.environment = @DelayedReward()",
    "Experiment.trackers = [@AimTracker()]",
    "Experiment.pictures = []",
]
LEFT = ("files", "watches", "threads")


def count() -> dict[str, int]:
    """Returns what this process holds now."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # the listing's own
            continue
    status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return {
        "files": len(links),
        "watches": sum("inotify" in link for link in links),
        "threads": threading.active_count(),
        "mappings": compilation.MAPPINGS.read_bytes().count(b"\n"),
        "mib": int(status["VmRSS"].split()[0]) // 1024,
    }


def measure(runs: int, root: pathlib.Path) -> list[dict[str, Any]]:
    """Trains `runs` runs with seeds 0, 1, ... below `root`, and returns the counts after each."""
    found = []
    for seed in range(runs):
        began = time.monotonic()
        bindings = [*BINDINGS, f"SEED = {seed}", f"AimTracker.repo = '{root / 'repo'}'"]
        folder = gorl.train(*FILES, bindings=bindings, run_dir=root / f"run{seed}")
        if folder.status()["status"] != "finished":
            raise RuntimeError(f"run {seed} is {folder.status()}.")
        found.append({**count(), "seconds": round(time.monotonic() - began, 2)})
        compilation.release_programs()
    return found


def growth(found: list[dict[str, Any]]) -> dict[str, int]:
    """Returns how many more files, watches and threads there are after the last run than after the second."""
    return {name: found[-1][name] - found[1][name] for name in LEFT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    before_imports(debug=False)
    with tempfile.TemporaryDirectory() as root:
        found = measure(args.runs, pathlib.Path(root))
        tracked = len(list((pathlib.Path(root) / "repo" / ".aim" / "meta" / "chunks").iterdir()))
    marks = {str(number): found[number - 1] for number in (1, 2, 10, 50, 100, 200, 300) if number <= args.runs}
    seconds = round(sum(run["seconds"] for run in found), 1)
    result = {"runs": args.runs, "in Aim": tracked, "after run": marks, "growth": growth(found), "seconds": seconds}
    text = json.dumps(result, indent=2)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)
    if tracked != args.runs or any(growth(found).values()):
        raise SystemExit("runs are missing in Aim, or left something behind.")


if __name__ == "__main__":
    main()
