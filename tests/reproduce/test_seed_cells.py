"""Cells of one seed: their declaration, their processes on toy commands, their records and their part of the page."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.reproduce import run, scales, table
from experiments.reproduce.scales import SeedBlock, SeedCell, SeedScale
from experiments.reproduce.seeds import page, record, runner
from experiments.reproduce.seeds.runner import Places, Processes, Runner
from gorl import config
from gorl.analysis.page import markdown
from gorl.errors import ConfigError
from gorl.runs.record import RecordEntry

TOY = '''
"""Stands for gorl: trains two stages with a checkpoint between them, or evaluates."""
import json, os, pathlib, signal, sys, time

words = sys.argv[1:]
option = lambda name: words[words.index(name) + 1]
if words[0] == "evaluate":
    assert words[2:] == ["--physics", "jax", "--episodes", "4"]
    print("│ 0 │ best │ 7.5 │ 1.0 │ 6.0 │ 9.0 │")
    sys.exit(0)
resumed = "--resume" in words
folder = pathlib.Path(option("--resume") if resumed else option("--run-dir"))
if "broken.gin" in words:
    sys.exit("gorl: it is broken.")
if not resumed:
    folder.mkdir(parents=True)
    facts = {"format": 3, "seed": 0, "git": {"commit": "abc", "dirty": False}, "versions": {"jax": "1"}}
    (folder / "run.json").write_text(json.dumps(facts))
with open(folder / "starts", "a") as file:
    print(sorted(os.sched_getaffinity(0)), os.nice(0), os.environ["OMP_NUM_THREADS"], file=file)
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
while os.environ.get("TOY_WAITS") and not stopped and not resumed:
    time.sleep(0.01)
if stopped:
    sys.exit(143)
line = lambda stage, subset, value: json.dumps({
    "unit": 1, "stage": stage, "phase": "p", "kind": "k", "subset": subset, "axis": "env_steps",
    "env_steps": 100 * (stage + 1), "wall_s": 60.0 * (stage + 1), "metrics": {"return": value, "length": 9.0}}) + "\\n"
(folder / "metrics.jsonl").write_text(
    line(0, "eval", 5.0) + line(0, "final_best", 4.0) + line(0, "final_last", 3.0)
    + line(1, "eval", 2.0) + line(1, "final_best", 6.0) + line(1, "final_last", 1.0))
(folder / "status.json").write_text('{"status": "finished"}')
'''


def scale_of(methods, seeds=1, **more):
    known = {"name": "toy", "title": "Toy", "about": "Toy.", "pairs": [], "published": {}, "episodes": 4}
    block = SeedBlock(methods=[*methods], tasks=["A"], seeds=seeds)
    return SeedScale(**known | {"methods": methods, "blocks": {"x": block}} | more)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Makes a driver of toy commands on one core, and what it says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text(TOY)
    for name in ("good.gin", "broken.gin"):
        (tmp_path / name).touch()
    monkeypatch.setattr(runner, "can_evaluate", lambda: True)
    core, said = min(os.sched_getaffinity(0)), []

    def make(scale):
        processes = Processes((core,), 3, (sys.executable, str(tmp_path / "toy.py")))
        return Runner(scale, Places(tmp_path / "work", tmp_path / "out"), processes, said.append)

    return make, said, core


def test_every_cell_runs_on_its_core_and_nothing_is_repeated(toy, tmp_path):
    make, said, core = toy
    scale = scale_of({"good": ["good.gin"], "broken": ["broken.gin"], "later": ["later.gin"]}, seeds=2)
    driver = make(scale)
    ends = driver.run(scale.cells())
    good = ["good/A/seed0", "good/A/seed1"]
    assert ends == {
        "without later.gin": ["later/A/seed0", "later/A/seed1"],
        "finished": good,
        "evaluated": good,
        "failed": ["broken/A/seed0", "broken/A/seed1"],
        "left": [],
    }
    assert any("gorl: it is broken." in line for line in said)
    starts = (tmp_path / "work" / "toy" / "good" / "A" / "seed1" / "starts").read_text()
    assert starts == f"[{core}] {os.nice(0) + 3} 1\n"
    facts = driver.result(SeedCell("good", "A", 1)).facts
    assert facts["command"] == ["gorl", "train", "good.gin", "--set", "SEED = 1"]
    assert (facts["best"], facts["newest"], facts["env_steps"]) == (4.0, 1.0, 200)  # the best stage by evaluations
    assert (facts["wall_minutes"], facts["mjx"]) == (2.0, {"best": 7.5, "episodes": 4}) and facts["core_minutes"] > 0
    assert (facts["git"]["commit"], facts["versions"]) == ("abc", {"jax": "1"})
    assert str(tmp_path) not in json.dumps(facts)
    again = driver.run([SeedCell("good", "A", 0), SeedCell("good", "A", 1)])
    assert again == {"done before": good, "left": []}


def test_without_the_option_nothing_is_evaluated_until_it_exists(toy, monkeypatch):
    make, said, _ = toy
    scale = scale_of({"good": ["good.gin"]})
    monkeypatch.setattr(runner, "can_evaluate", lambda: False)
    assert make(scale).run(scale.cells()) == {"finished": ["good/A/seed0"], "left": []}
    assert make(scale).result(scale.cells()[0]).facts["mjx"] == {} and "has no --physics" in said[0]
    monkeypatch.setattr(runner, "can_evaluate", lambda: True)
    assert make(scale).run(scale.cells()) == {"evaluated": ["good/A/seed0"], "left": []}
    assert make(scale).result(scale.cells()[0]).mjx == 7.5


def test_a_deadline_stops_cells_and_the_same_call_resumes_them(toy, tmp_path, monkeypatch):
    make, said, _ = toy
    scale = scale_of({"good": ["good.gin"]}, seeds=2)
    monkeypatch.setenv("TOY_WAITS", "1")
    ends = make(scale).run(scale.cells(), deadline=time.monotonic() + 1.0)
    assert ends == {"left": ["good/A/seed1", "good/A/seed0"]} and "stopped" in said[-1]
    starts = tmp_path / "work" / "toy" / "good" / "A" / "seed0" / "starts"
    shown = []
    runner.show(make(scale), scale.cells(), shown.append)
    assert shown[0].endswith("train (begun)") and shown[2] == "2 cells, 2 left"
    monkeypatch.delenv("TOY_WAITS")
    assert make(scale).run(scale.cells())["finished"] == ["good/A/seed0", "good/A/seed1"]
    assert len(starts.read_text().splitlines()) == 2  # it was resumed


def test_a_killed_driver_takes_its_processes_with_it(toy, tmp_path):
    """They get SIGTERM, which they take as a wish to save and end."""
    code = (
        "import sys; from experiments.reproduce.seeds import runner; import subprocess, time\n"
        "subprocess.Popen([sys.executable, sys.argv[1], 'train', '--run-dir', sys.argv[2]],"
        " preexec_fn=runner._end_with_parent)\ntime.sleep(60)"
    )
    env = {**os.environ, "TOY_WAITS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(scales.ROOT)}
    driver = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "toy.py"), str(tmp_path / "run")], env=env)
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "starts").exists():
        assert time.monotonic() < deadline and driver.poll() is None
        time.sleep(0.01)
    children = pathlib.Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    while any(alive(int(child)) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(children) == 1


def alive(pid):
    """Whether a process runs. One that waits for its new parent does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_gorl_evaluate_prints_is_read():
    printed = (
        "run: 32 fresh episodes, rule mode\n┃ seed ┃ policy ┃ return ┃ std ┃ min ┃ max ┃\n"
        "│ 0    │ best   │ 915.2  │ 3.0 │ 9.0 │ 9.5 │\n│ 0    │ last   │ -1.5   │ 3.0 │ 9.0 │ 9.5 │\n"
        "│ all  │ best   │ 3.0    │ 3.0 │ 9.0 │ 9.5 │\n"
    )
    assert runner.policies(printed) == {"best": 915.2, "last": -1.5}


def entry(stage, subset, **metrics):
    return RecordEntry(1, stage, "phase", "kind", subset, "env_steps", 100 * (stage + 1), 1.0, metrics)


def test_the_stages_of_a_record_by_hand():
    entries = [
        entry(0, "eval", **{"return": 1.0}),
        entry(0, "iterate", **{"return": 99.0}),
        entry(0, "eval", **{"return": 8.0}),
        entry(0, "eval", **{"return": float("nan")}),
        entry(0, "final_best", **{"return": 6.0, "return_std": 2.0, "episode_length": 5.0}),
        entry(1, "eval", **{"return": 7.0}),
        entry(1, "final_best", **{"return": 9.0}),
        entry(1, "final_best_stochastic", **{"return": 5.0}),
        entry(1, "final_last", **{"return": 3.0}),
    ]
    found = record.stages(entries)
    assert found[0] == {
        "stage": 0,
        "env_steps": 100,
        "best_evaluation": 8.0,
        "last_evaluation": 8.0,
        "finals": {"final_best": {"return": 6.0, "return_std": 2.0}},
    }
    assert found[1]["finals"]["final_best_stochastic"] == {"return": 5.0}
    assert (record.best(found), record.newest(found)) == (6.0, 3.0)
    diverged = record.stages(entries[:2])
    assert (record.best(diverged), record.newest(diverged)) == (1.0, 1.0) and record.best([]) is None


def test_the_declared_blocks():
    scale = scales.load("two_cores")
    assert {name: len(scale.cells([name])) for name in scale.blocks} == {"a": 60, "b": 100, "c": 18, "d": 48, "e": 40}
    first = [str(cell) for cell in scale.cells(["a"])[:4]]
    assert first[:3] == [f"{m}/CheetahRun/seed0" for m in ("PPO", "GoRL-FM", "GoRL-FM, no swap")]
    assert first[3] == "PPO/HopperStand/seed0" and scale.cells() == [c for n in scale.blocks for c in scale.cells([n])]
    assert {cell.seed for cell in scale.cells()} == {0, 1, 2, 3, 4}
    assert {*scale.tasks} <= {*page.read_records()}
    with pytest.raises(ConfigError, match="the blocks of two_cores are a, b, c, d, e"):
        scale.cells(["f"])
    with pytest.raises(ConfigError, match="'god' is not one of its methods. Did you mean good?"):
        scale_of({"good": []}, pairs=[["good", "god"]])


@pytest.mark.parametrize("method", scales.load("two_cores").methods)
def test_every_method_builds_at_its_budget(method, tmp_path, monkeypatch):
    monkeypatch.chdir(scales.ROOT)
    scale = scales.load("two_cores")
    cell = next(c for c in scale.cells() if c.method == method)
    driver = Runner(scale, Places(tmp_path, tmp_path), Processes((0,), 0), print)
    if missing := driver.missing(cell):
        pytest.skip(f"there is no {missing} yet")
    experiment = config.build(*scale.words(cell)).experiment
    steps = 30_384_000 if "30M" in method else 10_384_000
    assert experiment.env_steps() == pytest.approx(steps, rel=0.01)
    environment = experiment.task.environment
    assert (environment.name, environment.impl, environment.threads) == (cell.task, "native", 1)
    assert experiment.seed == 0 and not experiment.trackers and not experiment.pictures


def result(method, task, seed, score, mjx=None):
    finals = {"final_best": {"return": score}}
    facts = {"status": "finished", "best": score, "env_steps": 10_400_000, "core_minutes": 4.0 + seed}
    facts |= {"stages": [{"finals": finals}], "mjx": {} if mjx is None else {"best": mjx}}
    facts |= {"git": {"commit": "0123456789abc"}, "device": {"cpu": "Abacus"}, "versions": {"jax": "1", "mujoco": "2"}}
    return record.SeedResult(SeedCell(method, task, seed), facts)


def test_the_page_by_hand():
    scale = scales.load("two_cores")
    results = [result("GoRL-FM", "CheetahRun", i, v, v - 10) for i, v in enumerate((800.0, 900.0, 910.0))]
    results += [result("PPO", "CheetahRun", i, v) for i, v in enumerate((700.0, 850.0, 700.0, 700.0, 950.0))]
    text = markdown(page.section(scale, results, table.published()))
    rows = {line.split("|")[1].strip(): line for line in reversed(text.splitlines()) if line.startswith("| ")}
    assert "| **870** [800, 910], 3 of 5 seeds (883) | – |" in rows["GoRL-FM"] and "| 10.4M | 5.0 |" in rows["GoRL-FM"]
    assert "| **780** [700, 880] (725) |" in rows["PPO"] and "| 10.4M | 6.0 |" in rows["PPO"]
    assert "| 933, REPPO | 875, GoRL-Diffusion |" in rows["record"]
    # of 15 pairs: 800 beats the three 700, 900 and 910 beat them and 850
    assert np.isclose(11 / 15, 0.73, atol=0.005) and "| 0.73 [" in rows["GoRL-FM above PPO"]
    assert "| GoRL-FM | 870 → 860 (3) |" in text and "GoRL-FM, no swap |" not in text
    assert "8 cells: one core of Abacus; commit 0123456789; jax 1, mujoco 2" in text
    assert "Unmeasured: 52 of 60 cells of block a, 100 of 100 cells of block b" in text


def test_a_scale_without_results_is_one_line():
    blocks = page.section(scales.load("two_cores"), [], {})
    assert len(blocks) == 3 and blocks[2].text.startswith("Unmeasured: 60 of 60 cells of block a, ")


def test_cells_are_chosen_on_the_command_line(tmp_path, capsys, monkeypatch):
    words = ["--scale", "two_cores", "--work", str(tmp_path / "w"), "--out", str(tmp_path / "o"), "--dry-run"]
    assert run.main([*words, "--blocks", "a,c", "--cores", "1"]) == 0
    assert "78 cells, 78 left" in capsys.readouterr().out
    assert run.main([*words, "--only", "PPO/CheetahRun", "--only", "GoRL-FM/FishSwim/seed2"]) == 0
    assert "6 cells, 6 left" in capsys.readouterr().out
    assert run.main([*words, "--only", "PPO/Nowhere"]) == 2
    assert "there is no such cell" in capsys.readouterr().err
    assert run.main([*words, "--cores", "1000"]) == 2


@pytest.mark.slow
def test_a_real_cell_that_is_stopped_ends_like_an_undisturbed_one(tmp_path):
    (tmp_path / "size.gin").write_text(
        "include 'parts/debug.gin'\nTask.environment = @Slider()\nEPISODE_LENGTH = 20\nExperiment.trackers = []\n"
    )
    scale = scale_of({"PPO": ["ppo.gin", str(tmp_path / "size.gin")]})
    processes, said = Processes(runner.usable_cores(1), 0), []
    whole = Runner(scale, Places(tmp_path / "a", tmp_path / "a_out"), processes, said.append)
    assert whole.run(scale.cells())["finished"] == ["PPO/A/seed0"], said
    cut = Runner(scale, Places(tmp_path / "b", tmp_path / "b_out"), processes, said.append)
    assert cut.run(scale.cells(), deadline=time.monotonic() + 4.0)["left"] == ["PPO/A/seed0"]
    assert cut.run(scale.cells())["finished"] == ["PPO/A/seed0"], said
    ours, theirs = (r.result(scale.cells()[0]).facts for r in (cut, whole))
    assert ours["stages"] == theirs["stages"] and ours["best"] == theirs["best"] is not None
