"""Trackers that fail in every way: the run goes on, says so once, and its record can be handed over whole later."""

import contextlib
import dataclasses
import errno
import gc
import json
import logging
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import PIL.Image
import pytest

from gorl.runs.record import Record, read
from gorl.tracking import aim_repository as repositories, background, imports
from gorl.tracking.aim import AimTracker, AimWriter
from gorl.tracking.tensorboard import TensorBoardTracker, TensorBoardWriter
from tests.support.run_folders import entry, events, info, write

aim = pytest.importorskip("aim")

VALUES = [1 / 3, float("nan"), 13.0, -1e-30]
BROKEN = {"Aim": AimWriter, "TensorBoard": TensorBoardWriter}


@dataclasses.dataclass
class Place:
    """Where a case plays. `stuck` releases what hangs."""

    tracker: str
    target: pathlib.Path  # the repository, or the logs
    monkeypatch: pytest.MonkeyPatch
    stuck: threading.Event

    @property
    def writer(self) -> type:
        return BROKEN[self.tracker]


def raising(error: BaseException) -> Callable:
    def call(*_, **__):
        raise error

    return call


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def fails_in(method: str, error: BaseException) -> Callable:
    """The tracker's own library raises in a step of the writer."""
    return lambda place: place.monkeypatch.setattr(place.writer, method, raising(error))


def hangs_in(method: str) -> Callable:
    return lambda place: place.monkeypatch.setattr(place.writer, method, lambda self, *_: place.stuck.wait(30))


def missing(place: Place) -> None:
    place.monkeypatch.setattr(repositories, "available", lambda: False)


def cannot_be_imported(module: str) -> Callable:
    return lambda place: place.monkeypatch.setitem(sys.modules, module, None)


def is_a_file(place: Place) -> None:
    shutil.rmtree(place.target)
    place.target.write_text("")


def refuses(name: str, call: str) -> Callable:
    """A call of Aim's refuses the value 13."""

    def refuse(place: Place) -> None:
        inner = getattr(aim.Run, call)
        place.monkeypatch.setattr(
            aim.Run,
            call,
            lambda run, value, *a, **k: raising(ValueError(name))() if value == 13.0 else inner(run, value, *a, **k),
        )

    return refuse


def aim_raises_in(call: str) -> Callable:
    return lambda place: place.monkeypatch.setattr(aim.Run, call, raising(RuntimeError(f"in {call}")))


def is_deleted(place: Place) -> None:
    shutil.rmtree(place.target)


@dataclasses.dataclass(frozen=True)
class Case:
    """What breaks `before` the run or `during` it, and what the warning says."""

    trackers: tuple[str, ...]
    says: str
    before: Callable[[Place], None] = lambda place: None
    during: Callable[[Place], None] = lambda place: None


BOTH = ("Aim", "TensorBoard")
TWINS = ("its folder cannot be written", "Aim raises in set", "Aim raises in add_tag", "Aim raises in close")
"""Cases that differ from others in the exception, or in the step of the writer that raises it."""
CASES = {
    "not installed": Case(("Aim",), "Aim is not installed: pip install aim", missing),
    "cannot be imported": Case(("Aim",), "Aim is not installed", cannot_be_imported("aim")),
    "tensorboardX cannot be imported": Case(
        ("TensorBoard",), "import of tensorboardX", cannot_be_imported("tensorboardX.event_file_writer")
    ),
    "a file where its folder should be": Case(BOTH, "(FileExistsError|NotADirectoryError)", is_a_file),
    "its folder cannot be written": Case(
        BOTH, "PermissionError: .*denied", fails_in("open", PermissionError(errno.EACCES, "Permission denied"))
    ),
    "its folder is deleted during the run": Case(BOTH, "FileNotFoundError: .* is gone", during=is_deleted),
    "the disk is full from the start": Case(BOTH, "No space left", fails_in("open", full())),
    "the disk fills up": Case(BOTH, "No space left", during=fails_in("entry", full())),
    "the disk is full when it is flushed": Case(BOTH, "No space left", during=fails_in("flush", full())),
    "the disk is full in the end": Case(BOTH, "No space left", fails_in("finish", full())),
    "a value is refused": Case(("Aim",), "ValueError: not thirteen", refuses("not thirteen", "track")),
    "it ends its thread": Case(BOTH, "SystemExit: 1", during=fails_in("entry", SystemExit(1))),
    "it hangs from the start": Case(BOTH, "written nothing for 0.3 s", hangs_in("open")),
    "a write hangs": Case(BOTH, "written nothing for 0.3 s", during=hangs_in("entry")),
    "its end hangs": Case(BOTH, "written nothing for 0.3 s", hangs_in("finish")),
    **{
        f"Aim raises in {c}": Case(("Aim",), f"RuntimeError: in {c}", aim_raises_in(c))
        for c in ("__init__", "set", "track", "add_tag", "close")
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> pathlib.Path:
    """An empty repository, to be copied: Aim takes a second or more to make one."""
    path = tmp_path_factory.mktemp("made")
    repositories.open_run(path, None, experiment="first").close()
    gc.collect()
    return path


@pytest.fixture(scope="module")
def healthy(tmp_path_factory, made) -> pathlib.Path:
    """Where runs are handed over to afterwards."""
    path = tmp_path_factory.mktemp("healthy")
    shutil.copytree(made / ".aim", path / ".aim")
    return path


@contextlib.contextmanager
def warnings(caplog) -> Iterator[list[str]]:
    """The warnings of the block, as they stand in the end."""
    found: list[str] = []
    caplog.clear()
    with caplog.at_level(logging.WARNING, "gorl"):
        yield found
        found += [r.getMessage() for r in caplog.records if r.name.startswith("gorl")]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start(tracker: str, target: pathlib.Path, folder: pathlib.Path) -> background.Background:
    kinds = {"Aim": lambda: AimTracker(repo=str(target), interval=0.02, experiment=None)}
    kinds["TensorBoard"] = lambda: TensorBoardTracker(root=str(target), interval=0.02)
    return kinds[tracker]().start(info(folder, name=folder.name))


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # Aim's own threads
@pytest.mark.parametrize(
    "tracker, case",
    [
        pytest.param(t, c, id=f"{t}: {name}", marks=[pytest.mark.slow] * (t != c.trackers[0] or name in TWINS))
        for name, c in CASES.items()
        for t in c.trackers
    ],
)
def test_the_run_goes_on_and_loses_nothing(tracker, case, tmp_path, made, healthy, caplog, monkeypatch):
    folder, target, entries = (
        write(tmp_path / tmp_path.name, []),
        tmp_path / "target",
        [entry(i, v) for i, v in enumerate(VALUES)],
    )
    shutil.copytree(made, target)
    place = Place(tracker, target, monkeypatch, threading.Event())
    monkeypatch.setattr(background, "PATIENCE", 0.3)
    monkeypatch.setattr(background, "_PAUSE", 0.01)
    with warnings(caplog) as said, monkeypatch.context() as place.monkeypatch:
        case.before(place)
        record, run = Record(folder / "metrics.jsonl"), start(tracker, target, folder)
        for i, each in enumerate(entries):
            if i == 2:
                wait_for(
                    lambda: run.written > 2 or run.failed or place.stuck.is_set() or case.before is not Case.before
                )
                case.during(place)
            record.log(each)
            run.log(each)
        record.close()
        if "written nothing" not in case.says:
            monkeypatch.setattr(background, "PATIENCE", 30.0)  # a busy machine is no failure
        began = time.monotonic()
        run.close("finished", {})
        assert time.monotonic() - began < 10 and run.failed
        run.log(entries[0])
    place.stuck.set()
    run.thread.join(timeout=10)
    monkeypatch.setattr(background, "PATIENCE", 30.0)
    (warning,) = said
    assert (
        warning.startswith(f"{tracker} tracking stops (") and "the run continues, and its record is complete" in warning
    )
    assert re.search(case.says, warning), warning
    assert f"To import it later: gorl track import {folder}" in warning
    np.testing.assert_equal(
        [dataclasses.asdict(e) for e in read(folder / "metrics.jsonl")], [dataclasses.asdict(e) for e in entries]
    )
    del run
    gc.collect()
    np.testing.assert_array_equal(
        handed_over(tracker, folder, healthy), VALUES if tracker == "Aim" else np.float32(VALUES)
    )


def handed_over(tracker: str, folder: pathlib.Path, healthy: pathlib.Path) -> list[float]:
    """What `gorl track import` makes of the returns."""
    target = imports.to_aim(healthy) if tracker == "Aim" else imports.to_tensorboard(healthy)
    assert imports.import_run(*target, folder) == "imported (finished, 4 entries, 0 pictures)"
    if tracker == "TensorBoard":
        return [v.simple_value for _, v in events(healthy / "study" / folder.name) if v.tag.startswith("return/")]
    run_hash = json.loads((folder / "aim.json").read_text())["hash"]
    (series,) = aim.Repo(str(healthy)).query_metrics(
        f"run.hash == '{run_hash}' and metric.name == 'return'", report_mode=0
    )
    return series.data.numpy()[1][0].tolist()


def test_another_process_that_makes_the_repository_is_not_waited_for_without_end(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(repositories, "_LOCK_TIMEOUT", 0.05)
    (tmp_path / "run").mkdir()
    code = (
        "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / ".aim_init.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with warnings(caplog) as said:
            run = start("Aim", tmp_path, tmp_path / "run")
            run.close("finished", {})
        holder.stdin.close()
    (warning,) = said
    assert "Timeout: The file lock" in warning and run.failed


def test_the_backlog_of_a_tracker_that_hangs_is_bounded(tmp_path, caplog, monkeypatch):
    stuck = threading.Event()
    monkeypatch.setattr(background, "PATIENCE", 0.05)
    monkeypatch.setattr(background, "BACKLOG", 5)
    monkeypatch.setattr(TensorBoardWriter, "entry", lambda *_: stuck.wait(30))
    with warnings(caplog) as said:
        run = start("TensorBoard", tmp_path, tmp_path)
        wait_for(lambda: run.log(entry(1, 1.0)) or run.failed)
        began = time.monotonic()
        run.close("finished", {})
        assert time.monotonic() - began < 5
    assert len(said) == 1 and "it has written nothing for 0.07 s" in said[0]
    stuck.set()


def test_a_tracker_that_is_slow_is_waited_for_while_it_writes(tmp_path, caplog, monkeypatch):
    """Longer in all than the patience with one write."""
    monkeypatch.setattr(background, "PATIENCE", 1.0)
    seen = []
    monkeypatch.setattr(TensorBoardWriter, "entry", lambda self, e: time.sleep(0.4) or seen.append(e.unit))
    with warnings(caplog) as said:
        run = start("TensorBoard", tmp_path, tmp_path)
        for i in range(5):
            run.log(entry(i, 1.0))
        run.close("finished", {})
    assert seen == list(range(5)) and said == [] and not run.failed


@pytest.mark.parametrize("tracker", BOTH)
def test_a_failure_that_passes_is_nothing_to_speak_of(tracker, tmp_path, made, caplog, monkeypatch):
    folder, target = write(tmp_path / "run", [1.0]), tmp_path / "target"
    shutil.copytree(made, target)
    monkeypatch.setattr(background, "_PAUSE", 0.01)
    inner, left = BROKEN[tracker].entry, [full(), full()]
    monkeypatch.setattr(BROKEN[tracker], "entry", lambda self, e: raising(left.pop())() if left else inner(self, e))
    with warnings(caplog) as said:
        run = start(tracker, target, folder)
        run.log(entry(1, 1.0))
        run.close("finished", {})
    assert said == [] and not run.failed and not left


@pytest.mark.parametrize("tracker", BOTH)
def test_a_picture_that_cannot_be_read_costs_only_itself(tracker, tmp_path, made, caplog, monkeypatch):
    folder, target = write(tmp_path / "run", [1.0]), tmp_path / "target"
    shutil.copytree(made, target)
    monkeypatch.setattr(background, "_PAUSE", 0.01)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "good.png")
    with warnings(caplog) as said:
        run = start(tracker, target, folder)
        for name in ("bad", "gone", "good"):
            run.picture(tmp_path / f"{name}.png", name, 100, 1, name)
        run.log(entry(1, 2.5))
        run.close("finished", {})
    assert len(said) == 1 and "tracking skips pictures that fail (UnidentifiedImageError" in said[0] and not run.failed
    del run
    gc.collect()
    if tracker == "Aim":
        (series,) = aim.Repo(str(target)).query_metrics("metric.name == 'return'", report_mode=0)
        assert series.data.numpy()[1][0].tolist() == [2.5]
        assert [i.name for i in aim.Repo(str(target)).query_images("images.name != ''", report_mode=0)] == ["good"]
