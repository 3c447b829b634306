"""A run as its own folder tells it."""

import fcntl
import json
import subprocess

import pytest

from gorl import config
from gorl.errors import RunError
from gorl.runs.provenance import FORMAT
from gorl.runs.saved_config import parse_parameters
from gorl.tracking import local
from tests.support.run_folders import CONFIG, write


def test_a_run_is_read_from_its_folder(tmp_path):
    run = local.load_run(write(tmp_path / "run", [1.0, 3.0], picture=b"x"))
    assert [e.metrics["return"] for e in run.entries] == [1.0, 3.0] and run.status == "finished"
    assert run.info.variant == "slow" and run.info.seed == 3 and not run.info.resumed and run.info.config == CONFIG
    assert run.info.hparams["axes"] == {"KL": 0.1} and run.info.hparams["task"]["episode_length"] == 50
    assert run.summary == {"env_steps": 200, "wall_s": 1.0, "return_untrained": 1.0, "return_best_evaluation": 3.0}
    (picture,) = run.pictures
    assert (picture.name, picture.step, picture.unit, picture.caption) == (
        "ActionDensity",
        200,
        2,
        "ActionDensity, after stage 1",
    )


def test_parameters_from_text_are_those_of_the_configuration():
    built = config.build(["gorl_fm.gin", "parts/debug.gin"], ["Task.environment = @Slider()"])
    found, expected = parse_parameters(built.operative), built.parameters()
    plain = lambda tree: {k: {n: v for n, v in p.items() if isinstance(v, (int, float))} for k, p in tree.items() if p}
    assert plain(found["gin"]) == plain(expected["gin"]) and len(plain(found["gin"])) > 20
    assert found["macros"]["FIT_EPOCHS"] == 2 and found["gin"]["stage1/FitDecoder"]["epochs"] == 2
    assert found["gin"]["stage0/Clip"]["epsilon"] == 0.1 and found["gin"]["Task"]["environment"] == "@Slider()"


def test_folders_of_runs_groups_and_studies(tmp_path):
    run = write(tmp_path / "run", [1.0])
    study = tmp_path / "study"
    seeds = [write(study / v / f"seed{s}", [1.0], seed=s) for v in ("fast", "slow") for s in (0, 1)]
    (study / "study.json").write_text(json.dumps({"variants": [{"name": v, "folder": v} for v in ("fast", "slow")]}))
    group = study / "fast"
    (group / "run.json").write_text(json.dumps({"format": FORMAT, "members": ["seed0", "seed1"]}))
    assert local.folders(run) == [run] and local.folders(group) == seeds[:2] and local.folders(study) == seeds
    with pytest.raises(RunError, match="is not a gorl run folder"):
        local.folders(tmp_path)
    (tmp_path / "study.json").write_text('{"variants": []}')
    with pytest.raises(RunError, match="a study without runs"):
        local.folders(tmp_path)


def test_a_damaged_record_is_one_line(tmp_path):
    folder = write(tmp_path / "run", [1.0])
    (folder / "metrics.jsonl").write_text("nonsense\n")
    with pytest.raises(RunError, match=r"run: its record cannot be read \(JSONDecodeError"):
        local.load_run(folder)


def test_the_fate_of_a_run(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    folder = write(tmp_path / "run", [1.0], status={"status": "running", "pid": gone.pid})
    assert local.final_status(folder) == "killed"
    write_status = lambda **state: (folder / "status.json").write_text(json.dumps(state))
    write_status(status="running", pid=1)
    assert local.final_status(folder) is None
    with open(
        folder / ".lock", "a"
    ) as lock:  # the lock knows better than a number that another process may have by now
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_status(status="running", pid=gone.pid)
        assert local.final_status(folder) is None
    write_status(status="running", pid=1)
    assert local.final_status(folder) == "killed"
    write_status(status="diverged")
    assert local.final_status(folder) == "diverged"
    assert local.final_status(tmp_path / "nowhere") is None
