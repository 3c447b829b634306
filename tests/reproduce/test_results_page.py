"""The page from numbers made by hand."""

import dataclasses
import math
import pathlib

import pytest

from experiments.reproduce import outcomes, scales, table
from experiments.reproduce.outcomes import Outcome
from experiments.reproduce.run import RESULTS
from experiments.reproduce.scales import Entry
from experiments.reproduce.table import Measured
from gorl.analysis import page
from gorl.analysis.runs_table import EvaluationPoint, RunResult
from gorl.analysis.statistics import Estimate

FACTS = {
    "command": ["gorl", "sweep", "x.gin"],
    "git": {"commit": "0123456789abcdef", "dirty": False},
    "versions": {"jax": "1", "mujoco": "2"},
    "device": {"platform": "cpu", "cpu": "Abacus", "cores": 2},
    "environment": {"impl": "native"},
    "precision": "highest",
}


def result(method, task, seed, value, status="finished"):
    place = pathlib.Path(method)
    evaluations = (EvaluationPoint(0, 1.0, 0.0), EvaluationPoint(1000, 2.0, value))
    scores = {"final_best": value, "last_evaluation": value} if status == "finished" else {"last_evaluation": value}
    known = dict(env_steps=1000, wall_s=60.0, evaluations=evaluations, scores=scores)
    return RunResult(place / f"seed{seed}", place, method, None, method, {}, task, seed, status, **known)


def cell_of(method, task, values, status="finished", declared=1000):
    return Entry("train", method, task), Outcome(
        method, task, status, declared, tuple(result(method, task, i, v, status) for i, v in enumerate(values)), FACTS
    )


@pytest.fixture
def small():
    cells = [
        cell_of("GoRL-FM", "CheetahRun", [100.0, 200.0, 300.0]),
        cell_of("GoRL-Diffusion", "CheetahRun", [100.0, 200.0, 240.0]),
        cell_of("GoRL-FM, paper v3", "CheetahRun", [100.0, 150.0, 150.0]),
        cell_of("PPO", "CheetahRun", [50.0, 60.0, 70.0]),
        cell_of("PPO, cached resets", "CheetahRun", [10.0, 60.0, 80.0]),
        cell_of("FPO", "CheetahRun", [5.0, 5.0, 5.0], "unfinished", declared=4000),
    ]
    return Measured(dataclasses.replace(scales.load("full"), published=False), dict(cells))


def test_cells_show_means_intervals_and_unmeasured_ones(small):
    assert table.cell(small, "GoRL-FM", "CheetahRun", {}) == "**200** [100, 300]"
    assert table.cell(small, "SAC", "CheetahRun", {}) == "unmeasured"
    assert table.cell(small, "FPO", "CheetahRun", {}) == "25% done"
    shown = table.table(small, {})
    assert shown.header == ("method", *small.scale.tasks)
    column = shown.header.index("CheetahRun")
    assert dict((row[0], row[column]) for row in shown.rows)["PPO"] == "**60** [50, 70]"
    assert "PPO, cached resets" not in {row[0] for row in shown.rows}
    assert table.shown(Estimate(12.4, math.nan, math.nan)) == "**12**"


def test_a_diverged_seed_counts_with_its_last_evaluation(small):
    cells = dict([cell_of("PPO", "FingerSpin", [30.0], "diverged")])
    assert Measured(small.scale, cells).scores("PPO", "FingerSpin") == [30.0]


def test_published_numbers_stand_beside_ours():
    measured = Measured(scales.load("full"), dict([cell_of("GoRL-FM", "HopperStand", [700.0, 800.0])]))
    theirs = table.published()
    assert len(theirs) == 40 and theirs["GoRL-FM", "HopperStand"] == 734.0
    assert table.cell(measured, "GoRL-FM", "HopperStand", theirs) == "734 → **750** [700, 800]"
    assert table.cell(measured, "PPO", "HopperStand", theirs) == "286 → unmeasured"
    assert table.cell(measured, "SAC", "HopperStand", theirs) == "– → unmeasured"


def test_probability_of_improvement_of_our_best_setting(small):
    assert table.best_preset(small) == "GoRL-FM"
    rows = list(table.preset_rows(small))
    # of 9 pairs: 100 ties 100 and loses twice; 200 and 300 win three times each
    assert (
        rows[0][:2] == ("GoRL-FM (our best)", "GoRL-FM, paper v3")
        and rows[0][2].startswith("0.72 [")
        and rows[0][3] == "CheetahRun"
    )
    assert rows[1] == ("GoRL-FM (our best)", "GoRL-FM, released code", "unmeasured", "–")
    assert [row[1] for row in rows[:4]] == [p for others in small.scale.presets.values() for p in others]
    assert len(rows) == 6


def test_controls(small):
    rows = table.control_table(small, "cached resets").rows
    assert rows[0] == ("PPO", "CheetahRun", "**60** [50, 70]", "**50** [10, 80]")
    assert rows[1][3].startswith("0.50 [")  # 10: 0; 60: 1.5; 80: 3, of 9
    assert table.control_table(small, "shrinking normalizer").rows == ()
    parts = table.effects([small])
    text = (
        "before\n<!-- measured: cached resets -->\nold\n<!-- end -->\n"
        "between\n<!-- measured: lock-step -->\n<!-- end -->\n"
    )
    filled = table.filled(text, parts)
    assert (
        "old" not in filled
        and "**50** [10, 80]" in filled
        and "<!-- measured: lock-step -->\nUnmeasured.\n<!-- end -->" in filled
    )
    assert table.filled(filled, parts) == filled


def test_a_scale_without_results_is_one_sentence():
    markdown = page.markdown(table.section(Measured(scales.load("full"), {}), table.published(), {}, ()))
    text = markdown.replace("\n", " ")
    assert "need a GPU and are not measured" in text and "--scale full --dry-run` prints the plan." in text
    assert "|" not in text


def test_prose_is_wrapped_outside_of_code():
    text = table.wrapped("word " * 22 + "`some code with spaces` end", indent="  ")
    assert text.splitlines()[1] == "  `some code with spaces` end"


def test_missing_cells_are_one_line(small):
    """A quarter of FPO's cell took a minute, and nothing else is known about methods and tasks."""
    cells = dict([cell_of("FPO", "CheetahRun", [5.0], "unfinished", declared=4000)])
    scale = dataclasses.replace(
        small.scale,
        blocks=[scales.Training(methods=["FPO"], tasks=["CheetahRun"])],
        guess=scales.Guess(source="", seconds={}, cost={}),
    )
    line = table.unmeasured(Measured(scale, cells))
    assert line.startswith("Unmeasured: 1 of 1 cells, for which 3:00 (h:mm:ss) are expected; `python -m ")
    assert "--scale full --dry-run` lists them." in line
    ended = dict([cell_of("FPO", "CheetahRun", [5.0])])
    assert table.unmeasured(Measured(scale, ended)) == ""


def test_results_survive_their_files_and_the_pages_are_the_same_again(small, tmp_path):
    for entry, outcome in small.cells.items():
        outcomes.write(outcomes.path_of(tmp_path, small.scale, entry), outcome)
    again = outcomes.read_all(tmp_path, small.scale)
    assert {e: o.runs for e, o in again.items()} == {e: o.runs for e, o in small.cells.items()}
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "comparison.md").write_text((scales.ROOT / "docs" / "comparison.md").read_text())
    written = table.regenerate(tmp_path, tmp_path / "docs")
    assert {p.name for p in written} == {"full.png", "results.md", "comparison.md"}
    first = [p.read_bytes() for p in written]
    assert [p.read_bytes() for p in table.regenerate(tmp_path, tmp_path / "docs")] == first
    text = (tmp_path / "docs" / "results.md").read_text()
    assert "Unmeasured: 60 of 60 cells of block a" in text and "--scale full --only" not in text
    assert (
        "883 → **200** [100, 300]" in text
        and "734 → unmeasured" in text
        and "![" in text
        and "2 cores of Abacus; commit 0123456789" in text
    )


def test_recorded_results_name_no_machine():
    for path in RESULTS.rglob("*.json"):
        words = path.read_text()
        assert not any(place in words for place in ("/home/", "/root/", "/tmp/", "/work/", "/Users/")), path
