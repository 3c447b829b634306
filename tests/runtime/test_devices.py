"""Many devices: eight of one process, and two processes, compute what one device computes."""

import json
import os
import shutil
import socket
import subprocess
import sys

import equinox as eqx
import jax
import numpy as np
import pytest

from gorl import config
from gorl.errors import ConfigError
from gorl.runtime import devices, hosts
from gorl.training import trained
from tests.support import commands
from tests.support.on_devices import FILES, difference, small

FRESH = [*FILES, *(w for b in small() for w in ("--set", b))]
ROUNDING = 2e-4  # of sums in another order, after an iteration or a fit


def start(root, *words, count=1, **more):
    """A process of `count` devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "GORL_CACHE": str(root / "cache"), "XLA_FLAGS": flags}
    env |= {"PYTHONPATH": str(commands.ROOT), **more}
    return subprocess.Popen(
        [sys.executable, *map(str, words)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def train(root, *words, **more):
    return start(root, "-m", "gorl.cli.main", "train", *words, "--no-aim", **more)


def finish(*processes):
    outputs = [p.communicate(timeout=300)[0] for p in processes]
    assert all(p.returncode == 0 for p in processes), "\n".join(outputs)
    return outputs


def in_two(root, *words):
    """The same command in two processes of one device."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    return finish(
        *(train(root, *words, GORL_COORDINATOR=address, GORL_PROCESSES="2", GORL_PROCESS=str(i)) for i in range(2))
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Runs of the same experiment that changed the number of devices after their first stage."""
    root = tmp_path_factory.mktemp("devices")
    finish(
        train(root, *FRESH, "--run-dir", root / "one", "--stages", 1),
        start(root, "-m", "tests.support.on_devices", root, count=8),
    )
    for name in ("one", "eight"):
        shutil.copytree(root / name, root / f"{name}_then")
    finish(train(root, "--resume", root / "one_then", count=8), train(root, "--resume", root / "eight_then"))
    return root


@pytest.fixture(scope="module")
def found(root):
    return json.loads((root / "found.json").read_text())


@pytest.fixture(scope="module")
def two(root):
    """What the two said, in their first stage and after it."""
    return in_two(root, *FRESH, "--run-dir", root / "two", "--stages", 1), in_two(root, "--resume", root / "two")


def arrays(folder):
    return [np.asarray(x) for x in jax.tree.leaves(eqx.filter(trained.restore(folder)[1], eqx.is_inexact_array))]


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_an_iteration_on_eight_devices_is_that_of_one(root):
    """Policy, critic, normalizers and optimizer; and the best policy by evaluation."""
    assert difference(arrays(root / "eight"), arrays(root / "one")) < ROUNDING
    experiment = config.build([str(root / "one" / "config.gin")]).experiment
    step = next(iter(experiment.planned_phases()))
    run = experiment.initial_state(experiment.seed)
    first = step.declaration.start(experiment.context(step), run).training.learner
    assert (
        difference(first, trained.restore(root / "one")[1].learner) > 10 * ROUNDING
    )  # so there was something to compare


def test_lanes_are_shared_out_and_the_learner_is_everywhere(found):
    assert found["where"]  # after the iteration, and when a checkpoint was made
    for seen in found["where"]:
        assert seen == {"devices": 8, "rows_on_each": [2] * 8, "clock": "P(None, 'lanes')", "learner_everywhere": True}


@pytest.mark.slow
def test_an_iteration_of_sac_with_two_seeds(tmp_path):
    finish(start(tmp_path, "-m", "tests.support.on_devices", tmp_path, "sac", count=8))
    found = json.loads((tmp_path / "sac.json").read_text())
    assert found["difference"] < ROUNDING < 10 * ROUNDING < found["moved"]
    assert found["where"] == {
        "devices": 8,
        "rows_on_each": [1] * 8,
        "clock": "P(None, 'lanes')",
        "learner_everywhere": True,
    }


def test_a_run_goes_on_with_another_number_of_devices(root):
    """From 8 to 1, and from 1 to 8: the same experiment, to rounding."""
    used = {name: json.loads((root / name / "run.json").read_text())["devices"] for name in ("one", "eight")}
    assert used == {"one": {"used": 1, "processes": 1}, "eight": {"used": 8, "processes": 1}}
    for name in ("eight_then", "one_then"):
        assert json.loads((root / name / "status.json").read_text())["status"] == "finished"
    assert [x["kind"] for x in lines(root / "one_then")] == [x["kind"] for x in lines(root / "eight_then")]
    assert difference(arrays(root / "eight_then"), arrays(root / "one_then")) < ROUNDING
    for a, b in zip(lines(root / "one_then"), lines(root / "eight_then"), strict=True):
        for name in {"return", "loss/policy", "loss/decoder", "loss/decoder_validation"} & a["metrics"].keys():
            assert float(a["metrics"][name]) == pytest.approx(float(b["metrics"][name]), rel=1e-3, abs=1e-4), (
                a["kind"],
                name,
            )


@pytest.mark.slow
def test_two_processes_train_as_one_does(root, two):
    (begun, followed), (resumed, _) = two
    assert "cpu x 2 in 2 processes" in begun and "paused" in begun and "finished" in resumed
    assert "stage 1" not in followed  # the other says nothing
    assert json.loads((root / "two" / "run.json").read_text())["devices"] == {"used": 2, "processes": 2}
    assert [(x["unit"], x["kind"]) for x in lines(root / "two")] == [
        (x["unit"], x["kind"]) for x in lines(root / "one_then")
    ]
    assert difference(arrays(root / "two"), arrays(root / "one_then")) < ROUNDING


def test_lanes_that_cannot_be_shared_evenly_are_refused_before_anything_is_traced(found):
    message, traces = found["indivisible"]
    assert message.startswith(
        "stage 0, phase 0 (ImprovePolicy): OnPolicy.num_envs = 12 lanes cannot be shared evenly by 8 devices."
    )
    assert "a multiple of 8" in message and "there are 6" in message and traces == {}
    with pytest.raises(
        ConfigError, match="OnPolicy.num_envs = 16 lanes cannot be shared evenly by 3 devices"
    ):  # needs no device to be known
        config.build(FILES, small("Experiment.devices = 3"))


def test_more_devices_than_there_are_are_refused(found):
    message, traces = found["too_many"]
    assert (
        message == "Experiment.devices = 9, but there are 8 cpu devices here. Lower it; None takes all of them."
        and traces == {}
    )
    assert found["used"] == {"some": 4, "all": 8, "on_host": 1}
    with pytest.raises(ConfigError, match="must be >= 1"):
        config.build(FILES, small("Experiment.devices = -1"))


def test_physics_on_the_host_stays_on_one_device(found):
    message, traces = found["on_host_asked"]
    assert traces == {} and message.startswith(
        "Experiment.devices = 2 on 1 processes: the physics of OnHost runs on one device"
    )


def test_on_one_device_nothing_is_placed():
    experiment = config.build(FILES, small()).experiment
    tree = {"x": np.ones((1, 8)), "name": "n"}
    with devices.on(experiment.choose_devices()):
        assert devices.mesh() is None
        assert devices.place(tree) is tree and devices.gather(tree) is tree and devices.constrain(tree) is tree
        assert devices.shard(tree) is tree and devices.replicate(tree) is tree
    assert (hosts.process_count(), hosts.is_primary(), hosts.all_max(7), hosts.broadcast([1])) == (1, True, 7, [1])


@pytest.mark.parametrize(
    "env, message",
    [
        ({"GORL_PROCESSES": "2"}, "GORL_PROCESSES is set, but not GORL_COORDINATOR, GORL_PROCESS"),
        (
            {"GORL_COORDINATOR": "a:1", "GORL_PROCESSES": "two", "GORL_PROCESS": "0"},
            "GORL_PROCESSES = 'two': it must be a whole number",
        ),
        (
            {"GORL_COORDINATOR": "a:1", "GORL_PROCESSES": "2", "GORL_PROCESS": "2"},
            "GORL_PROCESS = 2: it must be between 0 and 1",
        ),
    ],
)
def test_half_a_declaration_of_processes_is_refused(env, message, monkeypatch):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        hosts.initialize()
