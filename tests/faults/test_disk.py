"""A disk that is full or read-only: the run ends with one line of advice, and goes on from there with the same bits."""

import builtins
import contextlib
import errno
import os
import resource
import shutil
import subprocess

import jax
import pytest

from experiments.faults import same_bits
from gorl import runs
from gorl.runs import checkpoint, files, record
from gorl.runs.checkpoint import CheckpointStore
from gorl.training import trained
from tests.support.toy_runs import begin, error_of, go_on, warnings


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def no_file_beyond(size: int):
    """As the system's own refusal in the middle of a file, also in Orbax's C++ code."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def replaced(owner, name, action, *, after: int = 0):
    """`owner.name` does `action` instead, from the call number `after` on."""
    original, calls = getattr(owner, name), []

    def call(*arguments, **named):
        calls.append(None)
        return (action if len(calls) > after else original)(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, call)
        yield


class FullFile:
    """A file on a full disk: of what is written half is taken, then nothing."""

    def __init__(self, file):
        self._file, self._taken = file, False

    def write(self, data):
        if self._taken:
            full()
        self._taken = True
        return self._file.write(data[: len(data) // 2])

    def __getattr__(self, name):
        return getattr(self._file, name)


def opened_full(path, mode="rb", **options):
    return FullFile(builtins.open(path, mode, **options)) if mode == "ab" else builtins.open(path, mode)


# What fails, and what the run's end then names.
FAULTS = {
    "arrays": (lambda: no_file_beyond(2000), "cannot write checkpoint"),
    "orbax": (lambda: replaced(CheckpointStore, "_save", full), "cannot write checkpoint"),
    "dataset": (lambda: replaced(checkpoint.np, "savez", full), "cannot write checkpoint"),
    "line": (lambda: patched_open(record), "cannot write metrics.jsonl"),
}


@contextlib.contextmanager
def patched_open(module):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open_plain", opened_full)
        yield


@pytest.mark.parametrize("fault, named", FAULTS.values(), ids=FAULTS)
def test_a_full_disk_ends_the_run_and_loses_nothing(fault, named, sound, tmp_path):
    run = tmp_path / "run"
    begin(run)
    with fault():
        message = error_of(lambda: go_on(run))
    assert message.startswith(named) and f"gorl train --resume {run}" in message and "\n" not in message
    assert any(text in message for text in ("No space left on device", "File too large"))
    assert runs.RunFolder(run).status()["status"] == "failed"
    assert go_on(run).status == "finished"
    assert same_bits.differences(run, sound) == []
    assert list(run.rglob("*.part*")) == []


def test_nothing_can_be_written_any_more_and_the_status_neither(sound, tmp_path, caplog):
    run = tmp_path / "run"
    begin(run)
    with replaced(files.os, "fsync", full, after=8):
        assert "No space left on device" in error_of(lambda: go_on(run))
    assert any("cannot write status.json" in w and "No space left" in w for w in warnings(caplog))
    assert go_on(run).status == "finished"
    assert same_bits.differences(run, sound) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 160 kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full(small_disk, sound, tmp_path):
    run = small_disk / "run"
    begin(run)
    message = error_of(lambda: go_on(run))
    assert "No space left on device" in message and message.startswith("cannot write")
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    assert go_on(run).status == "finished"
    assert same_bits.differences(run, sound) == []


def test_a_read_only_folder(small_disk, crashed):
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    run = shutil.copytree(crashed, small_disk / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    try:
        assert "Read-only file system" in error_of(lambda: go_on(run))
        assert "Read-only file system" in error_of(lambda: begin(small_disk / "other"))
        assert trained.load(run).act([0.0, 0.0], key=jax.random.key(0)).shape == (1,)  # reading needs no writing
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
