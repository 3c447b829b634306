"""Where a benchmark's numbers come from, without the paths of the machine it ran on."""

import pathlib
import sys
from typing import Any

from gorl.runs import facts

KEPT = ("gorl", "created", "python", "versions", "git", "device", "xla_flags")


def provenance() -> dict[str, Any]:
    script = f"experiments/benchmarks/{pathlib.Path(sys.argv[0]).name}"
    known = facts()
    return {"command": ["python", script, *sys.argv[1:]], **{k: known[k] for k in KEPT}}
