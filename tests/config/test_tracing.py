"""A user's classes are traced in every phase before anything runs, and what fails is named with its place."""

import pytest

from gorl import config
from gorl.errors import ConfigError
from gorl.runtime.programs import TRACES

PARTS = """
import equinox as eqx, gin, jax, jax.numpy as jnp
from gorl.environments import AbstractEnvironment, make_state
from gorl.decoders import AbstractDecoder, GaussianDecoder
from gorl.objectives.trust_region import AbstractTrustRegion

@gin.register(module="mine", denylist=["in_size", "out_size", "key"])
class Sound(eqx.Module):
    inner: eqx.nn.MLP
    def __init__(self, in_size, out_size, *, key):
        self.inner = eqx.nn.MLP(in_size, out_size, 4, 1, key=key)
    def __call__(self, x):
        return self.inner(x)

@gin.register(module="mine", denylist=["in_size", "out_size", "key"])
class Noisy(eqx.Module):
    inner: eqx.nn.Linear
    drop: eqx.nn.Dropout
    def __init__(self, in_size, out_size, *, key):
        self.inner, self.drop = eqx.nn.Linear(in_size, out_size, key=key), eqx.nn.Dropout(0.5)
    def __call__(self, x):
        return self.drop(self.inner(x))

@gin.register(module="mine")
class Branching(AbstractTrustRegion):
    def objective(self, log_ratio, advantage):
        return log_ratio if advantage > 0 else -log_ratio
    def outside(self, log_ratio):
        return log_ratio > 0

class Base(AbstractEnvironment):
    @property
    def action_size(self):
        return 1
    def describe(self):
        return {"name": "mine"}
    def reset(self, key):
        return self.state({"n": jnp.zeros((), jnp.int32)}, jnp.zeros(2))
    def state(self, sim, obs, reward=0.0):
        return make_state(sim, obs, reward, False, obs_key=None, critic_obs_key=None)

@gin.register(module="mine")
class Steady(Base):
    def step(self, state, action):
        return self.state({"n": state.sim["n"] + 1}, state.obs + action.sum(), 1.0)

@gin.register(module="mine")
class Growing(Base):
    def step(self, state, action):
        return self.state({"n": state.sim["n"], "last": action}, state.obs)

@gin.register(module="mine")
class Shrinking(Base):
    def step(self, state, action):
        return self.state({}, state.obs)

@gin.register(module="mine")
class Casting(Base):
    def step(self, state, action):
        return self.state({"n": state.sim["n"] + 0.5}, state.obs)

@gin.register(module="mine")
class Branchy(Base):
    def step(self, state, action):
        return state if action[0] > 0 else self.reset(None)
"""
FILES = ["ppo.gin", "parts/debug.gin"]
TOY = "Task.environment = @DelayedReward()"


@pytest.fixture
def trace(tmp_path, own_registry):
    """Traces a configuration with the classes above."""
    (tmp_path / "mine.py").write_text(PARTS)

    def call(*bindings, files=FILES, plugins=(str(tmp_path / "mine.py"),)):
        config.trace_phases(config.build(files, bindings, plugins))

    return call


def refused(trace, *bindings, **settings):
    with pytest.raises(ConfigError) as err:
        trace(*bindings, **settings)
    return str(err.value)


@pytest.mark.parametrize(
    "environment, parts",
    [
        ("Growing", ("Growing.step returns sim['last'], and Growing.reset does not",)),
        ("Shrinking", ("Shrinking.reset returns sim['n'], and Shrinking.step does not",)),
        (
            "Casting",
            ("sim['n'] as int32[], and Casting.step as float32[]", "as Casting.reset: jnp.asarray(x, jnp.int32)"),
        ),
        ("Branchy", ("Branchy.reset or .step fails: Tracer", "mine.py:", "in step)")),
    ],
)
def test_an_environment_whose_step_is_not_its_reset_is_named(environment, parts, trace):
    message = refused(trace, f"Task.environment = @{environment}()")
    assert all(part in message for part in parts), message


def test_what_fails_in_a_program_is_named_with_its_phase_and_line(trace):
    message = refused(trace, TOY, "Critic.body = @Noisy")
    assert message.startswith("stage 0, phase 0 (ImprovePolicy), unit iterate fails: RuntimeError: Dropout"), message
    assert "mine.py:" in message and message.endswith("in __call__)")


def test_a_later_stage_is_traced_too(trace):
    bindings = (
        TOY,
        "stage1/OnPolicy.trust_region = @Branching()",
        "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]",
    )
    message = refused(trace, *bindings, files=["gorl_fm.gin", "parts/debug.gin"])
    assert message.startswith("stage 1, phase 3 (ImprovePolicy), unit iterate fails: Tracer"), message


def test_what_is_sound_passes(trace):
    trace("Task.environment = @Steady()", "Critic.body = @Sound", "GaussianPolicy.body = @Sound")


def test_gorls_own_classes_are_not_traced(trace):
    before = TRACES.total()
    trace(TOY, plugins=())
    assert TRACES.total() == before
