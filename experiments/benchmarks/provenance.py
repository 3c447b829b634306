"""The provenance of a benchmark's numbers, without the paths of the machine it ran on."""

import pathlib
import sys
from typing import Any

from gorl.runs.provenance import facts

RESULTS = "experiments/results"
KEPT = ("gorl", "created", "python", "versions", "git", "device", "xla_flags")


def provenance() -> dict[str, Any]:
    path = pathlib.Path(sys.argv[0])
    module = f"experiments.{path.parent.name}.{path.stem}"
    # Absolute paths are those of result files, which are stored in RESULTS.
    words = [f"{RESULTS}/{pathlib.Path(w).name}" if pathlib.Path(w).is_absolute() else w for w in sys.argv[1:]]
    known = facts()
    return {"command": ["python", "-m", module, *words], **{k: known[k] for k in KEPT}}
