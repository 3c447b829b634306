"""Run folders as training leaves them, written by hand."""

import json
import pathlib

from gorl import runs
from gorl.runs.record import Record, RecordEntry
from gorl.tracking.base import RunInfo

CONFIG = "SEED = 3\nKL = 0.1\n\nClip:\n  epsilon = 0.2\n\nstage0/LatentKL:\n  coefficient = %KL\n\nTask:\n  environment = @Slider()\n  episode_length = 50\n"
FACTS = {"gorl": "0", "format": runs.FORMAT, "environment": {"name": "Slider", "impl": "jax"}}


def entry(unit: int, value: float, subset: str = "eval") -> RecordEntry:
    return RecordEntry(
        unit,
        1,
        "ImprovePolicy",
        "evaluate",
        subset,
        "env_steps",
        100 * unit,
        0.5 * unit,
        {"return": value, "loss/value": 1.0},
    )


def info(folder: pathlib.Path, **more) -> RunInfo:
    tree = {"macros": {"SEED": 3}, "gin": {"Clip": {"epsilon": 0.2}, "Task": {"episode_length": 50}}}
    known = dict(name="run-1", study="study", variant="slow", axes={"KL": "0.1", "decoder": "spline"}, seed=3)
    return RunInfo(
        **{
            "folder": str(folder),
            **known,
            "parameters": tree,
            "config": CONFIG,
            "facts": FACTS,
            "resumed": False,
            **more,
        }
    )


def write(
    folder: pathlib.Path, values, *, seed: int = 3, status: dict | None = None, picture: bytes | None = None, **facts
) -> pathlib.Path:
    """A run of one seed whose evaluations gave `values`."""
    folder.mkdir(parents=True)
    known = {"name": folder.name, "study": "study", "variant": "slow", "axes": {"KL": "0.1"}, "seed": seed}
    (folder / "run.json").write_text(json.dumps({**FACTS, **known, **facts}))
    (folder / "operative_config.gin").write_text(CONFIG)
    record = Record(folder / "metrics.jsonl")
    for i, value in enumerate(values, 1):
        record.log(entry(i, value))
    record.close()
    (folder / "status.json").write_text(json.dumps(status or {"status": "finished"}))
    if picture is not None:
        (folder / "pictures").mkdir()
        (folder / "pictures" / "stage1-ActionDensity.png").write_bytes(picture)
    return folder


def events(folder):
    """[(step, value)] of an event file: records of length (8 bytes), checksum (4), data, checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            found += [(event.step, value) for value in event.summary.value]
            at += size + 16
    return found
