"""Damaged run folders: every command says in one line what is wrong and where, or does without what is missing."""

import json
import os
import pathlib
import shutil

import pytest

from gorl.errors import RunError
from gorl.studies.folder import StudyFolder
from tests.support import bad_folders
from tests.support.commands import answer
from tests.support.folder_fixtures import folder as folder, sound as sound

COMMANDS = {
    "evaluate": ["evaluate", "run"],
    "report": ["report", "run", "--repetitions", "100"],
    "draw": ["draw", "run", "--picture", "ActionDensity"],
    "check": ["check", "run/config.gin"],
    "resume": ["train", "--resume", "run", "--no-aim"],
    "import": ["track", "import", "run", "--to", "tensorboard"],
}
INSIDE = ("Traceback", "NoneType", "object has no attribute", "<class")


@pytest.mark.parametrize("damage", bad_folders.DAMAGES)
def test_every_command_answers(damage, folder, sound):
    for name in ("evaluate", "report", "resume", "import"):  # `draw` and `check` read what these read
        words = COMMANDS[name]
        shutil.rmtree(folder)
        shutil.copytree(sound, folder)
        bad_folders.DAMAGES[damage](folder)
        code, said = answer(*words)
        assert code == 0 or any(part in said for part in ("run", "--plugin", "@Experiment()")), (name, said)
        assert not [word for word in INSIDE if word in said], (name, said)


# What a command says of a damage, exactly.
ANSWERS = [
    ("resume", "run.json missing", "run is not a gorl run folder (it has no run.json)."),
    ("resume", "another format", "run has run format 999; gorl "),
    ("resume", "run.json a list", "cannot read run/run.json: it should hold an object, {...}, not []."),
    ("resume", "run.json empty", "cannot read run/run.json: it is not JSON ("),
    ("resume", "no seed", "cannot read run/run.json: it has no 'seed'."),
    ("resume", "no device", "cannot read run/run.json: it has no 'device'."),
    ("resume", "a seed in words", "cannot read run/run.json: its 'seed' is 'zero'."),
    ("resume", "plugins in words", "cannot read run/run.json: its 'plugins' is 3."),
    ("resume", "members that are numbers", "cannot read run/run.json: expected a string in \"members\", found 0."),
    ("resume", "members that are not there", "cannot write in run/seed0: No such file or directory."),
    ("resume", "config.gin binary", "run/config.gin:1: this is not UTF-8 text (byte 0xff). Save the file as UTF-8."),
    ("resume", "metrics.jsonl a folder",
     "run/metrics.jsonl is in the way: a file of that name belongs there. Remove it, or name another run."),
    ("resume", "checkpoints a file", "run/checkpoints is in the way: a folder of that name belongs there."),
    ("resume", "a record with the line b'{torn'",
     "run/metrics.jsonl:2 is broken: this line is not an entry of a record."),
    ("report", "a record with the line b'[]'", "run/metrics.jsonl:2 is broken: this line is not an entry of a record."),
    ("report", "status.json {}", "cannot read run/status.json: it has no 'status'."),
    ("evaluate", "none", "run has no checkpoint yet."),
    ("evaluate", "run.json null", "cannot read run/run.json: it should hold an object, {...}, not None."),
    ("evaluate", "config.gin missing", "there is no file 'run/config.gin'."),
    ("draw", "plugins that are gone", "was made with the plugin no_such_plugin, which is code"),
    ("check", "config.gin empty", "run/config.gin declares no run: it has no Experiment.stages."),
    ("import", "status.json null", "gorl: cannot read run/status.json: it should hold an object, {...}, not None."),
    ("import", "operative_config.gin missing", "run: its record cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize("command, damage, words", ANSWERS)
def test_a_damage_is_named_exactly(command, damage, words, folder):
    bad_folders.DAMAGES[damage](folder)
    code, said = answer(*COMMANDS[command])
    assert code != 0 and words in said, said


@pytest.mark.parametrize("words", list(COMMANDS.values()), ids=list(COMMANDS))
@pytest.mark.parametrize("what", ["nothing", "a file", "an empty folder"])
def test_a_path_without_a_run_is_named(words, what, folder):
    shutil.rmtree(folder)
    if what == "a file":
        folder.write_text("what is this")
    elif what == "an empty folder":
        folder.mkdir()
    code, said = answer(*words)
    assert code != 0 and "run" in said and not [word for word in INSIDE if word in said], said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("words", list(COMMANDS.values()), ids=list(COMMANDS))
def test_a_folder_without_permission_is_named(words, folder):
    folder.chmod(0)
    try:
        code, said = answer(*words)
    finally:
        folder.chmod(0o755)
    assert code != 0 and "run" in said


STUDY = {
    "format": 1,
    "name": "s",
    "variants": [{"name": "a", "folder": "a"}],
    "seeds": [0],
    "programs": [["a"]],
    "halving": [],
    "seeds_together": False,
}


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "its study.json cannot be read"),
        ("[]", "its study.json should hold an object"),
        (json.dumps({**STUDY, "format": 2}), "has study format 2; this gorl reads format 1."),
        (
            json.dumps({k: v for k, v in STUDY.items() if k != "halving"}),
            "study.json: its 'halving' is None, not a list.",
        ),
        (json.dumps({**STUDY, "seeds": 3}), "study.json: its 'seeds' is 3, not a list."),
        (
            json.dumps({**STUDY, "variants": ["a"]}),
            'study.json: expected an object with "name" and "folder" in "variants", found \'a\'.',
        ),
    ],
)
def test_a_damaged_study_is_named(text, words, tmp_path, monkeypatch):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(RunError) as err:
        StudyFolder.open(tmp_path)
    assert words in str(err.value) and str(tmp_path) in str(err.value)
    monkeypatch.chdir(tmp_path)
    code, said = answer("report", str(tmp_path))
    assert code != 0 and str(tmp_path) in said


@pytest.mark.parametrize(
    "entry", ["", "[]", "null", "{}", '{"parts": 3, "bytes": 1, "seconds": 1, "env_steps": 1}', "\x00"]
)
def test_a_damaged_result_in_the_store_is_left_out(entry, tmp_path, monkeypatch):
    monkeypatch.setenv("GORL_CACHE", str(tmp_path))
    (tmp_path / "phases" / "abc").mkdir(parents=True)
    (tmp_path / "phases" / "abc" / "entry.json").write_text(entry)
    for words in (["cache"], ["cache", "--prune", "0"]):
        code, said = answer(*words)
        assert code == 0 and "0 results of phases" in said


def test_a_result_that_says_little_is_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("GORL_CACHE", str(tmp_path))
    (tmp_path / "phases" / "abc").mkdir(parents=True)
    (tmp_path / "phases" / "abc" / "entry.json").write_text(
        '{"parts": {"stage": 1}, "bytes": 1, "seconds": 1, "env_steps": 1}'
    )
    code, said = answer("cache")
    assert code == 0 and "?" in said and "1 results of phases" in said


def test_a_sweep_does_not_begin_in_a_run(folder):
    """Nothing is computed, and the run stays as it is."""
    plan = type("Plan", (), {"variants": ()})()
    with pytest.raises(RunError, match="run exists and holds no study. Name another folder with --dir."):
        StudyFolder.begin(pathlib.Path("run"), plan)
