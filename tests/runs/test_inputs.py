"""The user's own files: what a model consists of, and the copies that a run keeps."""

import json
import pathlib

import pytest

from gorl.errors import RunError
from gorl.runs import inputs
from gorl.runs.files import write_json
from gorl.runtime.inputs import InputFile, content_hash, looking_in, parts

ROBOT = """<mujoco><compiler meshdir="meshes" texturedir="paint"/><include file="common/joints.xml"/>
<asset><mesh name="leg" file="leg.stl"/><texture name="sky" type="cube" fileup="up.png" filedown="none.png"/></asset>
</mujoco>"""


@pytest.fixture
def robot(tmp_path) -> pathlib.Path:
    """A model of five files; none.png does not exist, and notes.txt is not named."""
    home = tmp_path / "robot"
    for name, text in {
        "robot.xml": ROBOT,
        "common/joints.xml": '<mujocoinclude><include file="common/deep.xml"/></mujocoinclude>',
        "common/deep.xml": "<mujocoinclude/>",
        "meshes/leg.stl": "a mesh",
        "paint/up.png": "a picture",
        "notes.txt": "not of the model",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    return home


def test_a_model_is_all_files_that_it_names_at_any_depth(robot):
    found = {str(path.relative_to(robot)) for path in parts(robot / "robot.xml")}
    assert found == {"robot.xml", "common/joints.xml", "common/deep.xml", "meshes/leg.stl", "paint/up.png"}


@pytest.mark.parametrize("name", ["robot.xml", "common/deep.xml", "meshes/leg.stl", "paint/up.png"])
def test_a_change_of_any_of_them_is_another_model(robot, monkeypatch, name):
    monkeypatch.chdir(robot.parent)
    before = InputFile.find("robot/robot.xml")
    (robot / "notes.txt").write_text("changed")
    assert InputFile.find("robot/robot.xml") == before
    (robot / name).write_text((robot / name).read_text() + " ")
    after = InputFile.find("robot/robot.xml")
    assert after != before and after.path == before.path and after.is_there


def test_a_file_is_looked_for_in_the_run_then_here_then_beside_the_configuration(robot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not InputFile.find("robot.xml").is_there
    with looking_in({}, [robot]):
        assert InputFile.find("robot.xml").path == str(robot / "robot.xml")
        (tmp_path / "robot.xml").write_text("<mujoco/>")
        assert InputFile.find("robot.xml").path == str(tmp_path / "robot.xml")
    with looking_in({"robot.xml": robot / "common/deep.xml"}, [robot]):
        assert InputFile.find("robot.xml").path == str(robot / "common/deep.xml")


def test_a_folder_keeps_a_copy_and_says_what_has_changed(robot, tmp_path):
    run, file = tmp_path / "run", InputFile.find(str(robot / "robot.xml"))
    (robot / "task.py").write_text("GEAR = 3\n")
    run.mkdir()
    inputs.keep(run, [file], {"task": (robot, {"task.py": "0"})})
    copy = inputs.kept_files(run)[file.name]
    assert copy.is_relative_to(run) and content_hash(parts(copy)) == file.sha256
    assert (run / "inputs/plugins/0/task.py").read_text() == "GEAR = 3\n" and inputs.changes(run) == []
    (robot / "meshes/leg.stl").write_text("another mesh")
    (change,) = inputs.changes(run)
    assert str(copy) in change and "has changed" in change and "own copy" in change
    inputs.keep(run, [InputFile.find(str(robot / "robot.xml"))], {})  # what a folder has stays as it was
    assert content_hash(parts(copy)) == file.sha256
    copy.write_text("<mujoco/>")
    assert any("was changed or removed" in line for line in inputs.changes(run))


@pytest.mark.parametrize("place", ["../../secret.xml", "/etc/passwd"])
def test_a_manifest_that_leads_out_is_refused(tmp_path, place):
    entry = {"was": "x.xml", "sha256": "0", "copy": place}
    (tmp_path / "inputs").mkdir()
    write_json(tmp_path / "inputs" / "manifest.json", {"files": {"x.xml": entry}, "plugins": {}})
    with pytest.raises(RunError, match="leads out"):
        inputs.kept_files(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"files": {"a": 3}, "plugins": {}}', "[" * 100_000])
def test_a_broken_manifest_is_named(tmp_path, text):
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "manifest.json").write_text(text)
    with pytest.raises(RunError, match="manifest.json"):
        inputs.kept_files(tmp_path)


def test_json_that_is_written_is_json(tmp_path):
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": (-float("inf"),)})

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)
    assert found == {"a": None, "b": [None, 1.5], "c": [None]}
