"""Reading runs from disk: everything declared is listed, with what it is."""

import json

import pytest

from gorl.analysis.naming import load_results
from gorl.errors import RunError
from tests.support.run_folders import make_grid, make_run, make_study

EVALUATIONS = ((0, 1.0, 100.0), (10, 2.0, 300.0), (20, 3.0, 200.0))


def test_a_run(tmp_path):
    path = make_run(
        tmp_path / "r", task="CheetahRun", seed=4, evaluations=EVALUATIONS, final_best=310.0, final_last=190.0
    )
    ((run,), problems) = load_results([path])
    assert (run.method, run.task, run.seed, run.status, run.variant, problems) == (
        "ppo",
        "CheetahRun",
        4,
        "finished",
        None,
        [],
    )
    assert run.scores == {"final_best": 310.0, "final_last": 190.0, "best_evaluation": 300.0, "last_evaluation": 200.0}
    assert [tuple(e) for e in run.evaluations] == list(EVALUATIONS) and (run.env_steps, run.wall_s) == (20, 3.0)


def test_a_value_that_is_not_finite_is_no_evaluation(tmp_path):
    path = make_run(tmp_path / "r", status="diverged", evaluations=(*EVALUATIONS, (30, 4.0, float("nan"))))
    ((run,), _) = load_results([path])
    assert (
        run.scores == {"best_evaluation": 300.0, "last_evaluation": 200.0}
        and run.env_steps == 37
        and len(run.evaluations) == 3
    )


def test_a_group_with_a_member_that_is_missing(tmp_path):
    group = make_run(tmp_path / "g", members=["seed0", "seed1"])
    make_run(group / "seed0", evaluations=EVALUATIONS)
    runs, _ = load_results([group, group / "seed0", tmp_path / "g"])  # each run once, however often named
    assert [(r.seed, r.task, r.status, r.method) for r in runs] == [
        (0, "CartpoleBalance", "finished", "ppo"),
        (1, "CartpoleBalance", "missing", "ppo"),
    ]


def test_a_study_lists_every_declared_run_even_a_missing_one(tmp_path):
    study = make_study(tmp_path / "s", ["flow", "gauss"], [0, 1, 2])
    for seed, status in ((0, "finished"), (1, "stopped")):
        make_run(
            study / "flow" / f"seed{seed}",
            seed=seed,
            status=status,
            evaluations=EVALUATIONS,
            variant="flow",
            axes={"decoder": "flow"},
        )
    make_run(study / "flow" / "seed2", seed=2)
    (study / "flow" / "seed2" / "run.json").write_text("{")
    runs, _ = load_results([study])
    assert [(r.method, r.seed, r.task, r.status) for r in runs] == [
        ("flow", 0, "CartpoleBalance", "finished"),
        ("flow", 1, "CartpoleBalance", "stopped"),
        ("flow", 2, "CartpoleBalance", "unreadable"),
        *(("gauss", seed, "unknown", "missing") for seed in range(3)),
    ]
    assert runs[0].axes == {"decoder": "flow"} and "run.json" in runs[2].problem and "\n" not in runs[2].problem


BROKEN = [
    ("run.json", "[]"),
    ("run.json", "{"),
    ("metrics.jsonl", "{}\n"),
    ("metrics.jsonl", "nonsense\n"),
    ("status.json", "{"),
    ("status.json", "[]"),
]


@pytest.mark.parametrize("file, text", BROKEN)
def test_a_broken_file_makes_one_run_unreadable(tmp_path, file, text):
    group = make_run(tmp_path / "g", members=["seed0", "seed1"])
    for seed in (0, 1):
        make_run(group / f"seed{seed}", seed=seed, evaluations=EVALUATIONS)
    (group / "seed1" / file).write_text(text)
    (good, bad), _ = load_results([group])
    assert (
        good.status == "finished"
        and bad.status == "unreadable"
        and str(group / "seed1") in bad.problem
        and not bad.evaluations
    )


def test_a_record_cut_off_by_a_crash_is_read_as_far_as_it_goes(tmp_path):
    path = make_run(tmp_path / "r", status="running", evaluations=EVALUATIONS)
    with open(path / "metrics.jsonl", "a") as file:
        file.write('{"unit": 9, "sta')
    ((run,), _) = load_results([path])
    assert run.status == "running" and len(run.evaluations) == 3


def test_paths_that_are_no_runs(tmp_path):
    run = make_run(tmp_path / "r", evaluations=EVALUATIONS)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.json").write_text('{"name": "s"}')
    runs, problems = load_results([run, tmp_path, tmp_path / "s"])
    assert len(runs) == 1 and len(problems) == 2
    assert "neither run.json nor study.json" in problems[0] and "study.json: KeyError: 'seeds'" in problems[1]
    with pytest.raises(RunError, match="nowhere is not a run"):
        load_results([tmp_path / "nowhere"])


def test_an_axis_of_tasks_distinguishes_no_methods(tmp_path):
    study = make_grid(tmp_path / "s", {"flow": {"A": [1.0], "B": [2.0]}, "gauss": {"A": [3.0], "B": [4.0]}})
    runs, _ = load_results([study])
    assert [(r.method, r.task, r.scores["final_best"]) for r in runs] == [
        ("flow", "A", 1.0),
        ("flow", "B", 2.0),
        ("gauss", "A", 3.0),
        ("gauss", "B", 4.0),
    ]


def test_runs_of_two_studies_and_repeated_seeds_have_names_of_their_own(tmp_path):
    for name in ("one", "two"):
        study = make_study(tmp_path / name, ["base"], [0], name=name)
        make_run(study / "base" / "seed0", evaluations=EVALUATIONS, variant="base", axes={})
    runs, _ = load_results([tmp_path / "one", tmp_path / "two"])
    assert [r.method for r in runs] == ["one: base", "two: base"]
    again = [make_run(tmp_path / name, seed=0, evaluations=EVALUATIONS) for name in ("a", "b")]
    assert [r.method for r in load_results(again)[0]] == [f"ppo ({path})" for path in again]  # one seed twice
    facts = json.loads((again[1] / "run.json").read_text())
    (again[1] / "run.json").write_text(json.dumps(facts | {"seed": 1}))
    assert [r.method for r in load_results(again)[0]] == ["ppo", "ppo"]
