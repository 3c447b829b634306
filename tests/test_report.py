"""`gorl report` as a person uses it, on run folders with known returns."""

import csv
import dataclasses
import fcntl
import inspect
import re
import subprocess
import sys

import numpy as np
import pytest
from rliable import library, metrics

from gorl.errors import GorlError
from tests.support.commands import gorl as here, gorl_process as gorl
from tests.support.run_folders import TWO_STAGES, make_grid, make_run, make_study, stage

REPETITIONS = 200
RETURNS = {
    "flow": {"A": [900.0, 950.0, 700.0], "B": [300.0, 350.0, 420.0]},
    "gauss": {"A": [910.0, 500.0, 600.0], "B": [310.0, 200.0, 100.0]},
    "mean": {"A": [100.0, 990.0, 650.0], "B": [500.0, 450.0, 20.0]},
}
FILES = {f"{name}.{form}" for name in ("curves", "aggregates", "profiles") for form in ("png", "svg")}
FILES |= {"report.md", "report.html", "scores.csv", "aggregates.csv", "curves.csv"}


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """(folder of the study, what was printed)."""
    study = make_grid(tmp_path_factory.mktemp("study") / "s", RETURNS)
    return study, gorl("report", study, "--repetitions", REPETITIONS, "--reference", "gauss", cwd=study.parent)


def test_the_numbers_are_those_of_rliable(reported):
    found = {(r["method"], r["task"], r["metric"]): r for r in rows(reported[0] / "report" / "aggregates.csv")}
    matrices = {method: np.array([by_task["A"], by_task["B"]]).T / 1000.0 for method, by_task in RETURNS.items()}
    functions = {name: getattr(metrics, f"aggregate_{name}") for name in ("iqm", "mean", "median", "optimality_gap")}
    for method, scores in matrices.items():
        np.random.seed(0)
        points, intervals = library.get_interval_estimates(
            {"": scores}, lambda s: np.array([f(s) for f in functions.values()]), reps=REPETITIONS
        )
        for i, name in enumerate(functions):
            row = found[method, "A + B", name]
            assert [float(row[k]) for k in ("value", "low", "high")] == [points[""][i], *intervals[""][:, i]] and row[
                "unit"
            ] == "score"
    for method in ("flow", "mean"):
        np.random.seed(0)
        points, intervals = library.get_interval_estimates(
            {"": (matrices[method], matrices["gauss"])}, metrics.probability_of_improvement, reps=REPETITIONS
        )
        row = found[method, "A + B", "probability_of_improvement"]
        assert [float(row[k]) for k in ("value", "low", "high")] == [points[""], *intervals[""].ravel()] and row[
            "reference"
        ] == "gauss"
    assert ("gauss", "A + B", "probability_of_improvement") not in found
    assert (
        float(found["flow", "A", "mean"]["value"]) == pytest.approx(850.0)
        and found["flow", "A", "mean"]["unit"] == "return"
    )


def test_the_interquartile_mean_by_hand(reported):
    """flow's six scores: 300, 350, 420, 700, 900, 950; one is cut off at each end (a quarter of six is 1.5)."""
    assert "| flow | 3 | 0.593 [" in reported[1] and (350 + 420 + 700 + 900) / 4 == 592.5


def test_every_file_is_written_and_the_tables_are_printed(reported):
    study, printed = reported
    assert {p.name for p in (study / "report").iterdir()} == FILES
    assert f"written to {study / 'report'}" in printed and "| flow | A | 3 / 3 | 1,000 | 850.0 [" in printed
    assert "P(above gauss)" in printed and "not finished" not in printed
    scores = rows(study / "report" / "scores.csv")
    assert len(scores) == 18
    first = scores[0]
    assert (first["method"], first["variant"], first["ENV"], first["task"], first["seed"], first["status"]) == (
        "flow",
        "flow-A",
        "'A'",
        "A",
        "0",
        "finished",
    )
    assert (first["env_steps"], first["final_best"], first["best_evaluation"], first["score"]) == (
        "1000",
        "900.0",
        "900.0",
        "900.0",
    )
    curve = [r for r in rows(study / "report" / "curves.csv") if (r["method"], r["task"]) == ("flow", "A")]
    assert [(float(r["env_steps"]), float(r["mean_return"]), r["runs"]) for r in curve] == [
        (0.0, 425.0, "3"),
        (1000.0, 850.0, "3"),
    ]


def test_the_page_stands_alone(reported):
    """No address but XML's names; pictures for light and for dark pages are in it."""
    text = (reported[0] / "report" / "report.html").read_text()
    assert len(re.findall(r'<img src="data:image/svg\+xml;base64,', text)) == 3 and text.count('srcset="data:') == 3
    assert not re.search(r"https?://", text) and "<script" not in text and "<link" not in text
    markdown = (reported[0] / "report" / "report.md").read_text()
    assert all(f"]({name}.png)" in markdown for name in ("curves", "aggregates", "profiles"))


def test_a_report_is_the_same_each_time(reported):
    study, _ = reported
    again = study.parent / "again"
    here("report", study, "--repetitions", REPETITIONS, "--reference", "gauss", "--out", again)
    for name in FILES:
        assert (study.parent / "again" / name).read_bytes() == (study / "report" / name).read_bytes(), name


def test_runs_that_are_not_finished_are_named(tmp_path):
    evaluations = ((0, 1.0, 100.0), (500, 2.0, 400.0))
    study = make_study(tmp_path / "s", ["flow", "gauss"], [0, 1, 2, 3])
    for seed, status in enumerate(("finished", "diverged", "running", "finished")):
        final = 800.0 if status == "finished" else None
        make_run(
            study / "flow" / f"seed{seed}",
            seed=seed,
            status=status,
            evaluations=evaluations,
            final_best=final,
            variant="flow",
            axes={},
        )
    (study / "flow" / "seed3" / "metrics.jsonl").write_text("nonsense\n")
    make_run(study / "gauss" / "seed0", evaluations=evaluations, final_best=700.0, variant="gauss", axes={})
    make_run(study / "gauss" / "seed1", seed=1, status="stopped", variant="gauss", axes={})
    printed = here("report", study, tmp_path, "--repetitions", 100, "--out", tmp_path / "out")
    assert (
        "| flow | CartpoleBalance | 2 / 4 | 500 to 507 | 600.0 [400.0, 800.0] | 600.0 [400.0, 800.0] | 800.0, 400.0† |"
        in printed
    )
    assert "| gauss | CartpoleBalance | 1 / 4 | 500 | 700.0 | 700.0 | 700.0 |" in printed
    for line in (
        "seed1 | flow | CartpoleBalance | 1 | diverged | 507 | counted with its last evaluation †",
        "seed2 | flow | CartpoleBalance | 2 | running | 507 | curve only, as far as it went",
        "seed3 | flow | CartpoleBalance | 3 | unreadable | 0 | nothing: ",
        "seed1 | gauss | CartpoleBalance | 1 | stopped | 0 | nothing: it has no evaluation",
        "seed2 | gauss | CartpoleBalance | 2 | missing | 0 | nothing: not started",
        f"{tmp_path} is not a run, a group of seeds or a study",
    ):
        assert line in printed, line
    assert "flow: 1 of 2 scores are last evaluations, of runs that diverged." in printed
    assert all(
        status in (tmp_path / "out" / "report.html").read_text()
        for status in ("diverged", "running", "unreadable", "stopped", "missing")
    )
    assert [r["score_is"] for r in rows(tmp_path / "out" / "scores.csv")] == [
        "final_best",
        "last_evaluation",
        "",
        "",
        "final_best",
        "",
        "",
        "",
    ]


def test_the_best_of_all_stages_is_the_score_and_swaps_are_averaged(tmp_path):
    """Training chooses stage 0 in one run (50, not 70) and stage 1 in the other (30): 40 on average."""
    other = [
        *stage(0, selected=1.0, best=10.0, last=10.0),
        *stage(1, selected=2.0, best=30.0, last=20.0, mode=12.0, latent_kl=(1.5,)),
    ]
    study = make_study(tmp_path / "s", ["flow"], [0, 1])
    for seed, entries in enumerate((TWO_STAGES, other)):
        make_run(study / "flow" / f"seed{seed}", seed=seed, entries=entries, variant="flow", axes={})
    printed = gorl("report", study, "--repetitions", 100, cwd=tmp_path)
    assert "| flow | CartpoleBalance | 2 / 2 | 200 | 40.0 [" in printed and "] | 50.0, 30.0 |" in printed
    for row in (
        "| task | best of all stages | best, stochastic | newest | newest, stochastic | best stage of each run |",
        "| flow | CartpoleBalance | 40.0 | 45.0 (of 1 run) | 40.0 | 55.0 (of 1 run) | 0, 1 |",
        # before (50 + 10) / 2, after (48 + 12) / 2, divergence (0.5 + 1.5) / 2; what one run lacks is the other's
        "| flow | CartpoleBalance | 1 | 2 | 30.0 | 45.0 | 30.0 | 44.0 | 1 | 2 |",
    ):
        assert row in printed, row
    for name in ("report.md", "report.html"):
        assert "best policy of all stages with its decoder" in (study / "report" / name).read_text()
    scores = rows(study / "report" / "scores.csv")
    shown = ("final_best", "final_best_stochastic", "final_last", "best_stage", "score", "score_is")
    assert [[row[name] for name in shown] for row in scores] == [
        ["50.0", "45.0", "60.0", "0", "50.0", "final_best"],
        ["30.0", "", "20.0", "1", "30.0", "final_best"],
    ]
    first, second = rows(study / "report" / "swaps.csv")
    assert (first["stage"], first["return_after_stochastic"], first["decoder_validation"]) == ("1", "44.0", "2.0")
    assert (second["seed"], second["latent_kl"], second["return_after_stochastic"]) == ("1", "1.5", "")
    printed = gorl("report", study, "--repetitions", 100, "--score", "final_last_stochastic", cwd=tmp_path)
    assert "| flow | CartpoleBalance | 1 / 2 | 200 | 55.0 | 55.0 | 55.0 |" in printed


def test_a_killed_run_is_not_called_running(tmp_path):
    """Its status says that it runs; no process holds its lock. While one does, it does run."""
    evaluations = ((0, 1.0, 100.0),)
    study = make_study(tmp_path / "s", ["flow"], [0, 1, 2])
    for seed in (0, 1, 2):
        run = make_run(
            study / "flow" / f"seed{seed}",
            seed=seed,
            status="finished" if seed == 2 else "running",
            evaluations=evaluations,
            variant="flow",
        )
        (run / ".lock").touch()
    with open(study / "flow" / "seed1" / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        printed = here("report", study, "--repetitions", 100)
    assert "seed0 | flow | CartpoleBalance | 0 | killed | 7 | curve only, as far as it went" in printed
    assert "seed1 | flow | CartpoleBalance | 1 | running | 7 | curve only, as far as it went" in printed
    assert [r["status"] for r in rows(study / "report" / "scores.csv")] == ["killed", "running", "finished"]


def test_mistakes_end_with_one_clear_line(tmp_path):
    run = make_run(tmp_path / "r", evaluations=((0, 1.0, 100.0),), final_best=1.0)
    empty = make_run(tmp_path / "e", status="running")
    fail = lambda *arguments: here("report", *arguments, error=GorlError)
    assert (
        gorl("report", "nowhere", cwd=tmp_path, code=2)
        == "gorl: nowhere is not a run, a group of seeds or a study: it has neither run.json nor study.json.\n"
    )
    assert fail(run, "--score", "final_bets").strip().endswith("Did you mean final_best or final_last?")
    assert "one of env_steps, wall_s" in fail(run, "--x", "hours") and "must be > 0" in fail(run, "--max-return", 0)
    assert "--reference flow: the runs are of ppo." in fail(run, "--reference", "flow")
    output = fail(empty)
    assert "none of 1 runs has an evaluation" in output and f"{empty}: running" in output
    (tmp_path / "file").write_text("")
    assert "Name another folder with --out" in fail(run, "--repetitions", 100, "--out", tmp_path / "file" / "x")


def test_runs_without_scores_still_have_curves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "r", status="running", evaluations=((0, 1.0, 100.0), (10, 2.0, 200.0)))
    assert "ppo has no score yet" in here("report", run, "--x", "wall_s")
    assert {p.name for p in (tmp_path / "report").iterdir()} == {
        name for name in FILES if not name.startswith(("aggregates.p", "aggregates.s", "profiles"))
    }


def test_the_command_has_the_defaults_of_the_library():
    from gorl.analysis.results import Settings
    from gorl.cli.report import command

    parameters = inspect.signature(command).parameters
    assert all(parameters[field.name].default == field.default for field in dataclasses.fields(Settings))


def test_other_commands_do_not_import_it():
    code = (
        "import sys; from gorl.cli import main; main.build_app(); "
        "sys.exit(bool({'rliable', 'matplotlib', 'pandas', 'arch', 'jax'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_missing_package_is_named(monkeypatch):
    from gorl.analysis import statistics
    from gorl.errors import ConfigError

    monkeypatch.setitem(sys.modules, "rliable", None)
    with pytest.raises(ConfigError, match="pip install 'rliable>=1.2'"):
        statistics.library()
