"""Trained policies on disk: which ones are loaded, and under which physics they are evaluated."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

import gorl
from gorl import config
from gorl.acting.evaluator import Evaluator
from gorl.errors import ConfigError
from gorl.runs.beginning import begin
from gorl.runs.checkpoint import CheckpointStore
from gorl.runs.record import Record
from gorl.training.restoring import newest_phase, restore_stage_end
from gorl.training.seed_run import Position
from gorl.training.trained import SavedRun, evaluate
from tests.support.commands import gorl as command
from tests.support.run_folders import TWO_STAGES
from tests.support.toy_runs import save_stage_end, warnings

TINY = [
    "ENV = 'CartpoleBalance'", "PlaygroundEnvironment.impl = 'native'", "Experiment.trackers = []",
    "Experiment.pictures = []", "EPISODE_LENGTH = 8", "policy/MLP.depth = 1", "critic/MLP.depth = 1",
]  # fmt: skip
METRICS = ("return", "return_std", "return_min", "return_max")


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """A run of native physics, without contacts, as if it had trained: all its weights are 0.1."""
    folder = tmp_path_factory.mktemp("native") / "run"
    begin(config.build(["ppo.gin", "parts/debug.gin"], TINY), folder, study="test")
    save_stage_end(folder, 0, 0.1)
    return folder


@pytest.fixture
def third_party(quick_compiles):
    """MJX relies on rank promotion."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.usefixtures("third_party")
def test_without_contacts_a_short_episode_has_the_same_return_under_both_physics(native):
    own, other = (gorl.evaluate(native, episodes=4, physics=physics) for physics in (None, "jax"))
    assert [e.physics for e in own] == ["native"] * 2 and [e.physics for e in other] == ["jax"] * 2
    for found, expected in zip(other, own, strict=True):
        assert found.policy == expected.policy and 0.0 < expected.metrics["return_min"] < 8.0
        for name in METRICS:
            assert found.metrics[name] == pytest.approx(expected.metrics[name], abs=1e-4), name


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize("asked, used", [((), "native"), (("--physics", "jax"), "jax")])
def test_the_option_reaches_the_physics_and_is_said(native, monkeypatch, asked, used):
    """What is evaluated is the run's task with this environment alone changed. Nothing is compiled here."""
    tasks = []
    answer = {name: [1.0] for name in METRICS}
    monkeypatch.setattr(Evaluator, "returns", lambda self, task, *modules, key: tasks.append(task) or answer)
    said = command("evaluate", native, "--episodes", 2, *asked)
    assert f"physics {used}" in said and ("(trained with native)" in said) == (used != "native")
    assert [t.environment.impl for t in tasks] == [used] * 2
    assert all(t.environment.name == "CartpoleBalance" and t.episode_length == 8 for t in tasks)


def test_physics_that_there_is_not_is_refused(native, tmp_path):
    with pytest.raises(ConfigError, match="physics = 'nativ': .*'jax', 'warp', 'native'.*Did you mean native"):
        evaluate(native, episodes=2, seed=0, rule="mode", physics="nativ")
    toy = config.build(["ppo.gin"], ["Task.environment = @Slider()"]).experiment.task
    with pytest.raises(ConfigError, match="Slider has no choice of physics.*under 'native'.*leave the option out"):
        toy.with_physics("native")


@pytest.fixture
def staged(tmp_path):
    """A run of two stages whose best policy is of stage 0; the arrays of a stage's end are its number plus 1."""
    bindings = ["Task.environment = @Slider()", "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]"]
    folder = tmp_path / "run"
    begin(config.build(["gorl_fm.gin", "parts/debug.gin"], bindings), folder, study="test")
    log(folder, TWO_STAGES)
    for stage in (0, 1):
        save_stage_end(folder, stage, stage + 1.0)
    return folder


def log(folder, entries):
    record = Record(folder / "metrics.jsonl")
    for entry in entries:
        record.log(entry)
    record.close()


def weights(found):
    return {float(x.ravel()[0]) for x in jax.tree.leaves(found.policy("best")) if x.dtype == np.float32}


def test_the_best_policy_of_all_stages_is_loaded_with_its_decoder(staged):
    saved = SavedRun(staged)
    best, newest = saved.best(), saved.newest()
    assert (best.stage, newest.stage) == (0, 1) and (weights(best), weights(newest)) == ({1.0}, {2.0})
    assert [type(found.state.decoder).__name__ for found in (best, newest)] == [
        "IdentityDecoder",
        "FlowMatchingDecoder",
    ]
    assert gorl.load(staged).stage == 0 and gorl.load(staged, stage=1).stage == 1
    assert gorl.load(staged, which="last").stage == gorl.load(staged, which="selected").stage == 1
    with pytest.raises(gorl.RunError, match="no sound checkpoint of the end of stage 2"):
        gorl.load(staged, stage=2)
    with pytest.raises(ValueError, match="which = 'worst'"):
        gorl.load(staged, which="worst")


def test_without_its_checkpoint_the_newest_is_taken_and_said(staged, caplog):
    (first, _) = sorted((staged / "checkpoints").iterdir(), key=lambda p: int(p.name))
    shutil.rmtree(first)
    assert SavedRun(staged).best().stage == 1
    assert warnings(caplog) == [
        f"the best policy is of stage 0, but {staged} has no sound checkpoint of the end of stage 0."
        " Stage 1's is taken."
    ]


def test_before_a_stage_was_evaluated_the_newest_is_taken(staged, caplog):
    (staged / "metrics.jsonl").write_text("")
    assert SavedRun(staged).best().stage == 1 and warnings(caplog) == []


def test_an_evaluation_says_of_which_stage_each_policy_is(staged, monkeypatch):
    answer = lambda self, task, policy, decoder, key: dict.fromkeys(METRICS, policy.normalizer.mean[:, 0])
    monkeypatch.setattr(Evaluator, "returns", answer)
    shown = lambda found: [(e.policy, e.stage, e.metrics["return"]) for e in found]
    assert shown(gorl.evaluate(staged)) == [("best", 0, 1.0), ("last", 1, 2.0)]
    assert shown(gorl.evaluate(staged, stage=0)) == [("best", 0, 1.0), ("last", 0, 1.0)]
    rows = [line.split("│")[1:5] for line in command("evaluate", staged).splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [["0", "best", "0", "1.0"], ["0", "last", "1", "2.0"]]
    assert "gorl.load('" in (said := command("evaluate", staged, "--stage", 1)) and ", stage=1)" in said


def test_a_stage_that_was_skipped_left_nothing(staged):
    """The budget had no steps for stage 1: the run stands behind it, with what stage 0 left."""
    experiment = config.build([str(staged / "config.gin")]).experiment
    stages = [planned.stage for planned in experiment.planned_phases()]
    end, skipped = len(stages), tuple(i for i, stage in enumerate(stages) if stage == 1)
    assert newest_phase(experiment, Position(index=end)).stage == 1
    assert newest_phase(experiment, Position(index=end, skipped=skipped)).stage == 0
    assert newest_phase(experiment, Position(index=skipped[0], started=True)).stage == 1
    store = CheckpointStore(staged)
    meta = {"position": dataclasses.asdict(Position(index=end, skipped=skipped))}
    store.save(end, {"x": np.zeros((1, 2), np.float32)}, meta, row=0)
    assert restore_stage_end(experiment, store, 1) is None
    store.close()
