"""Checks thousands of broken configurations: each must end in one clear message, or be accepted and have an effect.

    python -m experiments.faults.mutants --count 2000 --seed 0 --out experiments/results/mutants.json

Shipped files and command lines are edited at random (`mutations.py`). They are then checked as `gorl check` and the
start of `gorl train` or `gorl sweep` do, up to the first compilation (`verdicts.py`). Every fourth accepted one is
also saved and read back. Prints and writes how many of each kind of edit were refused and accepted, and every defect
with its edit.
"""

import argparse
import collections
import difflib
import json
import pathlib
import shutil
import sys
import tempfile
import time

from experiments.benchmarks.provenance import provenance
from experiments.faults import mutations, verdicts
from experiments.faults.mutations import Mutant
from experiments.faults.verdicts import Verdict


def difference(mutant: Mutant) -> list[str]:
    """Returns the edit, so that it can be repeated."""
    if mutant.edited == "command line":
        return [b[:300] for b in mutant.case.bindings if b not in mutant.original.bindings]
    texts = [
        case.texts[mutant.edited].decode(errors="backslashreplace").split("\n")
        for case in (mutant.original, mutant.case)
    ]
    return [line[:300] for line in difflib.unified_diff(*texts, n=0, lineterm="")][2:20]


def defect(number: int, mutant: Mutant, verdict: Verdict) -> dict:
    """Returns the report of a defect. `number` is the mutant's index among those of the seed."""
    about = {
        "number": number,
        "kind": mutant.kind,
        "files": mutant.case.files,
        "bindings": mutant.original.bindings,
        "edited": mutant.edited,
    }
    return {**about, "difference": difference(mutant), "what": verdict.text[:3000]}


def run(
    count: int, seed: int, seconds: float, folder: pathlib.Path
) -> tuple[dict[str, collections.Counter], list[dict], float]:
    """Returns the outcomes by kind of edit, the defects, and the seconds of the longest check."""
    counts: dict[str, collections.Counter] = {kind: collections.Counter() for kind in mutations.EDITS}
    defects, longest, began = [], 0.0, time.monotonic()
    for i, mutant in enumerate(mutations.mutants(count, seed)):
        start = time.monotonic()
        verdict = verdicts.judge(mutant, folder, seconds=seconds, again=i % 4 == 0)
        longest = max(longest, time.monotonic() - start)
        counts[mutant.kind][verdict.outcome] += 1
        if verdict.outcome == "defect":
            defects.append(defect(i, mutant, verdict))
            print(json.dumps(defects[-1], indent=1, default=str), file=sys.stderr)
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if (i + 1) % 50 == 0:
            print(
                f"{i + 1}/{count} mutants, {len(defects)} defects, {time.monotonic() - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    return counts, defects, longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="the time after which a check counts as hanging")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    out, about = args.out and args.out.absolute(), provenance()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, verdicts.working_in(pathlib.Path(folder)):
        counts, defects, longest = run(args.count, args.seed, args.seconds, pathlib.Path(folder))
    totals = sum(counts.values(), collections.Counter())
    result = {
        "mutants": args.count,
        "seed": args.seed,
        "outcomes": totals,
        "defects": defects,
        "by_kind": counts,
        "longest_check_s": round(longest, 2),
    }
    text = json.dumps({**result, "wall_s": round(time.monotonic() - began, 1), "provenance": about}, indent=2)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
    sys.exit(1 if defects else 0)


if __name__ == "__main__":
    main()
