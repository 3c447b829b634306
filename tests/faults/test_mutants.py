"""Broken configurations end in one clear message, or are accepted and have an effect.

experiments/faults/mutants.py tries them by the thousand.
"""

import dataclasses
import shutil
import time

import pytest

from experiments.faults import mutations, verdicts
from experiments.faults.mutations import Case, Mutant
from experiments.faults.verdicts import judge
from gorl import config
from gorl.config import checks
from gorl.errors import ConfigError

COUNT, SEED = 120, 7
TEXT = b"include 'ppo.gin'\nSEED = 3\n"
PLAIN = Case({"mine.gin": TEXT}, ("mine.gin",), ("NUM_ENVS = 1024",))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cases():
    """Those that are checked quickly: one method of each kind, without studies."""
    names = {"ppo.gin", "ppo_tuned.gin", "fpo.gin", "dppo.gin", "sac.gin", "gorl_gaussian.gin"}
    return [
        dataclasses.replace(c, bindings=())
        for c in mutations.cases()
        if not c.study and c.files[0] in names and c.texts.keys() - {"parts/debug.gin"}
    ]


def test_broken_configurations_are_refused_clearly_or_have_an_effect(folder):
    outcomes, defects = {}, []
    for i, mutant in enumerate(mutations.mutants(COUNT, SEED, cases())):
        verdict = judge(mutant, folder, seconds=60.0, again=i % 20 == 0)
        outcomes[verdict.outcome] = outcomes.get(verdict.outcome, 0) + 1
        if verdict.outcome == "defect":
            defects.append((mutant.kind, mutant.case, verdict.text))
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not defects
    assert outcomes["refused"] > COUNT / 2 and sum(outcomes.values()) - outcomes["refused"] > COUNT / 10


def test_the_same_seed_breaks_the_same():
    first, second, other = ([m.case for m in mutations.mutants(60, seed, [PLAIN])] for seed in (1, 1, 2))
    assert first == second != other
    assert all(case != PLAIN for case in first)


def test_every_kind_of_edit_is_made():
    kinds = [m.kind for m in mutations.mutants(len(mutations.EDITS), 0)]
    assert kinds == list(mutations.EDITS)


def broken(text=TEXT, bindings=PLAIN.bindings, expected=""):
    return Mutant("by hand", Case({"mine.gin": text}, ("mine.gin",), bindings), PLAIN, "mine.gin", expected)


@pytest.mark.parametrize(
    "mutant, outcome, part",
    [
        (broken(), "accepted", ""),
        (broken(TEXT + b"Clip.epsilon = 0.3\n", expected="same"), "defect", "does not build what it did"),
        (broken(TEXT + b"XQZ = 1\n"), "accepted with a note", ""),
        (broken(TEXT + b"SEEDS = 1\n"), "refused", "Did you mean SEED?"),
        (broken(TEXT + b"SEEDS = 1\n", expected="same"), "defect", "refused, though it says the same"),
        (broken(TEXT + b"XQZ = 1\n", expected="refused"), "defect", "accepted, though a binding reaches nothing"),
    ],
)
def test_outcomes(mutant, outcome, part, folder):
    verdict = judge(mutant, folder, seconds=60.0)
    assert (verdict.outcome, part in verdict.text) == (outcome, True), verdict


def test_a_dead_binding_that_gorl_would_not_see_is_found(folder, monkeypatch):
    monkeypatch.setattr(checks, "check_effects", lambda source: [])
    for name in ("XQZ", "SAC.num_envs", "nowhere/MLP.width"):
        verdict = judge(broken(TEXT + f"{name} = 3\n".encode()), folder, seconds=60.0)
        assert verdict.outcome == "defect" and verdict.text.startswith(f"silently accepted: {name} (mine.gin:3)"), (
            verdict
        )


def test_a_refusal_of_a_living_binding_is_found(folder, monkeypatch):
    def refuse(case):
        config.build(case.files, case.bindings)
        monkeypatch.setattr(verdicts.tables, "bindings", lambda: [(("", "gorl.Experiment", "seed"), 3)])
        raise ConfigError("Experiment.seed has no effect.")

    monkeypatch.setattr(verdicts, "begun", refuse)
    assert judge(broken(TEXT), folder, seconds=60.0).text.startswith(
        "refused as without effect, but every binding has one"
    )


@pytest.mark.parametrize(
    "happens, part",
    [
        (lambda case: {}["a"], "KeyError: 'a'"),
        (lambda case: time.sleep(5.0), "hangs"),
        (
            lambda case: verdicts.warnings.warn("overflow encountered in cast", RuntimeWarning, stacklevel=1),
            "RuntimeWarning: overflow",
        ),
    ],
)
def test_tracebacks_hangs_and_warnings_are_found(happens, part, folder, monkeypatch):
    monkeypatch.setattr(verdicts, "begun", happens)
    verdict = judge(broken(), folder, seconds=0.2)
    assert verdict.outcome == "defect" and part in verdict.text
