"""gorl inspect: what a run's folder holds, and a run that diverged from beginning to end."""

import json
import math
import shutil
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl.analysis import inspection
from gorl.errors import RunError
from gorl.runs.checkpoint import CheckpointStore
from gorl.runs.folder import RunFolder
from gorl.runs.provenance import FORMAT
from gorl.runs.record import Record, RecordEntry
from gorl.runtime import seeds
from gorl.state import Dataset, Episodes, Snapshot
from gorl.training import trained
from tests.support import commands
from tests.support.commands import gorl

DEBUG = ["ppo.gin", "parts/debug.gin"]


@pytest.fixture(autouse=True)
def hundred_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("gorl.runtime.compilation.use_persistent_cache", lambda: None)  # for good, it would be


class Layer(eqx.Module):
    weight: jax.Array
    bias: jax.Array


class State(eqx.Module):
    best: Snapshot
    training: Any
    data: Dataset


def a_state(bad=None):
    """A state [S = 1, ...] as in the middle of a phase.

    `bad` is put at weight[1, 2] of the second layer, and -inf at its bias[0].
    """
    layers = [Layer(jnp.full((3, 4), 0.5), jnp.full((4,), -2.0)) for _ in range(2)]
    if bad is not None:
        layers[1] = Layer(layers[1].weight.at[1, 2].set(bad), layers[1].bias.at[0].set(-jnp.inf))
    training = {
        "learner": {"policy": layers, "count": jnp.asarray(7)},
        "lanes": {"key": jax.random.key(0), "done": jnp.ones((2,), bool)},
    }
    best = Snapshot({"w": jnp.zeros((2,))}, jnp.asarray(-jnp.inf, jnp.float32), jnp.asarray(0))
    four = jnp.full((2, 3), 4.0)
    data = Dataset(Episodes(jnp.ones((2, 3, 2)), jnp.zeros((2, 3, 1)), four, four, jnp.ones((2, 3), bool)))
    return seeds.add_seed_axis(State(best, training, data))


def entry(unit, kind="iterate", phase="ImprovePolicy", **metrics):
    return RecordEntry(unit, 0, phase, kind, "train", "env_steps", 240 * unit, 1.5 * unit, metrics)


RECORD = [
    entry(
        1,
        **{
            "return": math.nan,
            "episodes": 0.0,
            "loss/value": 0.5,
            "updates_skipped": 0.0,
            "invalid_steps": 0.0,
            "diverged": 0.0,
        },
    ),
    entry(
        2,
        **{
            "return": 3.0,
            "episodes": 2.0,
            "loss/value": 0.5,
            "updates_skipped": 2.0,
            "invalid_steps": 5.0,
            "diverged": 0.0,
        },
    ),
    entry(
        3,
        **{
            "return": 4.0,
            "episodes": 2.0,
            "loss/value": math.nan,
            "updates_skipped": 6.0,
            "invalid_steps": 0.0,
            "diverged": 1.0,
        },
    ),
    entry(
        4,
        **{
            "return": 4.0,
            "episodes": 2.0,
            "loss/value": math.inf,
            "updates_skipped": 6.0,
            "invalid_steps": 1.0,
            "diverged": 1.0,
        },
    ),
]


@pytest.fixture
def folder(tmp_path):
    """A run that broke: checkpoint 2 is sound, 4 holds a NaN and an infinity."""
    path = tmp_path / "run"
    path.mkdir()
    about = {
        "format": FORMAT,
        "gorl": "0.1.0",
        "python": "3.11",
        "seed": 3,
        "environment": {"name": "Slider"},
        "created": "2026-01-01",
    }
    about |= {
        "device": {"platform": "cpu", "kind": "cpu", "count": 1, "cpu": "x", "cores": 2},
        "versions": {"jax": "0.10.2", "warp-lang": None},
    }
    (path / "run.json").write_text(json.dumps(about))
    (path / "status.json").write_text(json.dumps({"status": "diverged"}))
    record = Record(path / "metrics.jsonl")
    for line in RECORD:
        record.log(line)
    record.close()
    store = CheckpointStore(path)
    for number, bad in ((2, None), (4, jnp.nan)):
        position = {
            "index": 0,
            "started": True,
            "unit": number,
            "total_units": number,
            "env_steps": 240 * number,
            "eval_steps": 0,
        }
        store.save(number, a_state(bad), {"position": position, "frozen": number == 4, "failures": 0}, row=0)
    store.close()
    return path


def test_every_array_is_measured(folder):
    newest, older = inspection.checkpoints(RunFolder.open(folder))
    assert (newest.number, older.number, newest.problem, older.problem) == (4, 2, None, None)
    found = {n.name: n for n in newest.arrays}
    weight = found[".training['learner']['policy'][1].weight"]
    assert (weight.shape, weight.dtype, weight.size, weight.nan, weight.inf) == ((3, 4), "float32", 12, 1, 0)
    assert (weight.low, weight.high, weight.mean) == (0.5, 0.5, 0.5)
    bias = found[".training['learner']['policy'][1].bias"]
    assert (bias.nan, bias.inf, bias.low, bias.mean) == (0, 1, -2.0, -2.0)
    assert found[".training['lanes']['done']"].mean == 1.0 and found[".training['learner']['count']"].high == 7.0
    key = found[".training['lanes']['key']"]
    assert key.dtype == "key<fry>" and key.mean is None and key.sound
    assert found[".dataset.episodes.reward"].mean == 4.0 and found[".dataset.episodes.obs"].shape == (2, 3, 2)
    assert [n.name for n in newest.arrays if not n.sound] == [weight.name, bias.name]
    assert all(n.sound for n in older.arrays)


def test_parts_are_their_arrays_together():
    array = lambda name, values: inspection.measure(name, np.asarray(values, np.float32))
    found = [array(".a.b.c.d", [1.0, 3.0]), array(".a.b.c.e[0]", [np.nan, 9.0]), array(".a.x", [5.0])]
    found += [array(".best.value", -np.inf), array(".best.policy", np.inf)]
    together = {p.name: p for p in inspection.group_by_part(found)}
    assert list(together) == ["a.b.c", "a", "best"]
    part = together["a.b.c"]
    assert (part.arrays, part.size, part.low, part.high, part.nan, part.inf) == (2, 4, 1.0, 9.0, 1, 0)
    assert part.mean == pytest.approx(13.0 / 3.0)
    assert together["best"].inf == 1  # -inf as the best value so far only says that nothing was evaluated yet
    assert together["best"].mean is None


def test_troubles_are_where_they_first_appeared():
    found = {t.metric: (t.units, t.of, t.first.unit, t.last.unit, t.total) for t in inspection.troubles(RECORD)}
    assert found == {
        "updates_skipped": (3, 4, 2, 4, 14.0),
        "invalid_steps": (2, 4, 2, 4, 6.0),
        "loss/value": (2, 4, 3, 4, None),
        "diverged": (2, 4, 3, 4, 2.0),
    }  # no episode had ended at unit 1: that its mean return is NaN is as it should be
    assert inspection.given_up_since(RECORD).unit == 3 and inspection.given_up_since(RECORD[:2]) is None


def test_the_breakdown_its_place_and_the_machine_are_shown(folder):
    output = gorl("inspect", folder)
    assert max(map(len, output.splitlines())) <= 100
    words = " ".join(output.split())
    for expected in (
        "diverged: no sound update could be made any more; the state is saved",
        "no sound update since unit 3, stage 0, ImprovePolicy (iterate)",
        "position unit 4, stage 0, ImprovePolicy (iterate), 960 env steps",
        "gorl 0.1.0, python 3.11, jax 0.10.2",
        "cpu cpu x 1, x, 2 cores",
        "first not finite: .training['learner']['policy'][1].weight [3, 4], 1 NaN and 0 infinite of 12 numbers",
        "updates_skipped iterate 3 of 4 14 unit 2, stage 0 unit 4",
    ):
        assert expected in words, (expected, output)
    assert "warp-lang" not in output
    sound = gorl("inspect", folder, "--checkpoint", 2, "--all")
    assert "arrays of checkpoint 2" in sound and ".training['lanes']['done']" in sound and "key<fry>" in sound


def test_a_broken_checkpoint_is_shown_as_broken(folder):
    for path in (folder / "checkpoints" / "4").rglob("*"):
        if path.is_file() and "state" in path.parts:
            path.write_bytes(path.read_bytes()[:3])
    output = gorl("inspect", folder)
    (line,) = [line for line in output.splitlines() if line.split()[:2] == ["4", "broken"]]
    assert "cannot be read: " in line
    assert (
        "parts of checkpoint 2" in output and "every number is finite" not in output.split("parts of checkpoint 2")[0]
    )
    assert "parts of" not in gorl("inspect", folder, "--checkpoint", 4)
    assert gorl("inspect", folder, "--checkpoint", 9, error=RunError) == "there is no checkpoint 9; there are: 4, 2."
    shutil.rmtree(folder / "artifacts")
    assert "this dataset" in gorl("inspect", folder)
    shutil.rmtree(folder / "checkpoints")
    assert "no checkpoint yet" in gorl("inspect", folder)
    assert not (folder / "checkpoints").exists()  # looking leaves nothing behind


def test_a_record_that_cannot_be_read_is_said(folder):
    (folder / "metrics.jsonl").write_text("{no\n")
    output = " ".join(gorl("inspect", folder).split())
    assert "cannot be read: JSONDecodeError" in output and "parts of checkpoint 4" in output


def test_inspecting_a_folder_without_a_run_is_one_line(tmp_path):
    assert (
        gorl("inspect", tmp_path / "nowhere", error=RunError)
        == f"{tmp_path / 'nowhere'} is not a gorl run folder (it has no run.json)."
    )


def test_a_run_without_a_result_is_not_finished(own_registry, quick_compiles, tmp_path):
    """A tenth of the steps is sound, so updates can be made, and no episode of an evaluation comes to its end."""
    run, plugin = tmp_path / "run", commands.ROOT / "tests" / "support" / "poison_plugin.py"
    bindings = [
        "Task.environment = @Poison()", "Poison.kind = 'reward nan'", "Poison.rate = 0.9", "TOTAL_STEPS = 240",
        "EPISODE_LENGTH = 10", "Experiment.trackers = []", "policy/MLP.depth = 1", "critic/MLP.depth = 1",
    ]  # fmt: skip
    words = [word for binding in bindings for word in ("--set", binding)]
    output = gorl("train", *DEBUG, *words, "--plugin", plugin, "--run-dir", run, code=4)
    assert "unsound, without a result" in output and "gorl inspect" in output
    status = json.loads((run / "status.json").read_text(), parse_constant=pytest.fail)
    assert status["status"] == "unsound" and status["reason"].startswith("none of its 4 evaluations has a finite")
    assert status["return_final_best"] is None if "return_final_best" in status else True
    lines = [json.loads(x, parse_constant=pytest.fail) for x in (run / "metrics.jsonl").read_text().splitlines()]
    returns = [line["metrics"]["return"] for line in lines if line["subset"] in ("eval", "final_best", "final_last")]
    assert returns == [None] * 4  # pandas reads a column of numbers
    assert "unsound: at its end, without a result" in " ".join(gorl("inspect", run).split())


def test_a_run_that_diverges_ends_as_such_and_can_be_looked_into(own_registry, quick_compiles, tmp_path):
    """Through the command line: every reward is NaN, so no update can be made."""
    run, plugin = tmp_path / "run", commands.ROOT / "tests" / "support" / "poison_plugin.py"
    bindings = ["Task.environment = @Poison()", "Poison.kind = 'reward nan'", "Poison.rate = 1.0", "TOTAL_STEPS = 4800",
                "EPISODE_LENGTH = 10", "Experiment.divergence_limit = 2", "Experiment.trackers = []",
                "policy/MLP.depth = 1", "critic/MLP.depth = 1"]  # fmt: skip
    words = [word for binding in bindings for word in ("--set", binding)]
    output = gorl("train", *DEBUG, *words, "--plugin", plugin, "--run-dir", run, code=3)
    assert "diverged, no sound update could be made any more, the state is saved" in output
    assert json.loads((run / "status.json").read_text())["status"] == "diverged"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    iterations = [line["metrics"] for line in lines if line["kind"] == "iterate"]
    assert [m["diverged"] for m in iterations] == [1.0, 1.0] and [m["invalid_steps"] for m in iterations] == [
        240.0,
        240.0,
    ]
    assert [m["updates_skipped"] for m in iterations] == [6.0, 6.0] and all(m["episodes"] == 0.0 for m in iterations)
    evaluation = lines[0]["metrics"]
    assert evaluation["diverged_episodes"] == 4.0 and evaluation["return"] is None and evaluation["return_best"] is None
    _, state = trained.restore(run)  # what was saved is what it began with: the best policy is still the first one
    for ours, first in zip(
        jax.tree.leaves(eqx.filter(state.learner.policy, eqx.is_array)),
        jax.tree.leaves(eqx.filter(state.best, eqx.is_array)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, first)
    assert not any(np.any(x) for x in jax.tree.leaves(eqx.filter(state.learner.optimizer, eqx.is_array)))
    words = " ".join(gorl("inspect", run).split())
    for expected in ("status diverged", "no sound update since unit 2", "given up there"):
        assert expected in words
    assert "invalid_steps iterate 2 of 2 480" in words
    assert "diverged" in gorl("train", "--resume", run, "--no-aim", code=3)
