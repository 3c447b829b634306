"""The example of a user's own parts, copied out of the repository and run through the command line."""

import json
import pathlib
import shutil

import pytest

from gorl import config
from gorl.errors import ConfigError
from tests.support.commands import gorl as here, gorl_process, python

EXAMPLE = pathlib.Path(__file__).parents[1] / "experiments" / "extending"

USE = """
import json, sys
import equinox as eqx, jax, numpy as np
import gorl
from gorl.training import trained

run = sys.argv[1]
experiment, state = trained.restore(run, [sys.argv[2]])
env, decoder = experiment.task.environment, state.decoder
policy = gorl.load(run)  # what was named is imported already
obs = np.asarray(jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 3)).obs)
action = policy.act(obs, key=jax.random.key(1))
u = eqx.filter_vmap(lambda z: decoder(obs[0], z))(np.asarray([[-1.0], [0.0], [1.0]], np.float32))[:, 0]
print(json.dumps({
    "environment": f"{type(env).__name__}({type(env.inner).__name__})", "decoder": type(decoder).__name__,
    "body": type(state.policy.body).__name__,
    "weight": np.abs(state.learner.policy.body.weight).max().item(), "obs": obs.shape,
    "action": action.tolist(), "u": u.tolist(),
}))
"""


def gorl(*words, home, code=0):
    return gorl_process(*words, cwd=home, code=code, cache=home / "cache")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's folder with a copy of the example, and what the run left in `run`."""
    home = tmp_path_factory.mktemp("user")
    for name in ("my_parts.py", "my_experiment.gin", "my_environment.gin", "arm.xml"):
        shutil.copy(EXAMPLE / name, home)
    gorl("train", "my_experiment.gin", "--plugin", "my_parts.py", "--no-aim", "--run-dir", "run", home=home)
    return home


def record(home):
    return [json.loads(line) for line in (home / "run" / "metrics.jsonl").read_text().splitlines()]


def test_the_run_finishes_with_the_metric_of_its_own_phase(home):
    assert json.loads((home / "run" / "status.json").read_text())["status"] == "finished"
    entries = record(home)
    phases = list(dict.fromkeys((e["stage"], e["phase"]) for e in entries))
    assert phases == [
        (0, "ImprovePolicy"), (0, "Evaluate"),
        (1, "CollectRollouts"), (1, "FitDecoder"), (1, "MeasureSpread"), (1, "ImprovePolicy"), (1, "Evaluate"),
    ]  # fmt: skip
    (spread,) = [e for e in entries if e["phase"] == "MeasureSpread"]
    assert (spread["kind"], spread["subset"], spread["axis"]) == ("spread", "spread", "units")
    assert 0.05 < spread["metrics"]["decoder_spread"] < 5.0


def test_the_run_records_the_plugin_and_the_environment(home):
    facts = json.loads((home / "run" / "run.json").read_text())
    assert facts["plugins"] == [str(home / "my_parts.py")]
    environment = facts["environment"]
    assert (environment["name"], environment["library"], environment["delay"]) == ("arm", "mjcf", 2)
    assert environment["xml"] == str(home / "arm.xml")
    text = (home / "run" / "config.gin").read_text()
    assert "MeasureSpread" in text and "%my_parts.reward" in text


def test_resuming_the_finished_run_changes_nothing(home, own_registry, monkeypatch):
    before = (home / "run" / "metrics.jsonl").read_bytes()
    monkeypatch.chdir(home)
    output = here("train", "--resume", "run", "--no-aim", error=ConfigError)
    assert (
        f"run was made with the plugin {home / 'my_parts.py'}, which is code" in output
        and f"name it again: --plugin {home / 'my_parts.py'}" in output
    )
    output = gorl("train", "--resume", "run", "--no-aim", "--plugin", "my_parts.py", home=home)
    assert f"finished: run\nevaluate:  gorl evaluate run --plugin {home / 'my_parts.py'}\n" in output
    assert (home / "run" / "metrics.jsonl").read_bytes() == before


def test_the_trained_policy_loads_and_acts(home):
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    done = python("-c", USE, home / "run", home / "my_parts.py", cwd=elsewhere, cache=home / "cache")
    used = json.loads(done.stdout.splitlines()[-1])
    assert (used["environment"], used["decoder"], used["body"]) == (
        "DelayedActions(MJCFEnvironment)",
        "AffineDecoder",
        "LinearSkip",
    )
    assert used["weight"] > 0  # began as 0: the policy's own network was trained
    assert used["obs"] == [3, 5]  # cos, sin, velocity, and two actions under way
    assert all(len(a) == 1 and -1 < a[0] < 1 for a in used["action"])
    assert len({a[0] for a in used["action"]}) == 3
    low, middle, high = used["u"]
    assert high > middle > low and high - middle == pytest.approx(middle - low, rel=1e-3)  # affine in the latent


def test_a_mistake_in_ones_own_part_is_one_message(home, own_registry, monkeypatch):
    monkeypatch.chdir(home)
    words = ["my_experiment.gin", "--plugin", "my_parts.py", "--set", "DelayedActions.delay = 0"]
    assert "`DelayedActions.delay = 0`: it must be >= 1." in here("check", *words, error=ConfigError)


def test_without_the_plugin_the_message_names_the_option():
    with pytest.raises(ConfigError, match="--plugin"):
        config.build([str(EXAMPLE / "my_experiment.gin")])


def test_the_other_example_builds(home, own_registry, monkeypatch):
    monkeypatch.chdir(home)
    output = here("check", "my_environment.gin", "--plugin", "my_parts.py")
    assert "Landing (my_parts, jax)" in output
