"""Stages that a rule ends and a budget limits: which units run, and that they are the same after any interruption."""

import dataclasses
import io
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from gorl.cli.display import ConsoleDisplay
from gorl.reuse.results import Identity, Reuse
from gorl.reuse.store import PhaseStore
from gorl.runs import RunFolder
from gorl.training.ensemble import Ensemble
from gorl.training.restoring import restore_newest, restore_stage_end
from gorl.training.seed_run import SeedRun
from gorl.training.trainer import Trainer
from tests.support import scripted
from tests.support.toy_runs import Crash

# Stage 0 has the returns 10, 8, 6: two without a gain, and its first policy is its best. So stage 1 collects and fits
# nothing. It goes on with the learner (6, 8, 12, 12, 12), whose first return is below the best so far, and gains.
# Stage 2 collects, fits, and has 12, 14, 14, 14; the best is its second policy. Stage 3 has 16, 16, 18.
FIRSTS = [0, 7, 10, 20]
STAGE0 = ["evaluate", "iterate", "evaluate", "iterate", "evaluate", "evaluate_best", "evaluate_last"]
STAGE1 = ["evaluate", *["iterate", "evaluate"] * 4, "evaluate_best", "evaluate_last"]
STAGE2 = ["collect", "epoch", "evaluate", *["iterate", "evaluate"] * 3, "evaluate_best", "evaluate_last"]
TO_STAGE3 = (2 + 4 + 3) * scripted.STEPS + scripted.COLLECTED
LEAST = scripted.COLLECTED + scripted.STEPS  # of stage 3


def run(experiment, folder, *, units=None, reuse=None, stages=None):
    """Trains to the end, or to a Crash after so many units. Returns the units that ran, as (stage, name)."""
    opened = RunFolder(folder) if folder.exists() else RunFolder.create(folder)
    seen = []

    def watch(entry):
        seen.append((entry.stage, entry.kind))
        if len(seen) == units:
            raise Crash

    member = SeedRun(0, opened)
    Trainer(Ensemble.of(experiment), [member], lambda **_: None, [watch], reuse=reuse, stages=stages).run()
    return seen


def names(seen, stage):
    return [name for number, name in seen if number == stage]


def lines(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "wall_s"} for line in found]


def end(experiment, folder):
    """Returns (position, state, record) of a run."""
    member = SeedRun(0, RunFolder(folder))
    member.open()
    position, state = restore_newest(experiment, member.store)
    member.close()
    return position, state, lines(folder)


def assert_same(one, other):
    assert one[0] == other[0] and one[2] == other[2]
    assert jax.tree.structure(one[1]) == jax.tree.structure(other[1])
    jax.tree.map(np.testing.assert_array_equal, one[1], other[1])


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """A run whose budget does not last for stage 3: (experiment, what ran, its end)."""
    experiment = scripted.experiment(FIRSTS, budget=TO_STAGE3 + LEAST - 1)
    experiment.check()
    folder = tmp_path_factory.mktemp("limited") / "run"
    return experiment, run(experiment, folder), end(experiment, folder)


def test_stages_end_where_they_stop_gaining(limited):
    _, seen, _ = limited
    assert names(seen, 0) == STAGE0
    assert names(seen, 1) == STAGE1


def test_after_a_stage_without_gain_the_learner_and_the_best_policy_go_on(limited):
    _, _, (_, _, record) = limited
    evaluations = [e["metrics"] for e in record if e["stage"] == 1 and e["kind"] == "evaluate"]
    np.testing.assert_allclose([m["return"] for m in evaluations], [6, 8, 12, 12, 12], rtol=1e-3)
    np.testing.assert_allclose([m["return_best"] for m in evaluations], [10, 10, 12, 12, 12], rtol=1e-3)
    assert [m["evaluations_without_gain"] for m in evaluations] == [0, 0, 0, 1, 2]


def test_the_last_stage_that_can_begin_takes_all_the_rest(limited):
    """It has stopped gaining after three iterations. What is left is a step too few for stage 3, so it takes it."""
    experiment, seen, (position, state, record) = limited
    rest = ["iterate", "evaluate"]
    assert names(seen, 2) == [*STAGE2[:9], *rest, *STAGE2[9:]] and names(seen, 3) == []
    assert position.env_steps == record[-1]["env_steps"] == TO_STAGE3 + scripted.STEPS <= experiment.env_steps()
    assert position.skipped == (2, 3)
    assert (int(state.decoder.mark), int(state.best.mark), int(state.learner.policy.mark)) == (4, 11, 14)


def test_with_enough_left_a_further_stage_begins(tmp_path):
    """Stage 3 has its collection and one iteration, to the last step of the budget."""
    experiment = scripted.experiment(FIRSTS, budget=TO_STAGE3 + LEAST)
    seen = run(experiment, tmp_path / "run")
    assert names(seen, 2) == STAGE2
    assert names(seen, 3) == ["collect", "epoch", "evaluate", "iterate", "evaluate", "evaluate_best", "evaluate_last"]
    position, state, _ = end(experiment, tmp_path / "run")
    assert position.env_steps == experiment.budget and int(state.decoder.mark) == 11


def test_a_budget_alone_cuts_what_is_declared(tmp_path):
    """Without a rule every stage has its two iterations, until there is none left for the third stage."""
    both = 4 * scripted.STEPS + scripted.COLLECTED
    for budget, last in ((both + LEAST - 1, 1), (both + LEAST, 2)):
        experiment = scripted.experiment(FIRSTS[:3], iterations=2, budget=budget, end=None)
        seen = run(experiment, tmp_path / str(budget))
        assert sum(name == "iterate" for _, name in seen) == 4 + (last == 2) and seen[-1] == (last, "evaluate_last")


def test_a_crash_anywhere_changes_no_bit(limited, tmp_path):
    """Crashes after every third unit: within adaptive stages, at their ends, and around skipped phases."""
    experiment, seen, ended = limited
    crashes = 0
    while True:
        try:
            run(experiment, tmp_path / "run", units=3)
            break
        except Crash:
            crashes += 1
    assert crashes >= len(seen) // 3
    assert_same(end(experiment, tmp_path / "run"), ended)


def test_a_pause_after_each_stage_changes_no_bit(limited, tmp_path):
    """Whether a stage ends early depends on the stages that are declared, not on those that are to run."""
    experiment, _, ended = limited
    for stages in (1, 2, 3, 4):
        run(experiment, tmp_path / "run", stages=stages)
    assert_same(end(experiment, tmp_path / "run"), ended)


def test_stored_phases_have_the_steps_that_they_took(limited, tmp_path):
    """Wholly stored, and with one adaptive phase missing, a run is what it is alone, with no step but that phase's."""
    experiment, _, ended = limited
    store = PhaseStore(tmp_path / "store")
    identities = [Identity(f"phase{i}", {}) for i, _ in enumerate(experiment.planned_phases())]
    run(experiment, tmp_path / "first", reuse=Reuse(store, identities))
    assert {e.key for e in store.entries()} == {f"phase{i}" for i in (0, 1, 4, 5, 6, 7, 8, 9)}
    for name, missing, computed in (("again", None, 0), ("part", "phase4", 4 * scripted.STEPS)):
        if missing:
            store.remove(missing)
        reuse = Reuse(store, identities)
        run(experiment, tmp_path / name, reuse=reuse)
        assert_same(end(experiment, tmp_path / name), ended)
        assert ended[0].env_steps - reuse.totals["env_steps"] == computed


def test_without_a_rule_and_a_budget_all_that_is_declared_runs(tmp_path):
    experiment = scripted.experiment(FIRSTS[:2], iterations=3, end=None)
    seen = run(experiment, tmp_path / "run")
    declared = [(p.stage, u.name) for p in experiment.planned_phases() for u in experiment.units(p)]
    assert seen == declared and not experiment.may_take_fewer
    position, state, _ = end(experiment, tmp_path / "run")
    assert position.env_steps == experiment.env_steps() and position.skipped == ()
    assert state.gain is None and int(state.learner.policy.mark) == 10


def test_a_stage_whose_last_phase_is_skipped_has_an_end(tmp_path):
    """Its checkpoint is kept, and it is what the phase before left."""
    base = scripted.experiment(FIRSTS[:1])
    improve, final = base.stages[0].phases
    stage = dataclasses.replace(base.stages[0], phases=[improve, final, scripted.Collect(), scripted.Fit()])
    experiment = dataclasses.replace(base, stages=[stage])
    assert names(run(experiment, tmp_path / "run"), 0) == STAGE0
    member = SeedRun(0, RunFolder(tmp_path / "run"))
    member.open()
    ended = restore_stage_end(experiment, member.store, 0)
    member.close()
    assert int(ended.best.mark) == 0 and int(ended.learner.policy.mark) == 2 and not bool(ended.gain.found)


def test_the_display_says_at_most(limited):
    """With a budget, the work that is done is the steps that were taken of it."""
    experiment, _, _ = limited
    console = Console(file=io.StringIO(), width=200)
    display = ConsoleDisplay(experiment, console)
    planned = next(experiment.planned_phases())
    units = planned.declaration.units(experiment.task)
    for index, steps in ((1, 0), (2, 24)):
        display.progress(planned=planned, unit=units[index], index=index, units=19, env_steps=steps)
    assert "stage 1/4 · ImprovePolicy · iterate 2 of at most 19 · 0 steps" in console.file.getvalue()
    console.print(display._render())
    assert "24 of at most 259 env steps" in console.file.getvalue()
    assert display._bar.tasks[0].completed == pytest.approx(24 / 259) and "at most" in display._tail()


def test_a_rule_needs_one_seed_and_a_budget_its_first_stage():
    base = scripted.experiment(FIRSTS)
    for changes, message in (
        ({"num_seeds": 2}, "Experiment.num_seeds = 2 with a rule in ImprovePolicy.end"),
        ({"budget": scripted.STEPS - 1}, "Experiment.budget = 23, but stage 0 needs at least 24"),
    ):
        with pytest.raises(Exception, match=message):
            dataclasses.replace(base, **changes).check()
    dataclasses.replace(scripted.experiment(FIRSTS, end=None), num_seeds=2, budget=100).check()
