"""The driver keeps the declared order and its budget, repeats nothing, and saves what it cuts off."""

import json
import pathlib

import pytest

from experiments.reproduce import cells, outcomes, run, scales
from experiments.reproduce.forecasts import Forecast
from experiments.reproduce.outcomes import Outcome
from experiments.reproduce.scales import Entry, Guess
from gorl.analysis.runs_table import RunResult

ORDER = """
declared.scale = @Scale()
Scale:
  name = 'toy'
  title = 'Toy'
  about = 'Toy.'
  published = False
  studies = {{'PPO': ['ppo.gin', '{size}'], 'GoRL-FM': ['gorl_fm.gin', '{size}']}}
  blocks = [@Training()]
  controls = {{}}
  presets = {{}}
  guess = @Guess()
Training.methods = ['GoRL-FM', 'PPO']
Training.tasks = ['one']
Guess:
  source = 'nobody'
  seconds = {{}}
  cost = {{}}
"""
SIZE = """
include 'parts/debug.gin'
Task.environment = @Slider()
Experiment.checkpoint_interval = 1e6
critic/MLP.depth = 1
policy/MLP.depth = 1
EPISODE_LENGTH = 20
Study.variants = {'one': []}
Study.seeds = 2
Study.seeds_together = True
"""
NOTHING = Guess(source="", seconds={}, cost={})


class Fake(cells.AbstractCell):
    """Needs `needs` seconds of a clock that it turns itself."""

    def __init__(self, name, needs, time, log):
        super().__init__(Entry("train", name, "task"), pathlib.Path(name))
        self.needs, self.done, self.time, self.log = needs, 0.0, time, log

    def share(self):
        return self.done / self.needs

    def expected(self, forecast):
        return self.needs - self.done

    def run(self, deadline):
        took = min(self.needs - self.done, deadline - self.time[0])
        self.time[0] += took
        self.done += took
        self.log.append((self.entry.method, took))
        return "finished" if self.done == self.needs else cells.CUT


@pytest.fixture
def session(tmp_path):
    time, log = [0.0], []
    scale = scales.Scale(
        name="t", title="", about="", published=False, studies={}, blocks=[], controls={}, presets={}, guess=NOTHING
    )
    make = lambda budget: run.Session(scale, tmp_path, budget, lambda text: None, lambda: time[0])  # noqa: E731
    return make, lambda name, needs: Fake(name, needs, time, log), log


def test_nothing_is_repeated_and_the_order_is_kept(session):
    make, cell, log = session
    wanted = [cell("a", 3.0), cell("b", 2.0)]
    assert make(100.0).run(wanted) == {"finished": ["a/task", "b/task"], "left": []}
    assert make(100.0).run(wanted) == {"done before": ["a/task", "b/task"], "left": []}
    assert log == [("a", 3.0), ("b", 2.0)]


def test_a_cell_that_cannot_end_in_time_is_not_begun(session):
    make, cell, log = session
    wanted = [cell("a", 3.0), cell("long", 50.0), cell("b", 2.0), cell("c", 7.0)]
    assert make(10.0).run(wanted) == {"finished": ["a/task", "b/task"], "left": ["long/task", "c/task"]}
    assert [name for name, _ in log] == ["a", "b"]


def test_a_cell_that_was_cut_off_goes_on(session):
    make, cell, log = session
    wanted = [cell("long", 50.0), cell("b", 2.0)]
    assert make(20.0).run(wanted, partial=True) == {"finished": ["b/task"], "cut off": ["long/task"], "left": []}
    assert make(20.0).run(wanted)["cut off"] == ["long/task"]  # begun, so it goes on although it cannot end
    assert make(20.0).run(wanted)["finished"] == ["long/task"]
    assert log == [("b", 2.0), ("long", 18.0), ("long", 20.0), ("long", 12.0)]


def measured(method, task, seconds, share=1.0):
    place = pathlib.Path(method)
    run_ = RunResult(
        place, place, method, None, method, {}, task, 0, "finished", env_steps=int(1000 * share), wall_s=seconds
    )
    return Entry("train", method, task), Outcome(
        method, task, "finished" if share == 1.0 else "unfinished", 1000, (run_,), {}
    )


def test_forecasts():
    nothing = Forecast(Guess(source="", seconds={"A": 10.0}, cost={"slow": 3.0}), {})
    assert nothing.seconds(Entry("train", "slow", "A")) == 30.0 and nothing.seconds(Entry("train", "slow", "B")) is None
    known = dict([measured("fast", "A", 10.0), measured("fast", "B", 40.0), measured("slow", "A", 30.0)])
    forecast = Forecast(NOTHING, known)
    assert forecast.seconds(Entry("train", "fast", "B")) == 40.0
    assert forecast.seconds(Entry("train", "slow", "B")) == pytest.approx(120.0, rel=0.15)
    assert forecast.seconds(Entry("train", "new", "new")) is None
    assert (
        Forecast(NOTHING, dict([measured("fast", "A", 10.0, share=0.25)])).seconds(Entry("train", "fast", "A")) == 40.0
    )
    assert (
        Forecast(NOTHING, dict([measured("fast", "A", 10.0, share=0.05)])).seconds(Entry("train", "fast", "A")) is None
    )


def test_budgets_are_read():
    assert [run.seconds(text) for text in ("90", "90s", "60m", "1.5h")] == [90.0, 90.0, 3600.0, 5400.0]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setenv("GORL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "size.gin").write_text(SIZE)
    (tmp_path / "toy.gin").write_text(ORDER.format(size=tmp_path / "size.gin"))
    return tmp_path


def drive(folder, out, *words):
    return run.main(
        [
            "--scale",
            str(folder / "toy.gin"),
            "--work",
            str(folder / f"work_{out}"),
            "--out",
            str(folder / out),
            "--no-aim",
            *words,
        ]
    )


@pytest.mark.slow
def test_end_to_end(toy, capsys, quick_compiles, monkeypatch):
    """A cell that is cut off at its first unit and resumed ends like an undisturbed one. The files name no place."""
    assert drive(toy, "whole") == 0
    assert "2 finished" in capsys.readouterr().out
    assert drive(toy, "whole") == 0
    assert "2 done before" in capsys.readouterr().out
    scale = scales.load(str(toy / "toy.gin"))
    (cell,) = [c for c in cells.make(scale, toy / "work_cut", toy / "cut", aim=False) if c.name == "PPO/one"]
    monkeypatch.setenv("GORL_CACHE", str(toy / "other_cache"))  # or the phases would be there already
    assert cell.run(deadline=0.0) == cells.CUT
    partial = outcomes.read(cell.path)
    assert 0.0 <= partial.share < 1.0 and partial.status == "unfinished" and partial.runs[0].evaluations
    assert drive(toy, "cut", "--only", "PPO/one") == 0
    assert "1 finished" in capsys.readouterr().out
    resumed, straight = (outcomes.read(toy / out / "toy" / "PPO" / "one.json") for out in ("cut", "whole"))
    curve = lambda outcome: [[(e.env_steps, e.value) for e in r.evaluations] for r in outcome.runs]  # noqa: E731
    assert curve(resumed) == curve(straight) and [r.scores for r in resumed.runs] == [r.scores for r in straight.runs]
    assert [r.seed for r in straight.runs] == [0, 1] and straight.share == 1.0
    text = (toy / "whole" / "toy" / "GoRL-FM" / "one.json").read_text()
    assert str(toy) not in text.replace(str(toy / "size.gin"), "")  # (the study's own words)
    known = json.loads(text)
    assert {"command", "git", "versions", "device", "precision", "environment", "seeds"} <= set(known)
    assert known["command"][:3] == ["gorl", "sweep", "gorl_fm.gin"]
