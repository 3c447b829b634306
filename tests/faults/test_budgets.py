"""Sizes and budgets: what cannot run is refused before anything is compiled; the smallest sizes run."""

import math

import equinox as eqx
import gin
import hypothesis
import jax.numpy as jnp
import pytest
from hypothesis import strategies

from gorl import config
from gorl.environments.base import AbstractEnvironment, make_state
from gorl.errors import ConfigError, RunError
from gorl.experiment import Experiment
from gorl.runs import RunFolder
from tests.support.toy_runs import train_here

GORL = ["Task.environment = @Slider()", "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]"]
HUGE = "1_000_000_000_000_000_000"


def build(*bindings):
    return config.build(["gorl_fm.gin", "parts/debug.gin"], [*GORL, *bindings])


NUMBERS = strategies.integers(-2, 40) | strategies.integers(1, 2**80)
SIZES = (
    "OnPolicy.num_envs", "OnPolicy.unroll_length", "OnPolicy.batch_size", "OnPolicy.num_minibatches",
    "OnPolicy.num_epochs", "Evaluator.num_envs", "CollectRollouts.num_envs", "CollectRollouts.episode_length",
    "FitDecoder.epochs", "FitDecoder.batch_size", "FitDecoder.draws", "Task.episode_length", "Experiment.num_seeds",
    "Experiment.divergence_limit", "decoder/MLP.width", "Heun.steps", "FourierTime.frequencies",
)  # fmt: skip
BUDGETS = ("stage0/ImprovePolicy.env_steps", "CollectRollouts.env_steps")


@pytest.mark.parametrize("name", [*SIZES, *BUDGETS])
@pytest.mark.parametrize("value", ["0", "-1", HUGE])
def test_nothing_and_far_too_much_are_refused_with_the_place(name, value):
    binding = f"{name} = {value}"
    with pytest.raises(ConfigError) as err:
        build(binding, *(["FlowMatchingDecoder.sampler = @Heun()"] if name == "Heun.steps" else []))
    message = str(err.value)
    assert f"command line `{binding}`" in message and name.split("/")[-1].split(".")[1] in message
    assert any(words in message for words in ("must be", "at most", "units", "Lower"))


@pytest.mark.parametrize(
    "bindings, message",
    [
        (
            ["OnPolicy.num_epochs = 2_147_483_648"],
            "OnPolicy.num_epochs = 2_147_483_648, but a size is at most 2_147_483_647.",
        ),
        (
            ["stage0/ImprovePolicy.env_steps = 1_000_000_000"],
            "at 240 a unit, makes 4_166_667 units, of which a phase may have 2_000_000. Lower it, or make",
        ),
        (["FitDecoder.epochs = 2_000_001"], "FitDecoder.epochs = 2000001 makes 2_000_001 units"),
        (
            ["OnPolicy.unroll_length = 1_000_000_000"],
            "OnPolicy: one iteration would be 24_000_000_000 environment steps, of at most 2_147_483_647.",
        ),
        (
            ["CollectRollouts.env_steps = 5_000_000_000"],
            "makes 5_000_000_000 rows of data, of at most 2_147_483_647. Lower them.",
        ),
        (["decoder/MLP.width = 100_000"], "`decoder/MLP.width = 100_000`: a layer would have 10_000_000_000 weights"),
        (["decoder/MLP.depth = 1_001"], "`decoder/MLP.depth = 1_001`: it must be at most 1000."),
        (["NUM_SEEDS = 10_001"], "Experiment.num_seeds = 10001: it must be at most 10_000; each has a folder."),
        (["FourierTime.frequencies = 129"], "`FourierTime.frequencies = 129`: it must be >= 1 and at most 128."),
        (["FitDecoder.learning_rate = -1e-3"], "learning_rate = -0.001: it must be >= 0 and finite."),
        (["OnPolicy.learning_rate = 1e999"], "learning_rate = inf: it must be >= 0 and finite."),
        (
            ["OnPolicy.max_grad_norm = -1.0", "stage0/OnPolicy.max_grad_norm = -1.0"],
            "max_grad_norm = -1.0: it must be > 0 (1e999: off).",
        ),
        (["FitDecoder.max_grad_norm = 0.0"], "FitDecoder): max_grad_norm = 0.0: it must be > 0 (1e999: off)."),
        (["RunningNormalizer.epsilon = -1e-6"], "`RunningNormalizer.epsilon = -1e-6`: it must be >= 0 and finite."),
        (["RunningNormalizer.clip = -1.0"], "`RunningNormalizer.clip = -1.0`: it must be > 0 (1e999: no clip)."),
        (["MLP.output_scale = 1e999"], "`MLP.output_scale = 1e999`: it must be finite."),
        (["STAGE_KL = 1e999"], "LatentKL.coefficient = inf: it must be finite (0: off)."),
        (["Clip.epsilon = 1e300"], "32-bit floats reach from 1e-38 to 3e+38"),
        (["OnPolicy.value_cost = 1e-300"], "OnPolicy.value_cost = 1e-300, but the programs' 32-bit floats"),
        (
            ["ActionDensity.samples = 1_000_000_000", "Experiment.pictures = [@ActionDensity()]"],
            "it must be at most 100_000_000.",
        ),
    ],
)
def test_a_refusal_names_the_limit(bindings, message):
    with pytest.raises(ConfigError) as err:
        build(*bindings)
    assert message in str(err.value)


def test_a_budget_may_be_larger_than_a_size():
    assert (
        build(
            "stage0/ImprovePolicy.env_steps = 3_000_000_000", "OnPolicy.unroll_length = 100_000"
        ).experiment.env_steps()
        > 3_000_000_000
    )


@hypothesis.settings(max_examples=12, deadline=None, database=None)
@hypothesis.given(strategies.dictionaries(strategies.sampled_from((*SIZES[:10], *BUDGETS)), NUMBERS, max_size=3))
def test_any_sizes_are_refused_clearly_or_add_up(sizes):
    """The total is that of whole units, at least what was asked, and less than a unit more."""
    try:
        experiment = build(*(f"{name} = {value}" for name, value in sizes.items())).experiment
    except ConfigError as err:
        assert str(err)[-1] in ".)"
        return
    for step in experiment.planned_phases():
        units = experiment.units(step)
        asked, takes = getattr(step.declaration, "env_steps", 0), sum(u.env_steps for u in units)
        assert asked <= takes < asked + max(1, *(u.env_steps for u in units))
    assert experiment.env_steps() == sum(
        u.env_steps for step in experiment.planned_phases() for u in experiment.units(step)
    )


ONE = [
    "EPISODE_LENGTH = 1",
    "Experiment.checkpoint_interval = 1e9",
    "policy/MLP.width = 1",
    "policy/MLP.depth = 0",
    "EVALUATION_INTERVAL = 1",
]
ON_POLICY = ["OnPolicy.num_envs = 1", "OnPolicy.unroll_length = 1", "OnPolicy.batch_size = 1",
             "OnPolicy.num_minibatches = 1", "OnPolicy.num_epochs = 1", "Evaluator.num_envs = 1",
             "critic/MLP.width = 1", "critic/MLP.depth = 0"]  # fmt: skip
DECODER = ["Experiment.stages = [@stage0/Stage(), @stage1/Stage()]", "WARMUP_STEPS = 1", "COLLECT_STEPS = 1",
           "COLLECT_ENVS = 1", "COLLECT_EPISODE_LENGTH = 1", "FIT_EPOCHS = 1", "FIT_BATCH_SIZE = 1",
           "FitDecoder.draws = 1", "FitDecoder.validation_fraction = 0.0", "DECODER_WIDTH = 1", "DECODER_DEPTH = 0",
           "FourierTime.frequencies = 1"]  # fmt: skip
SMALLEST = {
    "one flow step": ("gorl_fm.gin",
                      [*ON_POLICY, *DECODER, "FlowMatchingDecoder.sampler = @Euler()", "Euler.steps = 1"]),
    "one denoising step": ("dppo.gin", [*ON_POLICY, "TOTAL_STEPS = 1", "DenoisingPolicy.steps = 1",
                                        "DenoisingPolicy.final_steps = 1"]),
    "one stored transition": ("sac.gin", ["TOTAL_STEPS = 2", "Evaluator.num_envs = 1", *(f"SAC.{name} = 1" for name in (
        "num_envs", "unroll_length", "batch_size", "min_replay", "updates_per_step")), "SAC.replay_capacity = 2",
        "q/LayerNormMLP.width = 1"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_sizes_run(name, tmp_path):
    """One environment, one observation, one action; one of everything else."""
    file, bindings = SMALLEST[name]
    configuration = config.build([file, "parts/debug.gin"], ["Task.environment = @ConstantReward()", *ONE, *bindings])
    experiment, (_, entries) = configuration.experiment, train_here(configuration, tmp_path / "run")
    assert [e.kind for e in entries] == [u.name for s in experiment.planned_phases() for u in experiment.units(s)]
    assert {e.metrics["return"] for e in entries if "eval" in e.subset or "final" in e.subset} == {1.0}
    for entry in entries:
        assert all(
            math.isfinite(v)
            for k, v in entry.metrics.items()
            if k.startswith("loss/") and experiment.env_steps() > 2 or k == "diverged"
        ), entry
    assert_a_broken_record_ends_what_goes_on(configuration, RunFolder.open(tmp_path / "run"))


def assert_a_broken_record_ends_what_goes_on(configuration, folder):
    """It ends before it computes anything. What a crash may leave after the checkpoint is dropped first."""
    text = folder.record_path.read_bytes()
    folder.record_path.write_bytes(text + b"\x00\x00\n")
    train_here(configuration, folder.path)
    assert folder.record_path.read_bytes() == text
    folder.record_path.write_bytes(text.replace(b"{", b"[", 1))
    with pytest.raises(RunError, match="metrics.jsonl:1 is broken: this line is not an entry of a record."):
        train_here(configuration, folder.path)


class Named(AbstractEnvironment):
    """Observations are a dict."""

    obs_key: str | None = eqx.field(static=True)

    @property
    def action_size(self):
        return 1

    def reset(self, key):
        del key
        zero = jnp.zeros(())
        return make_state(
            zero,
            {"state": jnp.zeros((1,)), "pixels": jnp.zeros((2, 2))},
            zero,
            False,
            obs_key=self.obs_key,
            critic_obs_key=None,
        )

    def step(self, state, action):
        del action
        return state

    def describe(self):
        return {"library": "test", "name": "Named"}


@pytest.mark.parametrize(
    "key, message",
    [
        (
            "None",
            "the environment's observations are a dict with the keys 'state', 'pixels'; "
            "obs_key = None names none of them.",
        ),
        ("'stat'", "obs_key = 'stat' names none of them. Did you mean state?"),
    ],
)
def test_a_dict_without_the_named_entry_is_refused_before_anything_is_compiled(key, message, own_registry):
    gin.register(Named, module="test")
    experiment = config.build(
        ["ppo.gin", "parts/debug.gin"], ["Task.environment = @Named()", f"Named.obs_key = {key}"]
    ).experiment
    assert isinstance(experiment, Experiment)
    with pytest.raises(ConfigError) as err:
        experiment.template(0, True)  # shapes alone: traced, not compiled
    assert message in str(err.value)


def test_an_array_has_no_entries(own_registry):
    with pytest.raises(
        ConfigError,
        match="obs_key = 'state', but the environment's observation is one array, not a dict: leave obs_key at None.",
    ):
        zero = jnp.zeros(())
        make_state(zero, jnp.zeros((1,)), zero, False, obs_key="state", critic_obs_key=None)
