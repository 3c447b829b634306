"""Measuring physics."""

import json

import pytest
from typer.testing import CliRunner

from gorl.cli.main import build_app
from gorl.environments import speed
from gorl.errors import ConfigError

pytestmark = pytest.mark.usefixtures("third_party")


def test_speeds_are_medians_of_rounds_and_the_fastest_is_first():
    fast, slow = speed.Speed("native", 1.0, (3.0, 9.0, 4.0)), speed.Speed("jax", 2.0, (1.0, 2.0, 3.0))
    assert (fast.env_steps_per_s, slow.env_steps_per_s) == (4.0, 2.0)
    found = speed.Comparison("CheetahRun", speed.Setting(2, 3, 4), (fast, slow), {"warp": "why"}, 1.5)
    assert found.busy
    assert found.as_json() == {
        "environment": "CheetahRun", "num_envs": 2, "steps": 3, "rounds": 4, "absent": {"warp": "why"},
        "load_per_core": 1.5,
        "speeds": {"native": {"env_steps_per_s": 4, "start_s": 1.0, "rounds": [3, 9, 4]},
                   "jax": {"env_steps_per_s": 2, "start_s": 2.0, "rounds": [1, 2, 3]}},
    }  # fmt: skip


def test_an_implementation_that_is_not_here_is_said_unless_asked_for(monkeypatch):
    def missing(env, setting):
        raise ConfigError(f"no {env.impl}")

    monkeypatch.setattr(
        speed, "_Candidate", lambda env, setting: Instant() if env.impl == "jax" else missing(env, setting)
    )
    found = speed.compare_implementations("PendulumSwingup", [], speed.Setting(2, 3, 2))
    assert [s.impl for s in found.speeds] == ["jax"] and found.absent["native"] == "no native"
    assert found.speeds[0].rounds == (12.0, 12.0)  # 2 x 3 steps in half a second
    with pytest.raises(ConfigError, match="no native"):
        speed.compare_implementations("PendulumSwingup", ["native"], speed.Setting(2, 3, 2))


class Instant:
    start_s = 0.0

    def seconds(self):
        return 0.5


def test_the_command_measures_recommends_and_writes(tmp_path):
    path = tmp_path / "physics.json"
    arguments = [
        "bench",
        "physics",
        "PendulumSwingup",
        "--impl",
        "native",
        "--envs",
        "3",
        "--steps",
        "4",
        "--rounds",
        "2",
        "--json",
        str(path),
    ]
    result = CliRunner().invoke(build_app(), arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "fastest here: --set \"PlaygroundEnvironment.impl = 'native'\"" in result.stdout
    written = json.loads(path.read_text())
    assert written["environment"] == "PendulumSwingup" and len(written["speeds"]["native"]["rounds"]) == 2
    assert all(r > 0 for r in written["speeds"]["native"]["rounds"]) and written["versions"]["mujoco"]
    assert str(tmp_path) not in json.dumps(written["command"])


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["physic", "CheetahRun"], "it measures physics. Did you mean physics?"),
        (["physics", "CheetahRan"], "Did you mean CheetahRun?"),
        (["physics", "CheetahRun", "--impl", "nativ"], "Did you mean native?"),
        (["physics", "CheetahRun", "--envs", "0"], "--envs 0: must be >= 1"),
    ],
)
def test_mistakes_are_explained(arguments, words):
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        CliRunner().invoke(build_app(), ["bench", *arguments], catch_exceptions=False)
