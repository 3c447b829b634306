"""Every cell of the published table is declared, builds, and has the budget that its scale says."""

import pytest

from experiments.reproduce import scales
from experiments.reproduce.cells import make
from experiments.reproduce.run import chosen
from gorl import config
from gorl.errors import ConfigError
from gorl.studies.plan import make_plan

PAPER = {"CheetahRun", "FingerSpin", "FingerTurnHard", "FishSwim", "HopperStand", "WalkerWalk"}
BUDGET = 184_381_440
OTHER_BUDGETS = {"SAC", "GoRL-FM, 10M samples", "GoRL-FM, released code", "GoRL-Diffusion, released code"}


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(scales.ROOT)


def test_every_study_builds_with_the_budget_of_its_scale():
    """On one task each: the tasks of all studies are the same words, built in the next tests."""
    scale = scales.load("full")
    of_all = config.read_study(scale.studies["PPO"])
    assert set(of_all.variants) == set(scale.tasks)
    for method, words in scale.studies.items():
        files, bindings = [w for w in words if "=" not in w], [w for w in words if "=" in w]
        study = config.read_study(files, bindings)
        assert (study.variants, study.seeds, study.seeds_together) == (of_all.variants, 3, True)
        experiment = config.build(files, bindings).experiment
        assert experiment.task.environment.name == "CheetahRun"
        if method not in OTHER_BUDGETS:
            assert experiment.env_steps() == pytest.approx(BUDGET, rel=0.03), method


@pytest.mark.slow
def test_every_cell_builds():
    scale = scales.load("full")
    for words in scale.studies.values():
        plan = make_plan(words)
        assert {v.name: v.configuration.experiment.task.environment.name for v in plan.variants} == {
            t: t for t in scale.tasks
        }


def test_the_tasks_of_a_method():
    """Of one method, with the files that the tasks bring: what builds with one builds with all."""
    full = scales.load("full")
    experiments = {v.name: v.configuration.experiment for v in make_plan(full.studies["PPO"]).variants}
    assert {name: e.task.environment.name for name, e in experiments.items()} == {task: task for task in full.tasks}


def test_the_paper_is_covered():
    full = scales.load("full")
    assert set(full.tasks) == PAPER | {"HumanoidStand", "HumanoidRun"}
    assert {"GoRL-FM", "GoRL-Diffusion", "PPO", "PPO tuned", "PPO Playground", "FPO", "FPO++", "DPPO", "SAC"} <= set(
        full.main_methods
    )
    trained = {(e.method, e.task) for e in full.entries() if e.kind == "train"}
    assert {(m, t) for m in full.main_methods for t in full.tasks} <= trained


def test_the_order_is_the_declared_one():
    names = [cell.name for cell in make(scales.load("full"), scales.ROOT, scales.ROOT)]
    expected = [
        "physics/HumanoidRun",
        "GoRL-FM/FingerSpin",
        "PPO/CheetahRun",
        "FPO/FingerSpin",
        "DPPO/CheetahRun",
        "GoRL-FM/FishSwim",
        "SAC/FingerSpin",
    ]
    expected += ["GoRL-FM, stage 0 only/FingerSpin", "GoRL-FM, paper v3/FingerSpin", "GoRL-FM/HumanoidStand"]
    assert [names.index(name) for name in expected] == sorted(names.index(name) for name in expected)
    assert len(names) == len(set(names))


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ConfigError, match="one of full, two_cores"):
        scales.load("two_core")
    text = (
        (scales.HERE / "parts" / "order_full.gin")
        .read_text()
        .replace("stage 0 only', 'PPO, shrinking normalizer',", "stage 0 only', 'PPO, shrinking',")
    )
    (tmp_path / "order.gin").write_text(text)
    with pytest.raises(ConfigError, match="'PPO, shrinking' is not one of its studies"):
        scales.load(str(tmp_path / "order.gin"))
    with pytest.raises(ConfigError, match="no such cell"):
        chosen(make(scales.load("full"), tmp_path, tmp_path), ["PPO/Nowhere"])
