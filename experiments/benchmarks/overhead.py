"""Measures what checkpoints, tracking and pictures cost at default settings.

    python -m experiments.benchmarks.overhead --out experiments/results/overhead.json

Runs the quickstart with all of them and without any, as whole processes in turn (with, without, without, with, ...),
after one process that fills the compilation cache. The times are seconds of wall-clock.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from experiments.benchmarks.provenance import provenance

OFF = ("Experiment.trackers = []", "Experiment.pictures = []")
NO_CHECKPOINTS = "from gorl import checkpoint; checkpoint.CheckpointStore.save = lambda *a, **k: None"
COMMANDS = {"with": "pass", "without": NO_CHECKPOINTS}


def seconds(kind: str, work: pathlib.Path, number: int, files: list[str], bindings: list[str]) -> dict:
    run = work / f"{number}-{kind}"
    more = [*bindings, *(OFF if kind == "without" else ())]
    command = ["train", *files, *(x for b in more for x in ("--set", b)), "--run-dir", str(run)]
    program = (
        f"import sys; sys.argv = ['gorl', *sys.argv[1:]]; {COMMANDS[kind]}; from gorl.cli.main import main; main()"
    )
    environment = {**os.environ, "GORL_CACHE": str(work / "cache"), "GORL_AIM_REPO": str(work)}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, *command], env=environment, check=True, stdout=subprocess.DEVNULL)
    took = time.perf_counter() - began
    status = json.loads((run / "status.json").read_text())
    checkpoints = len(list((run / "checkpoints").iterdir()))
    print(f"{kind}: {took:.1f} s", flush=True)
    return {
        "kind": kind,
        "seconds": round(took, 2),
        "pictures_s": status.get("pictures_s"),
        "checkpoints_left": checkpoints,
        "status": status["status"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=["quickstart.gin"])
    parser.add_argument("--set", action="append", default=[], dest="bindings", metavar="BINDING")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each kind")
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gorl-overhead-") as folder:
        work = pathlib.Path(folder)
        warm_up = seconds("with", work, 0, options.files, options.bindings)
        order = [
            kind for i in range(options.rounds) for kind in (("with", "without") if i % 2 == 0 else ("without", "with"))
        ]
        runs = [seconds(kind, work, i + 1, options.files, options.bindings) for i, kind in enumerate(order)]
    medians = {kind: statistics.median(r["seconds"] for r in runs if r["kind"] == kind) for kind in COMMANDS}
    result = {
        **medians,
        "overhead": round(medians["with"] / medians["without"] - 1, 4),
        "runs": runs,
        "warm_up": warm_up,
        "provenance": provenance(),
    }
    print(f"overhead: {result['overhead']:.1%}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
