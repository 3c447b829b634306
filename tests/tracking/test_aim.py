"""Aim, for real: what is written can be queried without `aim up`; a resumed run is the same Aim run."""

import gc
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading

import PIL.Image
import pytest

import gorl.tracking.aim
from gorl.tracking import aim_repository as repositories, background
from gorl.tracking.aim import AimTracker
from gorl.tracking.turns import Turns
from tests.support import commands
from tests.support.run_folders import FACTS, TWO_STAGES, entry, info, stage, write

aim = pytest.importorskip("aim")


def picture(path, frames):
    images = [PIL.Image.new("L", (8, 6), 80 * i) for i in range(frames)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=40)


def track(folder, repo, entries, resumed, pictures=()):
    run = AimTracker(repo=str(repo), interval=0.1, experiment=None).start(info(folder, resumed=resumed))
    for e in entries:
        run.log(e)
    for path in pictures:
        run.picture(path, "Rollout", 200, 2, "Rollout, after stage 1")
    run.close("finished", {"return_final_best": 2.0})
    return run


def series(repo, query):
    """[(run's hash, context, [(step, epoch, value)])] of the metrics that answer a query."""
    found = []
    for m in aim.Repo(str(repo)).query_metrics(query, report_mode=0):
        steps, (values, epochs, _) = m.data.numpy()
        found.append(
            (m.run.hash, dict(m.context.to_dict()), sorted(zip(steps.tolist(), epochs.tolist(), values.tolist())))
        )
    return found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    yield tmp_path / "run"
    gc.collect()


def test_a_run_is_one_series_that_resuming_goes_on_with(tmp_path, folder):
    repo = tmp_path / "repo"
    track(folder, repo, [entry(1, 1.0), entry(2, 2.0), entry(2, 5.0, "train")], resumed=False)
    track(folder, repo, [entry(3, 3.0)], resumed=True)
    ((run_hash, context, points),) = series(
        repo, "metric.name == 'return' and metric.context.subset == 'eval' and run.hparams.seed == 3"
    )
    assert context == {"subset": "eval"} and points == [(100, 1, 1.0), (200, 2, 2.0), (300, 3, 3.0)]
    run = aim.Run(run_hash, repo=str(repo), read_only=True)
    assert (
        run["gin"]["Clip"]["epsilon"] == 0.2
        and run["status"] == "finished"
        and run["summary"] == {"return_final_best": 2.0}
    )
    assert run.experiment == "study" and run.name == "run-1" and run.tags == ["finished"] and not run.active


def test_swaps_are_scalars_at_the_stage_that_they_begin(tmp_path):
    folder = write(tmp_path / "run", [], entries=[*TWO_STAGES, *stage(2, selected=1.0, best=1.0, last=1.0, mode=7.0)])
    commands.gorl("track", "import", folder, "--repo", tmp_path / "repo")
    found = {
        name: [(step, value) for step, _, value in points]
        for name in ("return_before", "return_after", "return_after_stochastic", "latent_kl", "decoder_validation")
        for _, _, points in series(tmp_path / "repo", f"metric.name == 'swap/{name}'")
    }
    assert found == {
        "return_before": [(1, 50.0), (2, 70.0)],
        "return_after": [(1, 48.0), (2, 7.0)],
        "return_after_stochastic": [(1, 44.0)],
        "latent_kl": [(1, 0.5)],
        "decoder_validation": [(1, 2.0)],
    }
    (run,) = aim.Repo(str(tmp_path / "repo")).iter_runs()
    assert run["summary"]["return_final_best"] == 50.0 and run["summary"]["best_stage"] == 0
    gc.collect()


def test_hyperparameters_of_a_run_can_be_queried(tmp_path, folder):
    track(folder, tmp_path / "repo", [entry(1, 1.0)], resumed=False)
    (run,) = (
        aim.Repo(str(tmp_path / "repo"))
        .query_runs("run.hparams.variant == 'slow' and run.hparams.axes.KL < 0.2", report_mode=0)
        .iter_runs()
    )
    found = run.run["hparams"]
    assert found.pop("method").startswith("slow [")
    assert found == {
        "seed": 3, "variant": "slow", "axes": {"KL": 0.1, "decoder": "spline"}, "env": "Slider",
        "task": {"episode_length": 50}, "macros": {"SEED": 3},
    }  # fmt: skip


def test_wall_clock_is_an_x_axis_of_returns(tmp_path, folder):
    """The same steps in the same context, and never 0, which Aim leaves out."""
    first = entry(0, 0.5)
    assert first.wall_s == 0.0
    track(folder, tmp_path / "repo", [first, entry(1, 1.0)], resumed=False)
    where = "metric.context.subset == 'eval'"
    ((_, context, returns),) = series(tmp_path / "repo", f"metric.name == 'return' and {where}")
    ((_, same, seconds),) = series(tmp_path / "repo", f"metric.name == 'wall_s' and {where}")
    assert context == same and [p[:2] for p in returns] == [p[:2] for p in seconds] == [(0, 0), (100, 1)]
    assert [p[2] for p in seconds] == [1e-3, 0.5]


def test_pictures_are_images_and_gifs_stay_animated(tmp_path, folder):
    picture(tmp_path / "b.gif", frames=3)
    track(folder, tmp_path / "repo", [entry(1, 1.0)], False, [tmp_path / "b.gif"])
    (found,) = aim.Repo(str(tmp_path / "repo")).query_images("images.name == 'Rollout'", report_mode=0)
    steps, (images, epochs, _) = found.data.numpy()
    assert steps.tolist() == [200] and epochs.tolist() == [2] and images[0].caption == "Rollout, after stage 1"
    assert PIL.Image.open(io.BytesIO(bytes(images[0].storage["data"]))).n_frames == 3


def test_a_copied_folder_has_a_run_of_its_own_with_what_came_before(tmp_path, folder):
    repo, old = tmp_path / "repo", tmp_path / "old"
    write(old, [1.0, 2.0])
    track(old, repo, [entry(1, 1.0), entry(2, 2.0)], resumed=False)
    copy = tmp_path / "copy"
    shutil.copytree(old, copy)
    track(copy, repo, [entry(3, 9.0)], resumed=True)
    track(old, repo, [entry(3, 3.0)], resumed=True)
    where = "metric.name == 'return' and metric.context.subset == 'eval'"
    found = {run: [value for _, _, value in points] for run, _, points in series(repo, where)}
    own = {run: folders for run, folders in repositories._folders(repo).items()}
    assert {own[run]: values for run, values in found.items()} == {
        str(old): [1.0, 2.0, 3.0],
        str(copy): [1.0, 2.0, 9.0],
    }
    assert repositories.delete(repo, copy) == 1  # and not the original's
    assert list(repositories._folders(repo).values()) == [str(old)]
    moved = tmp_path / "moved"
    old.rename(moved)
    track(moved, repo, [entry(4, 4.0)], resumed=True)
    assert list(repositories._folders(repo).values()) == [str(moved)]
    ((_, _, points),) = series(repo, where)
    assert [value for _, _, value in points] == [1.0, 2.0, 3.0, 4.0]


def test_runs_are_grouped_by_what_they_are(tmp_path):
    """The same whatever the seed and the trackers, and another for any setting; it is named as it was asked for."""

    def method(**more):
        facts = {**FACTS, "asked": ["gin/ppo.gin", "parts/small.gin", "SEED = 4", "STEPS = 3"], **more.pop("facts", {})}
        return info(tmp_path, **{"variant": None, "facts": facts, **more}).hparams["method"]

    tree = {"macros": {}, "gin": {"Clip": {"epsilon": 0.2}, "Experiment": {"seed": 3, "trackers": ["@AimTracker()"]}}}
    other = {"macros": {}, "gin": {"Clip": {"epsilon": 0.2}, "Experiment": {"seed": 4, "trackers": []}}}
    changed = {"macros": {}, "gin": {"Clip": {"epsilon": 0.3}, "Experiment": {"seed": 3, "trackers": []}}}
    assert method(parameters=tree).startswith("ppo + small + STEPS = 3 [")
    assert method(parameters=tree) == method(parameters=other) != method(parameters=changed)
    assert method(parameters=tree, variant="slow").startswith("slow [")
    assert method(parameters=tree) != method(parameters=tree, facts={"plugin_files": {"a.py": {"a.py": "1"}}})
    about = {"environment": {"name": "Robot", "model_sha256": "0123456789"}}
    assert info(tmp_path, facts=about).hparams["env"] == "Robot [01234567]"


def test_a_note_remembers_every_repository(tmp_path, folder):
    for name in ("one", "two"):
        track(folder, tmp_path / name, [entry(1, 1.0)], resumed=False)
    track(folder, tmp_path / "one", [entry(2, 2.0)], resumed=True)
    assert [len(aim.Repo(str(tmp_path / name)).list_all_runs()) for name in ("one", "two")] == [1, 1]


CHILD = """
import fcntl, sys, time, pathlib
from tests.support.run_folders import entry, info
from gorl.tracking.aim import AimTracker
folder = pathlib.Path(sys.argv[1])
lock = open(folder / ".lock", "a")
fcntl.flock(lock, fcntl.LOCK_EX)
run = AimTracker(repo=sys.argv[2], interval=0.05, experiment=None).start(info(folder))
run.log(entry(1, 1.0))
while run.written < 2:
    time.sleep(0.05)
print("written", flush=True)
time.sleep(600)
"""


def test_a_killed_run_does_not_stay_in_progress(tmp_path):
    """While its process lives it is left alone; after SIGKILL it is closed, and resuming goes on with it."""
    folder, repo = write(tmp_path / "run", [1.0]), tmp_path / "repo"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, folder, repo],
        env={**os.environ, "PYTHONPATH": str(commands.ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline() == "written\n"
        (folder / "status.json").write_text(json.dumps({"status": "running", "pid": child.pid}))
        assert repositories.close_dead_runs(repo) == {}
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert len(aim.Repo(str(repo)).list_active_runs()) == 1
    assert repositories.close_dead_runs(repo) == {str(folder): "killed"}
    assert aim.Repo(str(repo)).list_active_runs() == []
    (run,) = (r.run for r in aim.Repo(str(repo)).query_runs("run.status == 'killed'", report_mode=0).iter_runs())
    assert (
        not run.active
        and run.end_time is not None
        and run.tags == ["killed"]
        and run["summary"]["return_untrained"] == 1.0
    )
    run_hash = run.hash
    del run
    gc.collect()
    track(folder, repo, [entry(2, 2.0)], resumed=True)
    ((same, _, points),) = series(repo, "metric.name == 'return'")
    assert same == run_hash and [p[2] for p in points] == [1.0, 2.0]
    assert aim.Run(same, repo=str(repo), read_only=True)["status"] == "finished"


def test_a_tracker_that_fails_is_a_warning(tmp_path, folder, caplog, monkeypatch):
    monkeypatch.setattr(repositories, "open_run", lambda *a, **k: (_ for _ in ()).throw(OSError("no space")))
    with caplog.at_level(logging.WARNING):
        run = track(folder, tmp_path / "repo", [entry(1, 1.0)], resumed=False)
    assert "Aim tracking stops (OSError: no space)" in caplog.text and run.failed


def test_without_aim_gorl_says_so_and_goes_on(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(repositories, "available", lambda: False)
    with caplog.at_level(logging.WARNING):
        track(tmp_path, tmp_path / "repo", [entry(1, 1.0)], resumed=False)
    assert "Aim is not installed: pip install aim" in caplog.text and "its record is complete" in caplog.text


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_runs_that_ended_leave_no_file_no_thread_and_no_watch(tmp_path):
    counts = []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        run = AimTracker(repo=str(tmp_path / "repo"), interval=0.01, experiment=None).start(
            info(tmp_path / str(number))
        )
        run.log(entry(number, 1.0))
        run.close("finished", {})
        counts.append((open_files(), threading.active_count()))
    assert counts[1] == counts[0] and counts[2] == counts[0]


def test_more_runs_than_may_be_open_take_turns_and_lose_nothing(tmp_path, monkeypatch):
    """Of six, one may be open at a time."""
    monkeypatch.setattr(gorl.tracking.aim, "TURNS", Turns(1))
    monkeypatch.setattr(background, "_IDLE", 0.05)
    tracker = AimTracker(repo=str(tmp_path / "repo"), interval=0.01, experiment=None)
    folders = [tmp_path / str(number) for number in range(6)]
    for folder in folders:
        folder.mkdir()
    runs = [tracker.start(info(folder)) for folder in folders]
    for unit in range(1, 4):
        for number, run in enumerate(runs):
            run.log(entry(unit, float(10 * number + unit)))
    for run in runs:
        run.close("finished", {})
    assert not any(run.failed for run in runs)
    found = series(tmp_path / "repo", "metric.name == 'return'")
    values = sorted([value for *_, value in points] for *_, points in found)
    assert values == [[10.0 * number + unit for unit in (1, 2, 3)] for number in range(6)]
