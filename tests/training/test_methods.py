"""Each method, from its file, through every kind of phase: on a toy task, at sizes of the debug part and smaller."""

import math

import jax
import numpy as np
import pytest

from gorl import config
from gorl.training import trained
from tests.support.toy_runs import train_here

SMALL = [
    "Task.environment = @Slider()",
    "EPISODE_LENGTH = 20",
    "Experiment.checkpoint_interval = 1e9",
]
POLICY = ["policy/MLP.width = 8", "policy/MLP.depth = 1"]
ON_POLICY = [*POLICY, "critic/MLP.width = 8", "critic/MLP.depth = 1"]
REPPO = ["policy/LayerNormMLP.width = 8", "action_value/LayerNormMLP.width = 8", "action_value/LayerNormMLP.depth = 1"]
GORL = [
    "DECODER_WIDTH = 8",
    "DECODER_DEPTH = 1",
    "Experiment.stages = [@stage0/Stage(), @stage2/Stage()]",
    "COLLECT_EPISODE_LENGTH = 50",
]
METHODS = {
    "ppo.gin": ON_POLICY,
    "fpo.gin": ON_POLICY,
    "fpo_plus_plus.gin": ON_POLICY,
    "dppo.gin": ON_POLICY,
    "sac.gin": POLICY,
    "gorl_fm.gin": ON_POLICY + GORL,
    "gorl_diffusion.gin": ON_POLICY + GORL,
    "gorl_gaussian.gin": ON_POLICY + GORL,
    "gorl_mean_flow.gin": ON_POLICY + GORL,
    "gorl_sac.gin": POLICY + GORL,
    "gorl_action_sac.gin": POLICY + GORL,
    "reppo.gin": REPPO,
    "gorl_reppo.gin": REPPO + GORL,
}
LIKE_OTHERS = (
    "fpo_plus_plus.gin",
    "gorl_gaussian.gin",
    "gorl_mean_flow.gin",
    "gorl_reppo.gin",
    "gorl_action_sac.gin",
)
"""Methods whose programs differ from others' in a ratio, a decoder or an algorithm that has tests of its own."""


def train(folder, files, bindings):
    configuration = config.build([*files, "parts/debug.gin"], [*SMALL, *bindings])
    _, entries = train_here(configuration, folder)
    return configuration.experiment, entries


def assert_sound(experiment, entries, folder):
    """Every phase ran; every number that always exists is finite; updates were made and none was skipped."""
    assert [e.kind for e in entries] == [u.name for s in experiment.planned_phases() for u in experiment.units(s)]
    for entry in entries:
        sometimes = {"return"} if entry.kind == "iterate" else set()  # a rollout in which no whole episode ended
        assert all(math.isfinite(v) for k, v in entry.metrics.items() if k not in sometimes), entry
        assert entry.metrics.get("updates_skipped", 0.0) == 0.0 and entry.metrics.get("diverged", 0.0) == 0.0
    policy = trained.load(folder)
    action = policy.act(np.zeros((3, 2)), key=jax.random.key(0))
    assert action.shape == (3, 1) and np.all(np.abs(action) < 1)
    np.testing.assert_array_equal(
        action, policy.act(np.zeros((3, 2)), key=jax.random.key(1))
    )  # evaluation draws nothing


@pytest.mark.parametrize("name", [pytest.param(m, marks=[pytest.mark.slow] * (m in LIKE_OTHERS)) for m in METHODS])
def test_each_method_runs_from_end_to_end(name, tmp_path):
    experiment, entries = train(tmp_path / "run", [name], METHODS[name])
    assert_sound(experiment, entries, tmp_path / "run")


def test_the_released_defects_run_from_end_to_end(tmp_path):
    bindings = [*ON_POLICY, *GORL, "COLLECT_STEPS = 400"]
    experiment, entries = train(tmp_path / "run", ["gorl_diffusion.gin", "presets/released_code.gin"], bindings)
    assert_sound(experiment, entries, tmp_path / "run")
    assert (
        max(e.metrics["log_ratio_first"] for e in entries if e.kind == "iterate") > 1e-3
    )  # the ratio is not 1 at first
