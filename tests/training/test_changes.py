"""What has changed since a run began is named, or refused; its folder runs again by itself."""

import os
import pathlib
import shutil
import subprocess
import sys

import jax
import pytest

from gorl import config
from gorl.errors import ConfigError
from gorl.reuse.identity import identities
from gorl.runs.folder import RunFolder
from gorl.studies.folder import StudyFolder
from gorl.studies.plan import make_plan
from gorl.training import execution
from gorl.training.changes import name_changes, require_unchanged
from gorl.training.trained import reopened
from tests.environments.conftest import third_party as third_party

ROBOT = """<mujoco><compiler meshdir="meshes"/><include file="joint.xml"/>
<asset><mesh name="body" file="body.obj" inertia="convex"/></asset>
<worldbody><body><joint name="hinge" type="hinge" axis="0 1 0"/><geom type="mesh" mesh="body" mass="1"/></body>
</worldbody><actuator><motor joint="hinge" ctrllimited="true" ctrlrange="-2 2"/></actuator></mujoco>"""
JOINT = '<mujocoinclude><default><joint damping="{}"/></default></mujocoinclude>'
BODY = "v 0 0 0\nv {} 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
PLUGIN = """
import json
import pathlib

import gin
import jax.numpy as jnp
from parts_of_robot import rewards

SCALE = json.loads((pathlib.Path(__file__).parent / "data" / "scale.json").read_text())
import os

import helper_elsewhere

NAME = os.environ.get("ROBOT_NAME", "none")
SHARED = pathlib.Path(__file__).parents[1] / "shared"
OFFSET = float((SHARED / "offset.txt").read_text())


def observation(model, data):
    limit = float((SHARED / "limit.txt").read_text())  # when it is traced
    return jnp.clip(jnp.concatenate([data.qpos, data.qvel]) * SCALE + OFFSET, -limit, limit)


gin.constant("robot.reward", rewards.reward)
gin.constant("robot.observation", observation)
"""
TASK = """
include 'ppo.gin'
include 'parts/mjcf.gin'
include 'parts/debug.gin'
ENV = 'model/robot.xml'
MJCFEnvironment:
  reward = %robot.reward
  observation = %robot.observation
Experiment.trackers = []
"""

pytestmark = pytest.mark.usefixtures("third_party")


@pytest.fixture
def place(tmp_path, monkeypatch, own_registry):
    """A user's folder: a model of three files, a plugin with a package and data of its own, a configuration."""
    home = tmp_path / "mine"
    for name, text in {
        "model/robot.xml": ROBOT,
        "model/joint.xml": JOINT.format(0.1),
        "model/meshes/body.obj": BODY.format(1),
        "plug/robot_task.py": PLUGIN,
        "plug/parts_of_robot/__init__.py": "",
        "plug/parts_of_robot/rewards.py": "def reward(model, data, action):\n    return data.qvel[0]\n",
        "plug/data/scale.json": "2.0",
        "shared/offset.txt": "0.5",
        "library/helper_elsewhere.py": "SCALE = 2\n",
        "shared/limit.txt": "100.0",
        "plug/other.py": "raise SystemExit('not imported')\n",
        "task.gin": TASK,
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(home / "library")
    monkeypatch.setenv("ROBOT_NAME", "Ada")
    yield home
    for name in ("helper_elsewhere", "parts_of_robot", "parts_of_robot.rewards", "gorl_plugin_robot_task"):
        sys.modules.pop(name, None)
    sys.path[:] = [path for path in sys.path if not path.startswith(str(tmp_path))]


def begun(place, run="run"):
    configuration = execution.declared(["task.gin"], plugins=["plug/robot_task.py"])
    return execution.begin_run(configuration, ["task.gin"], place / run)


def elsewhere(code, folder, *words):
    """The output of a process that has read no plugin yet."""
    imports = "import sys, pathlib; from tests.training.test_changes import *; from gorl import config;"
    root = pathlib.Path(__file__).parents[2]
    library = [path for path in sys.path if path.endswith("library")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *library]), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", imports + code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def said(folder):
    lines = []
    configuration = reopened(folder, ["plug/robot_task.py"])
    require_unchanged(folder, configuration)
    name_changes(folder, configuration, lines.append)
    return " ".join(lines)


def test_a_run_keeps_what_it_was_made_of_and_says_nothing_where_nothing_changed(place):
    folder = begun(place)
    kept = {str(p.relative_to(folder.path / "inputs")) for p in (folder.path / "inputs").rglob("*") if p.is_file()}
    assert kept == {
        "manifest.json", "files/0/robot.xml", "files/0/joint.xml", "files/0/meshes/body.obj",
        "plugins/0/plug/robot_task.py", "plugins/0/plug/parts_of_robot/__init__.py",
        "plugins/0/plug/parts_of_robot/rewards.py", "plugins/0/plug/data/scale.json",
        "plugins/0/shared/offset.txt", "plugins/0/shared/limit.txt", "plugins/0/library/helper_elsewhere.py",
    }  # fmt: skip
    facts = folder.facts()
    assert set(facts["plugin_files"]["robot_task.py"]) == {
        "robot_task.py", "parts_of_robot/__init__.py", "parts_of_robot/rewards.py", "data/scale.json",
        "../shared/offset.txt", "../shared/limit.txt", "../library/helper_elsewhere.py", "$ROBOT_NAME",
    }  # fmt: skip
    assert len(facts["environment"]["model_sha256"]) == 64 and facts["asked"] == ["task.gin"]
    assert said(folder) == ""


@pytest.mark.parametrize("name, text", [("joint.xml", JOINT.format(0.5)), ("meshes/body.obj", BODY.format(2))])
def test_an_edit_of_any_file_of_a_model_is_said_and_the_run_keeps_its_own(place, name, text):
    folder = begun(place)
    before = reopened(folder, ["plug/robot_task.py"]).experiment.task.content()
    (place / "model" / name).write_text(text)
    message = said(folder)
    assert "the model model/robot.xml has changed, and the folder's own copy" in message
    assert "environment's model" not in message  # the run simulates its copy
    assert reopened(folder, ["plug/robot_task.py"]).experiment.task.content() == before
    new = execution.declared(["task.gin"], plugins=["plug/robot_task.py"])
    assert new.experiment.task.content() != before  # in the same process too


def test_stored_phases_are_known_by_the_content_of_the_model(place):
    key = lambda: identities(config.build(["task.gin"], plugins=["plug/robot_task.py"]))[0].key
    before = key()
    assert key() == before
    (place / "model" / "meshes" / "body.obj").write_text(BODY.format(3))
    assert key() != before


def test_an_edit_of_a_plugin_or_of_what_it_reads_is_said(place, monkeypatch):
    """In another process, since a process has a plugin as it imported it."""
    folder = begun(place)
    assert said(folder) == "" and "Ada" not in (folder.path / "run.json").read_text()
    names = [
        "plug/parts_of_robot/rewards.py",
        "plug/data/scale.json",
        "library/helper_elsewhere.py",
        "shared/limit.txt",
    ]
    for name in names:
        (place / name).write_text((place / name).read_text() + "\n")
    monkeypatch.setenv("ROBOT_NAME", "Bob")
    message = elsewhere("print(said(RunFolder(pathlib.Path(sys.argv[1]))))", place, folder.path)
    changed = message.partition("the plugin robot_task.py has changed (")[2].partition(")")[0]
    assert set(changed.split(", ")) == {*(os.path.relpath(name, "plug") for name in names), "$ROBOT_NAME"}


def test_an_edited_configuration_is_refused_with_the_command_for_a_new_run(place):
    folder = begun(place)
    text = folder.config_path.read_text()
    folder.config_path.write_text("# a remark\n" + text)
    assert said(folder) == ""
    folder.config_path.write_text(text.replace("gae_lambda = 0.95", "gae_lambda = 0.5"))
    with pytest.raises(ConfigError) as raised:
        said(folder)
    message = str(raised.value)
    assert "OnPolicy.gae_lambda = 0.95 became 0.5" in message
    assert f"gorl train {folder.config_path} --run-dir NEW" in message


def test_a_flag_of_jax_that_changes_numbers_is_said(place):
    folder = begun(place)
    before = jax.config.jax_threefry_partitionable
    jax.config.update("jax_threefry_partitionable", not before)
    try:
        assert f"jax_threefry_partitionable {before} -> {not before}" in said(folder)
    finally:
        jax.config.update("jax_threefry_partitionable", before)


def test_commits_of_the_users_repository_are_recorded_and_compared(place):
    def git(*words):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=place, check=True, capture_output=True
        )

    git("init", "-q")
    git("add", "task.gin")
    git("commit", "-qm", "one")
    folder = begun(place)
    assert folder.facts()["user_git"]["root"] == str(place) and not folder.facts()["user_git"]["dirty"]
    git("commit", "-qm", "two", "--allow-empty")
    assert "your repository's commit" in said(folder)


def test_a_study_goes_on_with_its_own_model_and_says_so(place):
    (place / "study.gin").write_text("include 'task.gin'\nStudy.seeds = 2\n")
    lines = []
    first = make_plan(["study.gin"], plugins=["plug/robot_task.py"])
    for _ in range(2):
        StudyFolder.begin(place / "study", first, lines.append).close()
    assert lines == []
    before = first.variants[0].configuration.experiment.task.content()
    (place / "model" / "joint.xml").write_text(JOINT.format(0.7))
    second = make_plan(["study.gin"], plugins=["plug/robot_task.py"])
    StudyFolder.begin(place / "study", second, lines.append).close()
    assert len(lines) == 1 and "the model model/robot.xml has changed, and the folder's own copy" in lines[0]
    run = config.build([str(place / "study" / "configs" / "base.gin")], plugins=["plug/robot_task.py"])
    assert run.experiment.task.content() == before != second.variants[0].configuration.experiment.task.content()


def test_a_run_is_built_again_from_its_folder_anywhere(place, tmp_path, monkeypatch):
    folder = begun(place)
    moved = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder.path, moved)
    shutil.rmtree(place / "model")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "--plugin THIS_FOLDER/inputs/plugins/0/plug/robot_task.py" in (moved / "config.gin").read_text()
    plugin = str(moved / "inputs/plugins/0/plug/robot_task.py")
    code = "task = config.build([sys.argv[1]], plugins=[sys.argv[2]]).experiment.task;"
    code += "print(task.environment.xml.path, task.content()['model_sha256'])"
    path, sha = elsewhere(code, tmp_path, moved / "config.gin", plugin).split()
    assert path.startswith(str(moved)) and sha == folder.facts()["environment"]["model_sha256"]
    assert RunFolder(moved).name == "copy"
