"""Aim, for real: what is written can be queried without `aim up`; a resumed run is the same Aim run."""

import gc
import logging

import pytest

from gorl.tracking import aim as tracking, links
from gorl.tracking.aim import AimTracker
from gorl.tracking.base import Entry, RunInfo

aim = pytest.importorskip("aim")

INFO = dict(
    name="run-1", study="study", variant="slow", axes={"STAGE_KL": "0.1"}, seed=3,
    parameters={"macros": {"SEED": 3}, "gin": {"Clip": {"epsilon": 0.2}}}, config="x = 1", facts={"gorl": "0"},
)  # fmt: skip


def entry(unit, value, subset="eval"):
    return Entry(unit, 1, "ImprovePolicy", "evaluate", subset, "env_steps", 100 * unit, 0.5 * unit, {"return": value, "loss/value": 1.0})


def track(folder, repo, entries, resumed):
    tracker = AimTracker(repo=str(repo), interval=0.1, experiment=None).start(RunInfo(folder=str(folder), resumed=resumed, **INFO))
    for e in entries:
        tracker.log(e)
    tracker.close("finished", {"return_final_best": 2.0})


def series(repo, query):
    metrics = list(aim.Repo(str(repo)).query_metrics(query, report_mode=0))
    found = [(m.run.hash, m.name, dict(m.context.to_dict()), m.values.sparse_numpy()) for m in metrics]
    steps = [sorted(zip(*(x.tolist() for x in (m.data.numpy()[0], m.data.numpy()[1][0])))) for m in metrics]
    return found, steps


def test_a_run_is_one_series_that_resuming_goes_on_with(tmp_path):
    folder, repo = tmp_path / "run", tmp_path / "repo"
    folder.mkdir()
    track(folder, repo, [entry(1, 1.0), entry(2, 2.0), entry(2, 5.0, "train")], resumed=False)
    track(folder, repo, [entry(3, 3.0)], resumed=True)
    found, steps = series(repo, "metric.name == 'return' and metric.context.subset == 'eval' and run.hparams.seed == 3")
    assert len(found) == 1 and found[0][2] == {"subset": "eval"}
    assert steps == [[(100, 1.0), (200, 2.0), (300, 3.0)]]
    run = aim.Run(found[0][0], repo=str(repo), read_only=True)
    assert run["gin"]["Clip"]["epsilon"] == 0.2 and run["summary"]["status"] == "finished" and run["summary"]["return_final_best"] == 2.0
    assert run.experiment == "study" and run.name == "run-1"
    del run
    gc.collect()


def test_a_tracker_that_fails_is_a_warning(tmp_path, caplog, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr(tracking, "open_run", lambda *a, **k: (_ for _ in ()).throw(OSError("no space")))
    logging.getLogger("gorl").propagate = True
    with caplog.at_level(logging.WARNING):
        track(folder, tmp_path / "repo", [entry(1, 1.0)], resumed=False)
    assert "Aim tracking stops (OSError: no space)" in caplog.text


def test_without_aim_gorl_says_so_and_goes_on(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(tracking, "available", lambda: False)
    logging.getLogger("gorl").propagate = True
    with caplog.at_level(logging.WARNING):
        track(tmp_path, tmp_path / "repo", [entry(1, 1.0)], resumed=False)
    assert "the run's own record is complete" in caplog.text


def test_links_encode_as_aim_does():
    assert links.encode({"a": 1}) == "O-JTdCJTIyYSUyMjoxJTdE"
    assert links.returns("http://127.0.0.1:1").startswith("http://127.0.0.1:1/metrics?select=O-")
