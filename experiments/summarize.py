"""Summarizes finished runs as one small JSON file with their provenance, and as a table.

    python -m experiments.summarize RUN [RUN ...] --out experiments/results/NAME.json [--names NAME ...] [--add]

`--add` keeps the runs that the file contains already. A run of several seeds gives one entry per seed. An entry has
the command, seed, environment steps, seconds, final returns and evaluation curve. Facts that all runs share (versions,
device, commit) are stored once, and the others with each entry. Prints a Markdown table of means over seeds.
"""

import argparse
import json
import pathlib
import statistics

from gorl.runs.folder import RunFolder
from gorl.runs.record import read

SHARED = ("gorl", "python", "versions", "git", "device", "environment", "precision", "xla_flags")


def result(run: pathlib.Path, name: str | None) -> dict:
    facts = json.loads((run / "run.json").read_text())
    status = json.loads((run / "status.json").read_text())
    curve = [[e.env_steps, round(e.metrics["return"], 2)] for e in read(run / "metrics.jsonl") if e.subset == "eval"]
    command = ["gorl", *facts["command"][1:]]
    if "--run-dir" in command:
        del command[command.index("--run-dir") : command.index("--run-dir") + 2]
    return {
        "facts": facts,
        "study": name or facts["study"],
        "seed": facts["seed"],
        "command": command,
        **status,
        "evaluations": curve,
    }


def known(path: pathlib.Path) -> list[dict]:
    """Returns the entries of a file, each with all of its facts."""
    found = json.loads(path.read_text())
    return [r | {"facts": found["shared"] | r.get("facts", {})} for r in found["runs"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--names", nargs="+", help="the name of each run (default: its configuration's name)")
    parser.add_argument("--add", action="store_true", help="keep the runs that --out contains")
    args = parser.parse_args()
    names = args.names or [None] * len(args.runs)
    results = [
        result(member.path, name)
        for run, name in zip(args.runs, names, strict=True)
        for member in RunFolder.open(run).members
    ]
    results = (known(args.out) if args.add else []) + results
    shared = {
        k: results[0]["facts"][k] for k in SHARED if all(r["facts"].get(k) == results[0]["facts"][k] for r in results)
    }
    for r in results:
        differing = {k: r["facts"][k] for k in SHARED if k not in shared and k in r["facts"]}
        del r["facts"]
        r.update({"facts": differing} if differing else {})
    args.out.write_text(json.dumps({"shared": shared, "runs": results}, indent=1) + "\n")
    print(
        "| configuration | seeds | env steps | untrained | final, best policy (mean over seeds) | each seed |\n"
        "|---|---|---|---|---|---|"
    )
    for study in dict.fromkeys(r["study"] for r in results):
        runs = [r for r in results if r["study"] == study]
        # A seed that diverged early has no final return.
        finals = [r["return_final_best"] for r in runs if "return_final_best" in r]
        untrained = statistics.mean(r["return_untrained"] for r in runs)
        each = ", ".join(f"{x:.0f}" for x in finals)
        print(
            f"| {study} | {len(runs)} | {runs[0]['env_steps']:,} | {untrained:.0f} "
            f"| {statistics.mean(finals):.1f} | {each} |"
        )


if __name__ == "__main__":
    main()
