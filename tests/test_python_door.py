"""gorl.train, gorl.load, gorl.evaluate and gorl.check do in Python what the commands do."""

import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import gorl
from gorl.runs import CheckpointStore, RunFolder
from gorl.runs.record import read

FILES = ["gorl_fm.gin", "parts/debug.gin"]
TOY = [
    "Task.environment = @Slider()",
    "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]",
    "Experiment.trackers = []",
    "EPISODE_LENGTH = 20",
    "critic/MLP.depth = 1",
    "policy/MLP.depth = 1",
    "decoder/MLP.depth = 1",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def run(home):
    return gorl.train(*FILES, bindings=TOY, run_dir=home / "run")


def test_it_trains_and_returns_the_runs_folder(run, home):
    assert isinstance(run, RunFolder) and run.path == home / "run"
    assert run.status()["status"] == "finished" and run.facts()["study"] == "gorl_fm"
    kinds = [(e.stage, e.phase) for e in read(run.record_path)]
    assert list(dict.fromkeys(kinds)) == [
        (0, "ImprovePolicy"),
        (0, "Evaluate"),
        (1, "CollectRollouts"),
        (1, "FitDecoder"),
        (1, "EvaluatePrior"),
        (1, "ImprovePolicy"),
        (1, "Evaluate"),
    ]


def test_the_policy_of_a_folder_loads_and_acts(run):
    policy = gorl.load(run)
    actions = policy.act(np.zeros((4, 2)), key=jax.random.key(0))
    assert actions.shape == (4, 1) and np.all(np.abs(actions) < 1)
    np.testing.assert_array_equal(actions, gorl.load(str(run.path)).act(np.zeros((4, 2)), key=jax.random.key(0)))


def test_the_ends_of_all_stages_are_kept_and_load(run):
    """Seven phases ended; of their checkpoints those after the stages remain, and the one before the last."""
    store = CheckpointStore(run.path)
    ends = [store.meta(number)["stage_end"] for number in store.newest()]
    store.close()
    assert ends == [1, None, 0]
    best = run.status()["best_stage"]
    assert gorl.load(run).stage == best and [gorl.load(run, stage=s).stage for s in (0, 1)] == [0, 1]
    assert [e.stage for e in gorl.evaluate(run, episodes=8)] == [best, 1]


def test_both_policies_are_evaluated_on_the_same_episodes_each_time(run):
    found = gorl.evaluate(run, episodes=8)
    assert [(e.seed, e.policy) for e in found] == [(0, "best"), (0, "last")]
    assert all(0.0 <= e.metrics["return_min"] <= e.metrics["return"] <= e.metrics["return_max"] for e in found)
    assert gorl.evaluate(run, episodes=8) == found
    assert gorl.evaluate(run, episodes=8, seed=5) != found


def test_a_finished_run_is_resumed_without_effect(run):
    before = run.record_path.read_bytes()
    assert gorl.train(run_dir=run, resume=True).path == run.path
    assert run.record_path.read_bytes() == before


def test_a_second_run_in_the_folder_is_refused(run):
    with pytest.raises(gorl.RunError, match="is not empty"):
        gorl.train(*FILES, bindings=TOY, run_dir=run)


@pytest.mark.parametrize("arguments", [{"run_dir": None}, {"run_dir": "run", "bindings": ["SEED = 1"]}])
def test_resuming_takes_a_folder_and_nothing_else(arguments):
    with pytest.raises(gorl.ConfigError, match="takes no files and no bindings"):
        gorl.train(resume=True, **arguments)


def test_a_mistake_is_found_before_a_folder_is_made(home):
    with pytest.raises(gorl.ConfigError, match="EPISODE_LENGTH"):
        gorl.train(*FILES, bindings=[*TOY[:3], "EPISODE_LENGTHS = 20"], run_dir=home / "mistaken")
    assert not (home / "mistaken").exists()


def test_check_builds_without_running(home):
    experiment = gorl.check(*FILES, bindings=TOY).experiment
    assert [p.name for p in experiment.planned_phases()][:2] == ["ImprovePolicy", "Evaluate"]
    assert experiment.env_steps() == 480 + 400 + 480  # two stages of 2 iterations of 240, and a collection


def test_importing_gorl_imports_no_jax():
    script = "import sys, gorl; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=pathlib.Path(gorl.__file__).parents[1]).returncode == 0
