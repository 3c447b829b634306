"""The generic trainer: what is compiled how often, what is recorded, and in which order."""

import dataclasses
import json
import time

import jax
import numpy as np
import pytest

from gorl import config
from gorl.errors import ConfigError
from gorl.experiment import Stage
from gorl.phases import AbstractPhase, Unit
from gorl.runs import RunFolder
from gorl.runtime import programs
from gorl.training import trained
from gorl.training.ensemble import Ensemble
from gorl.training.seed_run import SeedRun
from gorl.training.trainer import Trainer
from tests.support.toy_runs import train_here

SLIDER = ["Task.environment = @Slider()"]


def run(folder, files=("gorl_fm.gin", "parts/debug.gin"), bindings=()):
    """Trains in this process; returns the experiment and the record's lines."""
    configuration = config.build(list(files), [*SLIDER, *bindings])
    _, entries = train_here(configuration, folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [e.unit for e in entries] == [line["unit"] for line in lines]
    return configuration.experiment, lines


def test_each_program_compiles_once_for_a_decoder_structure(tmp_path):
    """Four stages: what involves the decoder compiles for the identity and for flow matching.

    So does the fit, whose pairs the decoder before it makes. The prior is evaluated by two rules.
    """
    programs.TRACES.clear()
    run(tmp_path / "a")
    assert dict(programs.TRACES) == {
        "improve_policy.iterate": 2,
        "evaluator.evaluate": 4,
        "improve_policy.keep_best": 1,
        "collect_rollouts.collect": 2,
        "fit_decoder.epoch": 2,
    }
    # Other values of hyperparameters are inputs of the same programs, also when the configuration is built anew.
    programs.TRACES.clear()
    run(
        tmp_path / "b",
        bindings=[
            "SEED = 1",
            "Clip.epsilon = 0.3",
            "OnPolicy.learning_rate = 1e-4",
            "stage2/OnPolicy.max_grad_norm = 2.0",
            "DISCOUNT = 0.9",
        ],
    )
    assert dict(programs.TRACES) == {}


def test_the_record_counts_every_step_and_follows_the_declared_order(tmp_path):
    experiment, lines = run(tmp_path / "a")
    declared = [(s.stage, s.name, u.name) for s in experiment.planned_phases() for u in experiment.units(s)]
    assert [(line["stage"], line["phase"], line["kind"]) for line in lines] == declared
    assert lines[-1]["env_steps"] == experiment.env_steps() == 4 * 480 + 3 * 400
    collected = [line for line in lines if line["kind"] == "collect"]
    assert [line["env_steps"] for line in collected] == [480 + 400, 480 + 400 + 480 + 400, 3 * 480 + 3 * 400]


def test_best_is_the_maximum_and_final_episodes_are_others(tmp_path):
    _, lines = run(tmp_path / "a", files=("ppo.gin", "parts/debug.gin"))
    evaluations = [line["metrics"] for line in lines if line["kind"] == "evaluate"]
    assert evaluations[-1]["return_best"] == max(m["return"] for m in evaluations)
    finals = {line["subset"]: line["metrics"]["return"] for line in lines if line["phase"] == "Evaluate"}
    assert set(finals) == {"final_best", "final_last"}
    assert finals["final_best"] not in [m["return"] for m in evaluations]


def test_the_evaluation_interval_changes_nothing_but_when_one_looks(tmp_path):
    """Iterations, evaluations at the same step and the learner in the end are the same, bit for bit."""
    often, seldom = (
        run(
            tmp_path / str(interval),
            files=("ppo.gin", "parts/debug.gin"),
            bindings=[f"EVALUATION_INTERVAL = {interval}"],
        )[1]
        for interval in (240, 480)
    )
    by_kind = lambda lines, kind: {line["env_steps"]: line["metrics"] for line in lines if line["kind"] == kind}
    assert by_kind(often, "iterate") == by_kind(seldom, "iterate")
    some, all_of_them = by_kind(seldom, "evaluate"), by_kind(often, "evaluate")
    assert set(some) == {0, 480} and set(all_of_them) == {0, 240, 480}
    assert all(all_of_them[steps]["return"] == metrics["return"] for steps, metrics in some.items())
    learners = [trained.restore(tmp_path / str(interval))[1].learner for interval in (240, 480)]
    for a, b in zip(*map(jax.tree.leaves, learners), strict=True):
        np.testing.assert_array_equal(a, b)


def test_hand_on_last_and_no_reinitialisation(tmp_path):
    """With one stage after another on the same learner, the policy goes on where it was, as does the optimizer."""
    bindings = [
        "Experiment.stages = [@stage0/Stage(), @stage4/Stage()]",
        "stage4/Stage.phases = [@ImprovePolicy(), @Evaluate()]",
        "ImprovePolicy.reinitialize = False",
        "ImprovePolicy.hand_on = 'last'",
    ]
    run(tmp_path / "a", bindings=bindings)
    _, state = trained.restore(tmp_path / "a")
    assert np.array_equal(state.policy.normalizer.mean, state.learner.policy.normalizer.mean)
    assert float(state.learner.policy.normalizer.count) == 2 * 480
    counts = [np.asarray(x) for x in jax.tree.leaves(state.learner.optimizer) if x.dtype == np.int32]
    assert counts and all(c == 2 * 2 * 2 * 3 for c in counts)  # 2 stages x 2 iterations x 2 epochs x 3 minibatches


@pytest.mark.parametrize(
    "bindings, message",
    [
        (["Stage.phases = [@FitDecoder(), @ImprovePolicy()]"], "FitDecoder has no data"),
        (["stage0/Stage.phases = [@CollectRollouts()]"], "CollectRollouts has no policy"),
        (["stage0/Stage.phases = [@Evaluate()]"], "Evaluate has no policy"),
        (["NUM_ENVS = 7"], "cannot be shared evenly by num_envs = 7"),
        (["FIT_BATCH_SIZE = 100_000"], "Lower FitDecoder.batch_size"),
        (["stage1/ImprovePolicy.env_steps = 0"], "must be >= 1"),
        (["EPISODE_LENGTH = 0"], "must be >= 1"),
        (["DISCOUNT = 1.5"], "must be in [0, 1]"),
        (["Evaluator.num_envs = 0"], "must be >= 1"),
        (["Experiment.stages = []"], "nothing to run"),
        (["SEED = -1"], "must be in [0, 2^31)"),
    ],
)
def test_impossible_experiments_are_refused_before_anything_is_compiled(bindings, message):
    programs.TRACES.clear()
    with pytest.raises(ConfigError) as err:
        config.build(["gorl_fm.gin", "parts/debug.gin"], [*SLIDER, *bindings])
    assert message in str(err.value)
    assert not programs.TRACES


class Idle(AbstractPhase):
    """Ten units in which nothing happens."""

    def units(self, task):
        return (Unit("idle", lambda context, state, index: (state, {})),) * 10

    def start(self, context, run):
        return run

    def finish(self, context, state):
        return state


def test_a_checkpoint_interval_begins_anew_with_every_checkpoint(tmp_path, monkeypatch):
    """Units take a second and the interval is 3.5: four units after the last one, which may be the end of a phase."""
    clock, saved = [time.monotonic()], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(SeedRun, "save", lambda *args, row: saved.append(args[-1]["position"]["total_units"]))
    built = config.build(["ppo.gin", "parts/debug.gin"], [*SLIDER, "Experiment.checkpoint_interval = 3.5"]).experiment
    experiment = dataclasses.replace(built, stages=[Stage(phases=[Idle(), Idle()])], trackers=[], pictures=[])
    tick = lambda **_: clock.append(clock.pop() + 1.0)  # called before each unit
    Trainer(Ensemble.of(experiment), [SeedRun(0, RunFolder.create(tmp_path / "run"))], tick).run()
    assert saved == [4, 8, 10, 14, 18, 20]
