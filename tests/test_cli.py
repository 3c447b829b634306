"""The command line, as a person uses it."""

import json
import shutil
import sys

import pytest

from gorl.errors import ConfigError, GorlError, RunError
from gorl.tracking import aim_repository as tracking
from tests.support.commands import gorl as here, gorl_process as gorl

TOY = [
    "gorl_fm.gin",
    "parts/debug.gin",
    "--set",
    "Task.environment = @Slider()",
    "--set",
    "Experiment.stages = [@stage0/Stage()]",
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_train_evaluate_and_where_things_are(tmp_path, cache):
    output = gorl("train", *TOY, "--no-aim", cwd=tmp_path, cache=cache)
    (run,) = (tmp_path / "runs").iterdir()
    name = f"runs/{run.name}"
    assert f"finished: {name}" in output and f"gorl evaluate {name}" in output
    assert "untrained" in output and "stage 0, best" in output
    assert {p.name for p in run.iterdir()} >= {
        "config.gin",
        "operative_config.gin",
        "sources",
        "run.json",
        "metrics.jsonl",
        "status.json",
        "checkpoints",
    }
    facts = json.loads((run / "run.json").read_text())
    assert facts["environment"]["impl"] == "jax" and facts["precision"] == "highest" and facts["seed"] == 0
    assert facts["versions"]["jax"] and facts["versions"]["gin-config"] == "0.5.0"
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "finished" and status["env_steps"] == 480
    assert status["start_up"]["first_training_step_s"] > 0
    output = gorl("evaluate", name, "--episodes", "4", cwd=tmp_path, cache=cache)
    assert "4 fresh episodes" in output and "best" in output and "last" in output


@pytest.mark.slow
def test_several_seeds_are_runs_of_their_own(tmp_path, cache):
    """In folders and, where Aim is installed, in Aim; together on the command line."""
    less = ["--set", "critic/MLP.depth = 1", "--set", "policy/MLP.depth = 1", "--set", "EPISODE_LENGTH = 20"]
    output = gorl(
        "train",
        *TOY,
        *less,
        "--set",
        "NUM_SEEDS = 2",
        "--set",
        "SEED = 7",
        "--run-dir",
        "both",
        cwd=tmp_path,
        cache=cache,
    )
    assert "seeds 7 to 8" in output and "over 2 seeds" in output
    status = [json.loads((tmp_path / "both" / name / "status.json").read_text()) for name in ("seed7", "seed8", ".")]
    assert [s["status"] for s in status] == ["finished"] * 3 and status[0]["return_final_best"] != status[1][
        "return_final_best"
    ]
    output = gorl("evaluate", "both", "--episodes", "2", "--rule", "stochastic", cwd=tmp_path, cache=cache)
    assert [line.split("│")[1].strip() for line in output.splitlines() if "│" in line and "best" in line] == [
        "7",
        "8",
        "all",
    ]
    if tracking.available():
        import aim

        hashes = [
            json.loads((tmp_path / "both" / name / "aim.json").read_text())["hash"] for name in ("seed7", "seed8")
        ]
        seeds = {run.hash: run["hparams"]["seed"] for run in aim.Repo(str(tmp_path)).iter_runs()}
        assert seeds == dict(zip(hashes, (7, 8)))
    shutil.rmtree(tmp_path / "both" / "seed8" / "checkpoints")  # as of a seed that never came to a policy
    output = gorl("evaluate", "both", "--episodes", "2", cwd=tmp_path, cache=cache)
    assert "seed8 has no checkpoint yet" in output
    assert [line.split("│")[1].strip() for line in output.splitlines() if "│" in line and "best" in line] == [
        "7",
        "all",
    ]


def test_saved_configurations_run_again_to_the_same_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here("train", *TOY, "--no-aim", "--run-dir", "a")
    ends = []
    for source in ("a/config.gin", "a/operative_config.gin"):
        target = source.split("/")[1].removesuffix(".gin")
        here("train", source, "--no-aim", "--run-dir", target)
        ends.append((tmp_path / target / "metrics.jsonl").read_text().splitlines())
    first = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    metrics = lambda lines: [json.loads(line)["metrics"] for line in lines]
    assert metrics(first) == metrics(ends[0]) == metrics(ends[1])


def test_ends_with_one_clear_line(tmp_path, cache, monkeypatch):
    output = gorl("train", "quikstart.gin", cwd=tmp_path, cache=cache, code=2)
    assert output.startswith("gorl: ") and "quickstart.gin" in output
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    assert "is not empty" in here("train", *TOY, "--no-aim", "--run-dir", "full", error=RunError)
    assert "not a gorl run folder" in here("train", "--resume", "nowhere", error=RunError)
    assert "takes no files" in here("train", "x.gin", "--resume", "full", error=ConfigError)
    assert "not a gorl run folder" in here("evaluate", "full", error=RunError)
    assert sys.version_info >= (3, 13) or "no Aim repository" in here("browse", error=GorlError)


def test_version(tmp_path, cache):
    import gorl as package

    assert gorl("--version", cwd=tmp_path, cache=cache).strip() == f"gorl {package.__version__}"
