"""`ppo_playground.gin` has the numbers with which the installed packages train PPO on the DM Control suite."""

import functools
import inspect
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.training import distribution
from brax.training.acme import running_statistics
from brax.training.agents.ppo import networks, train as brax_ppo
from mujoco_playground._src import dm_control_suite
from mujoco_playground.config import dm_control_suite_params

from gorl import config
from gorl.config.files import shipped
from gorl.generative.distributions import bounded_std
from gorl.networks import RunningNormalizer
from gorl.objectives.gae import BraxAdvantage
from gorl.objectives.regularizers import SquashedEntropyBonus
from gorl.objectives.trust_region import Clip
from gorl.state import Spaces

TASKS = tuple(dm_control_suite.ALL_ENVS)
FILES = {p.stem: f"parts/tasks/{p.name}" for p in (shipped() / "parts/tasks").glob("*.gin")}
SIZES = Spaces(17, 17, 6)  # CheetahRun's
DEFAULTS = {name: p.default for name, p in inspect.signature(brax_ppo.train).parameters.items()}


def asked(task):
    """Every argument of Brax's PPO as Playground calls it for a task."""
    return {**DEFAULTS, **dm_control_suite_params.brax_ppo_config(task).to_dict()}


def built(task):
    with jax.numpy_rank_promotion("allow"):  # MuJoCo's own code needs it
        files = [FILES[task]] if task in FILES else []
        found = config.build(["ppo_playground.gin", *files], [] if files else [f"ENV = '{task}'"]).experiment
    assert found.task.environment.name == task
    return found, found.stages[0].phases[0]


def default_of(function, name):
    return inspect.signature(function).parameters[name].default


def rounded(arguments):
    """The steps that Brax takes for `num_timesteps`: a whole number of iterations in every epoch of an evaluation."""
    iteration = arguments["batch_size"] * arguments["unroll_length"] * arguments["num_minibatches"]
    epochs = max(arguments["num_evals"] - 1, 1) * max(arguments["num_resets_per_eval"], 1)
    return epochs * math.ceil(arguments["num_timesteps"] / (epochs * iteration)) * iteration


# What gorl has under another name: argument of Brax -> (gorl's value, Brax's value in gorl's terms).
SAME = {
    "num_timesteps": (lambda e, p, a: p.env_steps, rounded),
    "episode_length": lambda e, p, a: e.task.episode_length,
    "num_envs": lambda e, p, a: a.num_envs,
    "unroll_length": lambda e, p, a: a.unroll_length,
    "batch_size": lambda e, p, a: a.batch_size,
    "num_minibatches": lambda e, p, a: a.num_minibatches,
    "num_updates_per_batch": lambda e, p, a: a.num_epochs,
    "discounting": lambda e, p, a: a.discount,
    "gae_lambda": lambda e, p, a: a.gae_lambda,
    "reward_scaling": lambda e, p, a: a.reward_scale,
    "learning_rate": lambda e, p, a: a.learning_rate,
    "entropy_cost": lambda e, p, a: a.regularizers[0].coefficient,
    "clipping_epsilon": lambda e, p, a: a.trust_region.epsilon,
    "normalize_advantage": lambda e, p, a: a.normalize_advantage,
    "max_grad_norm": (lambda e, p, a: a.max_grad_norm, lambda x: x["max_grad_norm"] or np.inf),
    "vf_loss_coefficient": (lambda e, p, a: a.value_cost, lambda x: 0.5 * x["vf_loss_coefficient"]),  # a factor of loss
    "num_eval_envs": lambda e, p, a: p.evaluator.num_envs,
}
# What gorl's pieces are written for: another value would be another algorithm.
FIXED = {
    "action_repeat": 1, "normalize_observations": True, "normalize_observations_std_eps": 0.0,
    "normalize_observations_mode": "welford", "normalize_until_count": None, "clipping_epsilon_value": None,
    "bootstrap_on_timeout": False, "use_distributional_critic": False, "learning_rate_schedule": None,
    "network_factory": networks.make_ppo_networks, "randomization_fn": None, "vision": False, "augment_pixels": False,
}  # fmt: skip
# What differs, as the file's comment says.
DIFFERENT = {"num_evals": 10, "num_resets_per_eval": 10, "deterministic_eval": False}
# What no learning depends on: devices, logs, checkpoints, and the range of a schedule that is not used.
OTHER = {
    "environment", "wrap_env", "wrap_env_fn", "max_devices_per_host", "seed", "use_pmap_on_reset", "eval_env",
    "run_evals", "log_training_metrics", "training_metrics_steps", "progress_fn", "policy_params_fn",
    "save_checkpoint_path", "restore_checkpoint_path", "restore_params", "restore_value_fn", "desired_kl",
    "learning_rate_schedule_min_lr", "learning_rate_schedule_max_lr",
}  # fmt: skip


def test_the_tables_have_every_argument_once():
    tables = (set(SAME), set(FIXED), set(DIFFERENT), OTHER)
    assert set().union(*tables) == set(DEFAULTS) and sum(map(len, tables)) == len(DEFAULTS)
    for task in TASKS:
        assert set(asked(task)) == set(DEFAULTS), task  # Playground sets nothing that Brax does not take


@pytest.mark.parametrize("task", sorted(FILES))
def test_a_task_with_a_file_has_playgrounds_numbers(task):
    experiment, phase = built(task)
    arguments = asked(task)
    for name, entry in SAME.items():
        ours, theirs = entry if isinstance(entry, tuple) else (entry, lambda x, name=name: x[name])
        found, expected = ours(experiment, phase, phase.algorithm), theirs(arguments)
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=f"{task}: {name}")
    for name, expected in {**FIXED, **DIFFERENT}.items():
        assert arguments[name] == expected, name


def test_a_task_without_a_file_is_trained_as_cheetah_run_is():
    assert set(FILES) <= set(TASKS)
    without = sorted(set(TASKS) - set(FILES))
    assert without and [t for t in without if asked(t) != asked("CheetahRun")] == []


def test_the_estimates_are_braxs():
    _, phase = built("CheetahRun")
    algorithm = phase.algorithm
    assert isinstance(algorithm.advantage, BraxAdvantage) and algorithm.advantage_unit == "minibatch"
    assert algorithm.statistics == "before" and isinstance(algorithm.trust_region, Clip)
    assert [type(r) for r in algorithm.regularizers] == [SquashedEntropyBonus]


def kernels(network):
    return [layer["kernel"] for layer in network.init(jax.random.key(0))["params"].values()]


def test_the_networks_have_the_shapes_of_braxs():
    _, phase = built("CheetahRun")
    learner = eqx.filter_eval_shape(phase.algorithm.create, SIZES, key=jax.random.key(0))
    theirs = networks.make_ppo_networks(SIZES.observation, SIZES.action)
    for ours, network in ((learner.policy, theirs.policy_network), (learner.critic, theirs.value_network)):
        shapes = [k.shape for k in jax.eval_shape(lambda n=network: kernels(n))]
        assert [layer.weight.shape[::-1] for layer in ours.body.layers] == shapes


def test_the_policy_begins_as_braxs_does():
    experiment, phase = built("CheetahRun")
    theirs = networks.make_ppo_networks(SIZES.observation, SIZES.action).policy_network

    @functools.partial(eqx.filter_jit, compiler_options={"xla_backend_optimization_level": 0})
    def first():
        policy = phase.algorithm.create(SIZES, key=jax.random.key(0)).policy
        return policy, [layer.weight for layer in policy.body.layers], kernels(theirs)

    policy, weights, initial = first()
    for weight, kernel in zip(weights, initial, strict=True):  # uniform on the same interval, the last layer's too
        np.testing.assert_allclose(np.max(np.abs(weight)), np.max(np.abs(kernel)), rtol=0.05)
    scale = distribution.NormalTanhDistribution(1).create_dist
    for raw in (0.0, 30.0, -30.0):  # at the beginning, and without any upper bound
        found = bounded_std(jnp.array([raw]), shift=policy.shift, min_std=policy.min_std, max_std=policy.max_std)
        np.testing.assert_allclose(found, scale(jnp.array([0.0, raw])).scale, rtol=1e-5)
    assert experiment.task.action_bound == np.inf


def test_inputs_are_normalized_as_braxs_are():
    _, phase = built("CheetahRun")
    learner = eqx.filter_eval_shape(phase.algorithm.create, SIZES, key=jax.random.key(0))
    for normalizer in (learner.policy.normalizer, learner.critic.normalizer):
        assert isinstance(normalizer, RunningNormalizer)
        least = default_of(running_statistics.update, "std_min_value")
        assert math.sqrt(normalizer.epsilon) == pytest.approx(least)
        assert default_of(running_statistics.normalize, "max_abs_value") is None and normalizer.clip == math.inf
