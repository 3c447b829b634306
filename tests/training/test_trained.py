"""Trained policies on disk: under which physics they are evaluated."""

import jax
import pytest

import gorl
from gorl import config
from gorl.acting.evaluator import Evaluator
from gorl.errors import ConfigError
from gorl.training import execution
from gorl.training.trained import evaluate
from tests.support.commands import gorl as command
from tests.support.toy_runs import save_stage_end

TINY = [
    "ENV = 'CartpoleBalance'", "PlaygroundEnvironment.impl = 'native'", "Experiment.trackers = []",
    "Experiment.pictures = []", "EPISODE_LENGTH = 8", "policy/MLP.depth = 1", "critic/MLP.depth = 1",
]  # fmt: skip
METRICS = ("return", "return_std", "return_min", "return_max")


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """A run of native physics, without contacts, as if it had trained: all its weights are 0.1."""
    folder = tmp_path_factory.mktemp("native") / "run"
    execution.begin(config.build(["ppo.gin", "parts/debug.gin"], TINY), folder, study="test")
    save_stage_end(folder, 0, 0.1)
    return folder


@pytest.mark.usefixtures("quick_compiles")
def test_without_contacts_a_short_episode_has_the_same_return_under_both_physics(native):
    with jax.numpy_rank_promotion("allow"):  # MJX relies on it
        own, other = (gorl.evaluate(native, episodes=4, physics=physics) for physics in (None, "jax"))
    assert [e.physics for e in own] == ["native"] * 2 and [e.physics for e in other] == ["jax"] * 2
    for found, expected in zip(other, own, strict=True):
        assert found.policy == expected.policy and 0.0 < expected.metrics["return_min"] < 8.0
        for name in METRICS:
            assert found.metrics[name] == pytest.approx(expected.metrics[name], abs=1e-4), name


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
