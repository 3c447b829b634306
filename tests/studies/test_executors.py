"""The same study, run in other ways and interrupted in others, ends with the same bits."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import pytest

from gorl.errors import ConfigError, RunError
from gorl.runtime import compilation
from gorl.studies.executors import NAMES
from gorl.studies.executors.base import Watch
from gorl.studies.executors.local_processes import LocalProcesses
from gorl.studies.executors.ray import Ray
from gorl.studies.folder import StudyFolder
from gorl.studies.halving import SuccessiveHalving
from gorl.studies.jobs import JobSettings
from gorl.studies.plan import make_plan
from tests.support.toy_study import assert_same, status, sweep, write

STUDY = """
Study.grid = {'STAGE_KL': [0.0, 0.5]}
Study.seeds = 1
LocalProcesses.cores = 0
LocalProcesses.workers = 2
"""


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Each run computed by itself, in this process."""
    root = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GORL_CACHE", str(root / "cache"))
        study, result, _ = sweep(write(root, STUDY), root / "study", reuse=False)
    assert result.statuses == {"finished": 2}
    return study


def assert_all_same(study, reference):
    for job in reference.jobs():
        assert_same(study.path / job.folder, reference.path / job.folder)


def test_processes_give_the_same_bits(reference, tmp_path, cache):
    study, result, _ = sweep(write(tmp_path, STUDY), tmp_path / "study", "Sweep.executor = @LocalProcesses()")
    assert result.statuses == {"finished": 2}
    assert_all_same(study, reference)
    assert len(list((study.path / "logs").iterdir())) == 2
    taken = sorted(status(study.path / job.folder)["reused"]["phases"] for job in study.jobs())
    assert taken == [0, 4]  # one process computed what both variants share


@pytest.mark.slow
def test_one_process_lets_programs_go_after_each_run(reference, tmp_path, cache, monkeypatch):
    calls, clear = [], jax.clear_caches
    monkeypatch.setattr(compilation, "MOST_MAPPINGS", 0)
    monkeypatch.setattr(jax, "clear_caches", lambda: (calls.append(1), clear()))
    study, result, _ = sweep(write(tmp_path, STUDY), tmp_path / "study")
    assert result.statuses == {"finished": 2} and len(calls) == 2
    assert_all_same(study, reference)


def gorl_sweep(path: pathlib.Path, folder: pathlib.Path, *more: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "gorl.cli.main",
        "sweep",
        str(path),
        "--dir",
        str(folder),
        "--no-aim",
        "--no-report",
        *more,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_until(condition, process):
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def state_of(run: pathlib.Path) -> str:
    return status(run)["status"] if (run / "status.json").exists() else "new"


@pytest.mark.parametrize("executor", ["in_process", pytest.param("local_processes", marks=pytest.mark.slow)])
def test_a_killed_sweep_goes_on_and_repeats_nothing(executor, reference, tmp_path, cache):
    path, folder = write(tmp_path, STUDY, checkpoint_interval=0.0), tmp_path / "study"
    first, second = folder / "STAGE_KL=0.0" / "seed0", folder / "STAGE_KL=0.5" / "seed0"
    process = gorl_sweep(path, folder, "--executor", executor)
    wait_until(lambda: state_of(first) == "finished" and state_of(second) == "running", process)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    kept = (first / "metrics.jsonl").read_bytes()
    again = gorl_sweep(path, folder, "--executor", executor)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0 and "1 of 2 are done already" in output and "2 finished" in output
    assert (first / "metrics.jsonl").read_bytes() == kept  # with its clock
    assert_all_same(StudyFolder.open(folder), reference)


def test_sigterm_saves_the_runs_and_the_same_command_goes_on(reference, tmp_path, cache):
    path, folder = write(tmp_path, STUDY, checkpoint_interval=0.0), tmp_path / "study"
    process = gorl_sweep(path, folder, "--executor", "local_processes")
    wait_until(lambda: state_of(folder / "STAGE_KL=0.0" / "seed0") == "running", process)
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "The same command resumes the study" in output
    assert state_of(folder / "STAGE_KL=0.0" / "seed0") in ("interrupted", "finished")
    again = gorl_sweep(path, folder)
    assert again.communicate(timeout=300) and again.returncode == 0
    assert_all_same(StudyFolder.open(folder), reference)


def test_a_job_that_cannot_run_does_not_end_the_others(reference, tmp_path, cache):
    path, folder = write(tmp_path, STUDY.replace("Study.seeds = 1", "Study.seeds = [0, 1]")), tmp_path / "study"
    torn, broken = folder / "STAGE_KL=0.0" / "seed1", folder / "STAGE_KL=0.5" / "seed0"
    (torn / "checkpoints").mkdir(parents=True)
    broken.mkdir(parents=True)
    (broken / "run.json").write_text("{")
    (folder / "study.json").write_text(json.dumps({**reference.read(), "seeds": [0, 1], "halving": []}))
    shutil.copytree(reference.path / "STAGE_KL=0.0" / "seed0", folder / "STAGE_KL=0.0" / "seed0")
    study, result, _ = sweep(path, folder)
    assert result.statuses == {"finished": 2, "failed": 2}
    assert "has checkpoints but no run.json" in result.failures["STAGE_KL=0.0/seed1"]
    assert result.failures["STAGE_KL=0.5/seed0"].startswith(f"cannot read {broken / 'run.json'}: ")


def test_a_run_of_another_configuration_is_not_taken_for_the_studys(reference, tmp_path, cache):
    path = write(tmp_path, STUDY)
    sweep(path, tmp_path / "study", "WARMUP_STEPS = 240")
    with pytest.raises(
        RunError,
        match=r"STAGE_KL=0.0 has runs of another configuration: it had `WARMUP_STEPS = 240`, now `WARMUP_STEPS = 480`",
    ):
        sweep(path, tmp_path / "study")


def test_one_sweep_at_a_time(tmp_path):
    path = write(tmp_path, STUDY)
    plan = make_plan([str(path)])
    first = StudyFolder.begin(tmp_path / "study", plan)
    with pytest.raises(RunError, match="another process is sweeping"):
        StudyFolder.begin(tmp_path / "study", plan)
    first.close()
    StudyFolder.begin(tmp_path / "study", plan).close()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="other exists and holds no study"):
        StudyFolder.begin(tmp_path / "other", plan)


def test_executors_refuse_impossible_settings():
    with pytest.raises(ConfigError, match="cores = 1000: they are >= 0, and there are"):
        LocalProcesses(workers=0, cores=1000, devices=[])
    assert LocalProcesses(workers=0, cores=0, devices=[4, 5, 6]).workers == 3
    assert set(NAMES) == {"in_process", "local_processes", "ray"}


def test_halving_keeps_the_best_by_their_mean_over_seeds():
    halving = SuccessiveHalving(after=[1, 3], keep=0.5, score="return_final_best")
    scores = {"a": [1.0, 3.0], "b": [5.0, float("nan")], "c": [float("nan")], "d": [2.5, 2.5], "e": [0.0, 0.0]}
    assert halving.survivors(scores) == ["a", "b", "d"]  # 3 of 5, in their own order
    with pytest.raises(ConfigError, match="ascending numbers of stages"):
        SuccessiveHalving(after=[2, 1], keep=0.5, score="x")


def test_hopeless_variants_end_at_a_stages_end(reference, tmp_path, cache):
    study = STUDY + "Sweep.halving = @SuccessiveHalving()\nSuccessiveHalving.score = 'return_best_evaluation'\n"
    study = study.replace("'STAGE_KL': [0.0, 0.5]", "'stage0/OnPolicy.learning_rate': [1e-3, 0.5]")
    folder, result, said = sweep(write(tmp_path, study), tmp_path / "study")
    (decision,) = folder.read()["halving"]
    assert decision["stages"] == 1 and len(decision["stopped"]) == 1 and "end here" in said[0]
    assert result.statuses == {"finished": 1, "stopped": 1}
    means = {name: sum(scores) for name, scores in decision["scores"].items()}
    assert decision["stopped"] == [min(means, key=means.get)]
    for job in folder.jobs():
        stopped = job.variant in decision["stopped"]
        assert status(folder.path / job.folder)["status"] == ("stopped" if stopped else "finished")
        stages = {
            json.loads(line)["stage"] for line in (folder.path / job.folder / "metrics.jsonl").read_text().splitlines()
        }
        assert stages == ({0} if stopped else {0, 1})
    again, result, said = sweep(write(tmp_path, study), tmp_path / "study")
    assert again.read()["halving"] == [decision] and said == [] and result.statuses == {"finished": 1, "stopped": 1}


@pytest.fixture
def cluster(cache):
    """A Ray cluster of two workers on this machine."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_ray_gives_the_same_bits_also_after_the_loss_of_a_worker(cluster, reference, tmp_path):
    import threading

    folder, killed = tmp_path / "study", []

    def kill_one():
        """The worker of the first run, once it has a checkpoint in the middle of a phase."""
        run = folder / "STAGE_KL=0.0" / "seed0"
        while not ((run / "metrics.jsonl").exists() and len((run / "metrics.jsonl").read_text().splitlines()) >= 2):
            time.sleep(0.005)
        killed.append(status(run)["pid"])
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    study, result, _ = sweep(write(tmp_path, STUDY, checkpoint_interval=0.0), folder, "Sweep.executor = @Ray()")
    thread.join(timeout=1)
    assert len(killed) == 1 and killed[0] != os.getpid()
    assert result.statuses == {"finished": 2} and result.failures == {}
    assert_all_same(study, reference)


@pytest.mark.slow
def test_ray_refuses_more_cpus_than_any_machine_has(cluster, tmp_path):
    with pytest.raises(RunError, match="no machine of the Ray cluster has 64 CPUs and 0 GPUs"):
        sweep(write(tmp_path, STUDY), tmp_path / "study", "Sweep.executor = @Ray()", "Ray.cpus = 64.0")


def test_ray_without_a_cluster_says_so():
    pytest.importorskip("ray")
    executor = Ray(address="127.0.0.1:1", cpus=1.0, gpus=0.0, retries=0)
    with pytest.raises(RunError, match="no Ray cluster answers there"):
        executor.run(StudyFolder(pathlib.Path()), [], JobSettings(), Watch(print, print, print))
