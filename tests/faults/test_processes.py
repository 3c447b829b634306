"""Signals, clocks, other machines and other versions, each with a real process or a real run."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from experiments.faults import same_bits
from gorl import runs
from gorl.errors import RunError
from tests.support import toy_runs


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def resume(run: pathlib.Path, cache: pathlib.Path, **environment: str) -> subprocess.Popen:
    env = {**os.environ, "GORL_CACHE": str(cache), "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-m", "gorl.cli.main", "train", "--resume", str(run), "--no-aim"]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_units(run: pathlib.Path, count: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.002)
    raise AssertionError(
        f"there were never {count} units: {process.communicate()[0] if process.poll() is not None else 'it hangs'}"
    )


def test_stopped_ended_and_gone_on_with(sound, cache, tmp_path):
    """SIGSTOP and SIGCONT do nothing; SIGTERM saves within a unit and has its own exit code. The end is the same."""
    run = tmp_path / "run"
    toy_runs.begin(run)
    process = resume(run, cache)
    wait_for_units(run, 1, process)
    process.send_signal(signal.SIGSTOP)
    before = (run / "metrics.jsonl").read_bytes()
    time.sleep(0.5)
    assert (run / "metrics.jsonl").read_bytes() == before
    process.send_signal(signal.SIGCONT)
    wait_for_units(run, 3, process)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and time.monotonic() - began < 20
    assert f"gorl train --resume {run}" in output and same_bits.status(run)["status"] == "interrupted"
    assert toy_runs.go_on(run).status == "finished"
    assert same_bits.differences(run, sound) == []


def test_other_versions_and_another_device_count_are_named(crashed, sound, cache, tmp_path):
    run = shutil.copytree(crashed, tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    facts["gorl"], facts["versions"]["optax"] = "0.0.1", "0.1.0"
    (run / "run.json").write_text(json.dumps(facts))
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    process = resume(run, cache, XLA_FLAGS=flags)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "resumes from the same state, but perhaps not bit for bit" in output
    assert (
        "gorl 0.0.1 ->" in output and "optax 0.1.0 ->" in output and "'count': 1" in output and "'count': 2" in output
    )
    assert same_bits.status(run)["env_steps"] == same_bits.status(sound)["env_steps"]
    assert len(same_bits.record(run)) == len(same_bits.record(sound))


def test_a_clock_that_jumps_back(sound, tmp_path, monkeypatch):
    """The time of day is no part of a run: only its seconds of training are, which never fall."""
    now = [time.time()]

    def earlier():
        now[0] -= 86_400
        return now[0]

    monkeypatch.setattr(time, "time", earlier)
    run = tmp_path / "run"
    toy_runs.begin(run)
    with pytest.raises(toy_runs.Crash):
        toy_runs.go_on(run, units=9)
    assert toy_runs.go_on(run).status == "finished"
    assert same_bits.differences(run, sound) == []
    seconds = [json.loads(line)["wall_s"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert seconds == sorted(seconds) and seconds[0] >= 0


def test_two_runs_begun_in_the_same_second_have_two_folders(tmp_path, monkeypatch):
    first = runs.new_path(tmp_path, "run")
    monkeypatch.setattr(
        runs.folder.datetime, "datetime", type("Frozen", (), {"now": staticmethod(lambda: _Stamp(first.name[4:]))})
    )
    second = runs.new_path(tmp_path, "run")
    assert [p.name for p in (second, runs.new_path(tmp_path, "run"))] == [f"{first.name}-2", f"{first.name}-3"]


def test_a_folder_is_the_run_s_that_claims_it_first(tmp_path):
    """Both have seen that it is empty."""
    first = runs.RunFolder.create(tmp_path / "run")
    with pytest.raises(RunError, match="run exists and is not empty"):
        runs.RunFolder.create(first.path)
    (tmp_path / "made").mkdir()
    assert runs.RunFolder.create(tmp_path / "made").path == tmp_path / "made"


class _Stamp(str):
    def strftime(self, _: str) -> str:
        return str(self)


STUCK = """
import pathlib, sys, time
import jax
from gorl.runtime import signals, streams
from gorl.training import trainer
from tests.support import toy_runs

def run(self):
    loop = jax.jit(lambda x: jax.lax.while_loop(lambda x: x > 0, lambda x: x + 1, x)).lower(1.0).compile()
    print("compiling", flush=True)
    loop(1.0).block_until_ready()

signals.own_process()
trainer.Trainer.run = run
toy_runs.go_on(pathlib.Path(sys.argv[1]))
"""


def test_a_second_ctrl_c_leaves_at_once(tmp_path):
    toy_runs.begin(tmp_path / "run")
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    command = [sys.executable, "-c", STUCK, str(tmp_path / "run")]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "compiling\n"
    process.send_signal(signal.SIGINT)
    assert "gorl: Ctrl-C: the run saves its state and ends once its unit is done" in process.stderr.readline()
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said
    assert said == f"interrupted at once: {tmp_path}/run\nresume:    gorl train --resume {tmp_path}/run\n"
    assert same_bits.status(tmp_path / "run")["status"] == "interrupted"
