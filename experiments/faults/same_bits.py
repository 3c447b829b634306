"""The differences between two runs. There are none if one was interrupted and resumed exactly."""

import json
import pathlib
from typing import Any

import numpy as np

from gorl.runs.checkpoint import CheckpointStore


def record(run: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the lines of the record, without their wall-clock times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "wall_s"} for line in lines]


def stored(run: pathlib.Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns every array of the newest checkpoint by its path, and the hashes of its datasets."""
    store = CheckpointStore(run)
    try:
        number = store.newest()[0]
        return store.stored(number), store.meta(number)["datasets"]
    finally:
        store.close()


def status(run: pathlib.Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text())


def differences(run: pathlib.Path, reference: pathlib.Path) -> list[str]:
    """Returns the differences in status, environment steps, record, datasets and arrays.

    The arrays are those of the newest checkpoint: parameters, and the state of optimizers and normalizers.
    """
    found = [f"status: {a} != {b}" for a, b in [(status(run)["status"], status(reference)["status"])] if a != b]
    found += [
        f"env_steps: {a} != {b}"
        for a, b in [(status(run).get("env_steps"), status(reference).get("env_steps"))]
        if a != b
    ]
    ours, theirs = record(run), record(reference)
    found += [f"record, line {i + 1}: {a} != {b}" for i, (a, b) in enumerate(zip(ours, theirs)) if a != b]
    found += [f"record: {len(ours)} lines != {len(theirs)}"] if len(ours) != len(theirs) else []
    (arrays, datasets), (expected, expected_datasets) = stored(run), stored(reference)
    found += ["datasets"] if datasets != expected_datasets else []
    found += [f"array {path}: on one side only" for path in arrays.keys() ^ expected.keys()]
    return found + [
        f"array {path}" for path in arrays.keys() & expected.keys() if not _same(arrays[path], expected[path])
    ]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
