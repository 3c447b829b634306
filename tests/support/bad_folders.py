"""Run folders as crashes, other programs and people leave them."""

import json
import pathlib
import shutil
from collections.abc import Callable

from gorl import config
from gorl.runs.beginning import begin
from gorl.runs.record import Record, RecordEntry

FILES = ["ppo.gin", "parts/debug.gin"]
BINDINGS = ["Task.environment = @Slider()", "EPISODE_LENGTH = 20", "Experiment.trackers = []"]


def make(folder: pathlib.Path) -> pathlib.Path:
    """A run as it is before its first checkpoint, with a record of two entries, and said to be finished."""
    run = begin(config.build(FILES, BINDINGS), folder, study="ppo")
    run.set_status("finished")
    record = Record(run.record_path)
    metrics = {"return": 5.0, "return_std": 1.0, "return_min": 4.0, "return_max": 6.0}
    for unit in range(3):
        record.log(
            RecordEntry(unit, 0, "ImprovePolicy", "evaluate", "eval", "env_steps", 240 * unit, 1.0 + unit, metrics)
        )
    record.close()
    (folder / "checkpoints").mkdir()
    return folder


def _write(name: str, content: bytes) -> Callable[[pathlib.Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def _remove(name: str) -> Callable[[pathlib.Path], None]:
    def damage(folder: pathlib.Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def _folder(name: str) -> Callable[[pathlib.Path], None]:
    def damage(folder: pathlib.Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return damage


def _cut(name: str) -> Callable[[pathlib.Path], None]:
    def damage(folder: pathlib.Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return damage


def _facts(**changes: object) -> Callable[[pathlib.Path], None]:
    """run.json with other values; without those that are None."""

    def damage(folder: pathlib.Path) -> None:
        known = {**json.loads((folder / "run.json").read_text()), **changes}
        (folder / "run.json").write_text(json.dumps({k: v for k, v in known.items() if v is not None}))

    return damage


def _middle_line(line: bytes) -> Callable[[pathlib.Path], None]:
    """Another second line in the record."""

    def damage(folder: pathlib.Path) -> None:
        first, _, *rest = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        (folder / "metrics.jsonl").write_bytes(b"".join([first, line + b"\n", *rest]))

    return damage


def _file_for_folder(name: str) -> Callable[[pathlib.Path], None]:
    def damage(folder: pathlib.Path) -> None:
        if (folder / name).is_dir():
            (folder / name).rmdir()
        (folder / name).write_text("what is this")

    return damage


RUN_FILES = ("run.json", "status.json", "config.gin", "operative_config.gin", "metrics.jsonl")
DAMAGES: dict[str, Callable[[pathlib.Path], None]] = {
    "none": lambda folder: None,
    **{f"{name} {how}": damage(name) for name in RUN_FILES
       for how, damage in (("missing", _remove), ("cut", _cut), ("a folder", _folder))},
    **{f"{name} {how}": _write(name, content) for name in RUN_FILES
       for how, content in (("empty", b""), ("binary", b"\x00\xff\xfe\x93NUMPY"), ("a list", b"[]\n"),
                            ("null", b"null\n"), ("{}", b"{}\n"))},
    "another format": _facts(format=999),
    "a format in words": _facts(format="two"),
    **{f"no {name}": _facts(**{name: None})
       for name in ("seed", "plugins", "versions", "device", "environment", "study", "name")},
    "members in words": _facts(members="seed0"),
    "members that are not there": _facts(members=["seed0", "seed1"]),
    "members that are numbers": _facts(members=[0, 1]),
    "members elsewhere": _facts(members=["../../elsewhere"]),
    "plugins that are gone": _facts(plugins=["no_such_plugin"]),
    "plugins in words": _facts(plugins=3),
    "a seed in words": _facts(seed="zero"),
    **{f"a record with the line {line!r}": _middle_line(line)
       for line in (b"{torn", b"[]", b"{}", b"null", b"\xff\x00", b'{"metrics": {"return": "x"}}', b"")},
    "checkpoints a file": _file_for_folder("checkpoints"),
    "artifacts a file": _file_for_folder("artifacts"),
    "checkpoints missing": _remove("checkpoints"),
}  # fmt: skip
