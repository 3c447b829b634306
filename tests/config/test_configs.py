"""Every shipped configuration builds, shrinks, can be saved and run again, and says what the papers say."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import equinox as eqx
import gin
import jax
import numpy as np
import pytest

from gorl import config
from gorl.config.files import shipped
from gorl.decoders import DiffusionDecoder, FlowMatchingDecoder, GaussianDecoder, IdentityDecoder, MeanFlowDecoder
from gorl.errors import ConfigError
from gorl.generative.grids import PowerGrid
from gorl.generative.samplers import Midpoint
from gorl.generative.times import UniformTimes
from gorl.networks import MLP, FourierTime, RunningNormalizer
from gorl.optimizers import OptaxCall
from gorl.phases import CollectRollouts, Evaluate, EvaluatePrior, FitDecoder, ImprovePolicy
from gorl.policies import GaussianPolicy
from gorl.state import Spaces

EXPERIMENTS = shipped().parent / "experiments"
RUNNABLE = config.runnable_files(shipped()) + [str(EXPERIMENTS / name) for name in config.runnable_files(EXPERIMENTS)]
STAGES = ("stage0", "stage1", "stage2", "stage3")
SIZES = Spaces(3, 3, 2)


def plugins(name):
    """An experiment with code of its own has it beside it."""
    folder = pathlib.Path(name).parent
    return [
        str(p)
        for p in sorted(folder.glob("*.py"))
        if pathlib.Path(name).is_absolute() and "@gin.register" in p.read_text()
    ]


def is_like_shipped(name):
    """Whether an experiment's file has no code of its own: it is a shipped one with other values."""
    return pathlib.Path(name).is_absolute() and not plugins(name)


def build(*files, bindings=()):
    code = [p for f in files for p in plugins(f)]
    return (_build if code else _built)(files, tuple(bindings), tuple(code))


def _build(files, bindings, code):
    with jax.numpy_rank_promotion("allow"):  # MuJoCo's own code needs it
        return config.build(list(files), list(bindings), list(code))


_built = functools.cache(_build)
"""Without plugins, whose classes are forgotten after each test. A configuration does not change, so tests share it."""


def modules(experiment):
    """(decoders, learner): what the phases of the first two stages make of made-up sizes, with real numbers in it."""
    key = jax.random.key(experiment.seed)
    decoders, learner = [experiment.decoder(3, 2, key=key)], None
    for step in (s for s in experiment.planned_phases() if s.stage < 2):
        if isinstance(step.declaration, ImprovePolicy):
            learner = learner or step.declaration.algorithm.create(SIZES, key=key)
        else:
            decoders.append(step.declaration.create(SIZES, decoders[-1], key=key))
    return decoders, learner


def settings(declaration):
    """A declaration for a comparison. Of an optimizer only its name is kept: its arguments may be optax's defaults."""
    is_call = lambda x: isinstance(x, OptaxCall)  # noqa: E731
    return jax.tree.map(lambda x: x.function.__name__ if is_call(x) else x, declaration, is_leaf=is_call)


@pytest.fixture(autouse=True)
def forget_plugins(own_registry):
    """Experiments may bring code of their own."""


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_file_builds_and_shrinks(name):
    full = build(name).experiment
    assert full.env_steps() > 0 and full.stages
    small = build(name, "parts/debug.gin").experiment
    assert [s.name for s in small.planned_phases()] == [s.name for s in full.planned_phases()]
    assert 0 < small.env_steps() < 10_000, "parts/debug.gin does not reach every budget of this file"


TASKS = sorted(p.stem for p in (shipped() / "parts/tasks").glob("*.gin"))


@pytest.mark.parametrize("name", config.runnable_files(shipped()))
def test_every_file_takes_the_parts_that_are_said_to_fit_any_run(name):
    built = build(name, "parts/small.gin", f"parts/tasks/{TASKS[len(name) % len(TASKS)]}.gin").experiment
    assert 0 < built.env_steps() < 20_000_000 and built.task.environment.name in TASKS


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_a_part(task):
    assert build("gorl_fm.gin", f"parts/tasks/{task}.gin").experiment.task.environment.name == task


METHODS = ("ppo.gin", "ppo_tuned.gin", "ppo_playground.gin", "fpo.gin", "fpo_plus_plus.gin", "dppo.gin", "sac.gin",
           "gorl_fm.gin", "gorl_diffusion.gin", "gorl_gaussian.gin", "gorl_mean_flow.gin", "gorl_sac.gin", "reppo.gin",
           "gorl_reppo.gin", "gorl_action_sac.gin")  # fmt: skip
CONTROLS = sorted(p.name for p in (shipped() / "controls").glob("*.gin"))
# What each control changes in GoRL: binding -> value. `None`: something in the list of stages.
CHANGED = {
    "adaptive_stages.gin": ("stage3/ImprovePolicy.end", "@NoGain()"),
    "cached_resets.gin": ("Task.fresh_resets", False),
    "encoder_latents.gin": ("stage1/FitDecoder.latents", "@EncoderLatents()"),
    "frozen_decoder.gin": ("stage2/Stage.phases", ["@ImprovePolicy()", "@Evaluate()"]),
    "gaussian_decoder.gin": ("stage3/FitDecoder.decoder", "@GaussianDecoder"),
    "large_data.gin": ("stage1/CollectRollouts.env_steps", 10_240_000),
    "last_policy.gin": ("stage0/ImprovePolicy.hand_on", "last"),
    "latent_l2.gin": ("stage1/LatentL2.coefficient", 1e-3),
    "lockstep.gin": ("Task.staggered_starts", False),
    "no_regularizer.gin": ("stage1/LatentKL.coefficient", 0.0),
    "no_reinitialization.gin": ("stage1/ImprovePolicy.reinitialize", "nothing"),
    "new_critic.gin": ("stage1/ImprovePolicy.reinitialize", "networks"),
    "preferred_latents.gin": ("stage1/FitDecoder.latents", "@PreferredLatents()"),
    "prior_latents.gin": ("stage1/FitDecoder.latents", "@PriorLatents()"),
    "exact_swap.gin": (
        "stage1/Stage.phases",
        ["@AbsorbEncoder()", "@EvaluatePrior()", "@ImprovePolicy()", "@Evaluate()"],
    ),
    "fitted_critic.gin": (
        "stage1/Stage.phases",
        ["@CollectRollouts()", "@FitCritic()", "@FitDecoder()", "@EvaluatePrior()", "@ImprovePolicy()", "@Evaluate()"],
    ),
    "shrinking_normalizer.gin": ("GaussianPolicy.normalizer", "@ShrinkingNormalizer"),
    "stage0_only.gin": ("Experiment.stages", ["@stage0/Stage()"]),
}


def taken(built, binding):
    (found,) = values(built.parameters()["gin"], binding)
    return found


def test_every_method_is_a_file():
    assert set(METHODS) | {"quickstart.gin"} == set(config.runnable_files(shipped()))


@pytest.mark.parametrize("name", CONTROLS)
def test_each_control_changes_its_one_setting(name):
    binding, expected = CHANGED[name]
    assert taken(build("gorl_fm.gin", f"controls/{name}"), binding) == expected
    assert taken(build("gorl_fm.gin"), binding) != expected


def test_stage_0_only_has_the_budget_of_all_stages():
    total = build("gorl_fm.gin").experiment.env_steps()
    alone = build("gorl_fm.gin", "controls/stage0_only.gin").experiment.env_steps()
    assert (
        0 <= alone - total < 32 * 1024 * 30 and alone == build("ppo.gin").experiment.env_steps()
    )  # one iteration, rounded up


@pytest.mark.parametrize("size", ["parts/small.gin", "parts/debug.gin"])
def test_adaptive_stages_share_one_budget_at_every_size(size):
    """Whichever file is read first, each stage may take all that the baselines have, and all together no more."""
    for files in ((size, "controls/adaptive_stages.gin"), ("controls/adaptive_stages.gin", size)):
        experiment = build("gorl_fm.gin", *files).experiment
        total = {"parts/small.gin": 10_384_000, "parts/debug.gin": 480}[size]
        steps = [p.declaration.env_steps for p in experiment.planned_phases() if p.name == "ImprovePolicy"]
        assert steps == [total] * 10 and experiment.env_steps() == total


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preset", ["paper_v3.gin", "released_code.gin"])
def test_presets_fit_every_method(method, preset):
    built = build(method, f"presets/{preset}")
    assert not built.notes and built.config != build(method).config


@pytest.mark.parametrize("preset", ["paper_v3.gin", "released_code.gin"])
def test_presets_do_not_run_alone(preset):
    with pytest.raises(ConfigError, match="Name a method before it"):
        build(f"presets/{preset}")


def test_the_papers_preset_has_the_papers_numbers():
    built = build("gorl_fm.gin", "presets/paper_v3.gin")
    expected = {
        "decoder/MLP.width": 32, "Euler.steps": 10, "stage0/Clip.epsilon": 0.2, "stage3/Clip.epsilon": 0.2,
        "stage3/EntropyBonus.coefficient": 0.01, "stage3/LatentKL.coefficient": 0.0, "stage3/LatentL2.coefficient": 0.0,
        "stage0/OnPolicy.max_grad_norm": np.inf, "OnPolicy.advantage_unit": "minibatch",
        "stage1/CollectRollouts.env_steps": 512_000, "stage0/OnPolicy.discount": 0.995,
        "stage1/OnPolicy.grad_norm_unit": "learner",
    }  # fmt: skip
    for binding, value in expected.items():
        assert taken(built, binding.replace("OnPolicy.adv", "stage1/OnPolicy.adv")) == value, binding
    policy = modules(build("gorl_fm.gin", "presets/paper_v3.gin").experiment)[1].policy
    assert policy.shift == pytest.approx(0.0, abs=1e-5)  # sigma = softplus(x) + 1e-3


def test_the_released_codes_preset_has_its_numbers():
    built = build("gorl_diffusion.gin", "presets/released_code.gin")
    expected = {
        "decoder/MLP.width": 64, "stage0/Clip.epsilon": 0.15, "stage1/Clip.epsilon": 0.3,
        "stage0/OnPolicy.max_grad_norm": 0.5, "stage1/OnPolicy.max_grad_norm": 1.0,
        "stage0/LatentL2.coefficient": 5e-4, "stage1/LatentL2.coefficient": 1e-3,
        "stage1/CollectRollouts.episode_length": 9600, "stage1/CollectRollouts.env_steps": 2048 * 9600,
        "stage1/FitDecoder.max_samples": 10_000_000, "stage1/FitDecoder.split": "rows",
        "stage1/OnPolicy.statistics": "before", "Task.fresh_resets": False, "Task.staggered_starts": False,
        "Critic.normalizer": "@ShrinkingNormalizer", "DiffusionDecoder.normalizer": "@RunningNormalizer",
        "DiffusionDecoder.levels": "@OffByOneLevels()", "DiffusionDecoder.prediction": "@NoisePrediction()",
        "DiffusionDecoder.x0_clip": np.inf, "stage0/OnPolicy.advantage": "@BraxAdvantage()",
    }  # fmt: skip
    for binding, value in expected.items():
        assert taken(built, binding) == value, binding
    steps = [
        u.env_steps for s in built.experiment.planned_phases() for u in built.experiment.units(s) if u.name == "collect"
    ]
    assert steps == [2048 * 9600] * 3
    assert taken(build("fpo.gin", "presets/released_code.gin"), "Evaluator.rule") == "stochastic"
    assert taken(build("ppo.gin", "presets/released_code.gin"), "Evaluator.rule") == "mode"
    assert taken(build("ppo.gin", "presets/released_code.gin"), "Clip.epsilon") == 0.1


@pytest.mark.parametrize("name", ["SAC", "REPPO"])
def test_another_algorithm_is_one_line(name):
    file, binding = f"gorl_{name.lower()}.gin", f"ImprovePolicy.algorithm = @{name}()"
    lines = [line for line in (shipped() / file).read_text().splitlines() if line and not line.startswith("#")]
    assert lines == ["include 'gorl_fm.gin'", binding]
    ppo, other = (build(f).experiment for f in ("gorl_fm.gin", file))
    assert [s.name for s in ppo.planned_phases()] == [s.name for s in other.planned_phases()]
    assert build("gorl_fm.gin", bindings=[binding]).operative == build(file).operative


@pytest.mark.parametrize("critic", ["CategoricalCritic", "ActionCritic", "TwinCritic"])
def test_the_loss_of_reppo_is_one_line(critic):
    built = build("reppo.gin", bindings=[f"REPPO.critic = @{critic}"]).experiment
    learner = built.stages[0].phases[0].algorithm.create(SIZES, key=jax.random.key(0))
    assert type(learner.critic).__name__ == critic and learner.critic.squash


@pytest.mark.parametrize("which", ["config.gin", "operative_config.gin"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * is_like_shipped(n)) for n in RUNNABLE])
def test_a_saved_configuration_is_the_same_experiment(name, which, tmp_path):
    before = build(name, bindings=["SEED = 3"])
    before.save(tmp_path)
    with jax.numpy_rank_promotion("allow"):
        after = config.build([str(tmp_path / which)], plugins=plugins(name))
    assert after.operative == before.operative
    assert after.experiment.seed == before.experiment.seed == 3
    assert after.parameters()["gin"] == before.parameters()["gin"]
    steps = [list(x.experiment.planned_phases()) for x in (before, after)]
    assert steps[0] and len(steps[0]) == len(steps[1])
    for a, b in zip(*steps):
        assert (a.stage, a.phase) == (b.stage, b.phase) and eqx.tree_equal(
            settings(a.declaration), settings(b.declaration)
        )
        assert which == "operative_config.gin" or eqx.tree_equal(a.declaration, b.declaration)
    assert eqx.tree_equal(before.experiment.task, after.experiment.task)


@pytest.mark.parametrize("name", ["gorl_fm.gin", "ppo.gin"])
def test_a_saved_configuration_builds_the_same_modules(name, tmp_path):
    widths = [
        "critic/MLP.width = 4",
        "policy/MLP.width = 4",
        *(["decoder/MLP.width = 4"] if "gorl" in name else []),
    ]  # few shapes to compile
    bindings = [*widths, "critic/MLP.depth = 1", "Clip.epsilon = 0.125"]
    before = build(name, bindings=bindings)
    before.save(tmp_path)
    expected = modules(before.experiment)
    assert any(np.any(x != 0) for x in jax.tree.leaves(eqx.filter(expected, eqx.is_inexact_array)))
    for which in ("config.gin", "operative_config.gin"):
        assert eqx.tree_equal(modules(config.build([str(tmp_path / which)]).experiment), expected)
    other = build(name, bindings=[*widths, "critic/MLP.depth = 2"])
    assert not eqx.tree_equal(modules(other.experiment), expected)


def test_a_run_keeps_the_files_as_read(tmp_path):
    built = build("quickstart.gin")
    built.save(tmp_path)
    kept = {p.name.partition("-")[2]: p.read_text() for p in (tmp_path / "sources").iterdir()}
    assert {"quickstart.gin", "gorl_fm.gin", "gorl.gin", "base.gin"} <= set(kept)
    assert kept["base.gin"] == (shipped() / "parts/base.gin").read_text()
    assert (tmp_path / "config.gin").read_text().startswith("# gorl-format: 1\n# What was asked")


def test_the_stages_of_gorl():
    experiment = build("gorl_fm.gin").experiment
    improve = [stage.phases[-2] for stage in experiment.stages]
    assert [p.env_steps for p in improve] == [60_000_000, 60_000_000, 30_000_000, 30_000_000]
    later = [CollectRollouts, FitDecoder, EvaluatePrior, ImprovePolicy, Evaluate]
    assert [[type(p) for p in s.phases] for s in experiment.stages] == [[ImprovePolicy, Evaluate], later, later, later]
    iteration = 32 * 1024 * 30
    per_stage = [62 * iteration, 62 * iteration + 512_000, 31 * iteration + 512_000, 31 * iteration + 512_000]
    assert experiment.env_steps() == sum(per_stage) == 184_381_440


# What the tables of GoRL's paper and of its released code agree on (ImprovePolicy, rollouts and the fit), and where
# each number is: binding -> value. A `*` stands for every stage that has it.
PUBLISHED = {
    "*/OnPolicy.num_envs": 2048,
    "Task.episode_length": 1000,
    "*/OnPolicy.unroll_length": 30,
    "*/OnPolicy.num_minibatches": 32,
    "*/OnPolicy.batch_size": 1024,
    "*/OnPolicy.num_epochs": 16,
    "*/OnPolicy.discount": 0.995,
    "*/OnPolicy.gae_lambda": 0.95,
    "*/OnPolicy.reward_scale": 10.0,
    "*/OnPolicy.value_cost": 0.25,
    "*/OnPolicy.learning_rate": 1e-3,
    "policy/MLP.depth": 4,
    "policy/MLP.width": 32,
    "critic/MLP.depth": 5,
    "critic/MLP.width": 256,
    "decoder/MLP.depth": 4,
    "GaussianPolicy.min_std": 1e-3,
    "GaussianPolicy.max_std": 10.0,
    "*/FitDecoder.epochs": 50,
    "*/FitDecoder.batch_size": 8192,
    "*/FitDecoder.learning_rate": 3e-4,
    "*/FitDecoder.draws": 8,
    "*/Evaluator.num_envs": 128,
    "*/Evaluator.rule": "mode",
    "*/ImprovePolicy.evaluation_interval": 6_000_000,
    "Midpoint.steps": 5,  # ten network calls, as the published Euler
    "FourierTime.frequencies": 4,
}
# Where they differ, the number is a choice, but it is listed.
LISTED = ("*/Clip.epsilon", "*/OnPolicy.max_grad_norm", "*/EntropyBonus.coefficient", "decoder/MLP.width",
          "*/CollectRollouts.env_steps", "GaussianPolicy.initial_std", "Task.action_bound", "RunningNormalizer.epsilon",
          "*/FitDecoder.validation_fraction", "Experiment.seed")  # fmt: skip


def values(parameters, binding):
    """The values of a binding, in every stage that has it."""
    name, parameter = binding.rsplit(".", 1)
    names = [n for n in (name.replace("*", s) for s in STAGES) if n in parameters] if "*" in name else [name]
    return [parameters[n][parameter] for n in names]


def test_the_operative_configuration_lists_every_published_number():
    built = build("gorl_fm.gin")
    parameters = built.parameters()["gin"]
    for binding, expected in PUBLISHED.items():
        found = values(parameters, binding)
        assert len(found) == (1 if "*" not in binding else 3 if "FitDecoder" in binding else 4), binding
        assert set(found) == {expected}, binding
        assert binding.rsplit(".")[-1] in built.operative
    assert "\npolicy/optax.adam:\n  b1 = 0.9\n" in built.operative and "b1" not in built.config  # a default of optax's
    assert "\nClip:\n" in built.config and "\nstage3/Clip:\n" in built.operative
    for binding in LISTED:
        assert all(isinstance(v, (int, float)) for v in values(parameters, binding)) and values(parameters, binding), (
            binding
        )
    assert values(parameters, "critic/MLP.activation") == ["%jax.nn.silu"]
    assert values(parameters, "critic/MLP.initializer") == ["%jax.nn.initializers.lecun_uniform"]


@pytest.mark.parametrize(
    "name, kind, calls",
    [("gorl_fm.gin", FlowMatchingDecoder, 10), ("gorl_diffusion.gin", DiffusionDecoder, 10),
     ("gorl_gaussian.gin", GaussianDecoder, 1),
                          ("gorl_mean_flow.gin", MeanFlowDecoder, 1)]
)  # fmt: skip
def test_each_decoder_makes_the_calls_that_its_file_states(name, kind, calls):
    built = build(name)
    fit = next(s.declaration for s in built.experiment.planned_phases() if isinstance(s.declaration, FitDecoder))
    decoder = eqx.filter_eval_shape(
        lambda: fit.create(SIZES, IdentityDecoder(3, 2, key=jax.random.key(0)), key=jax.random.key(0))
    )
    assert type(decoder) is kind and decoder.network_calls == calls
    assert values(built.parameters()["gin"], "decoder/MLP.width") == [64] and values(
        built.parameters()["gin"], "decoder/MLP.depth"
    ) == [4]


# What a file's comments name as alternatives.
ALTERNATIVES = {
    "gorl_fm.gin": ["FlowMatchingDecoder.sampler = @Euler()", "FlowMatchingDecoder.sampler = @Heun()",
                    "Midpoint.grid = @CosineGrid()", "Midpoint.grid = @UniformGrid()",
                    "FlowMatchingDecoder.times = @LogitNormalTimes()"],
    "gorl_diffusion.gin": ["DiffusionDecoder.schedule = @LinearSchedule()",
                           "DiffusionDecoder.levels = @OffByOneLevels()",
                           "DiffusionDecoder.prediction = @NoisePrediction()",
                           "DiffusionDecoder.prediction = @DataPrediction()"],
    "gorl_mean_flow.gin": ["MeanFlowDecoder.times = @UniformTimes()", "MeanFlowDecoder.times = @LogitNormalTimes()",
                           "MeanFlowDecoder.tangent = @PredictedTangent()"],
}  # fmt: skip


@pytest.mark.parametrize("name, binding", [(name, b) for name, bindings in ALTERNATIVES.items() for b in bindings])
def test_alternatives_need_one_binding(name, binding):
    assert binding.split(" = ")[1] in build(name, bindings=[binding]).config


def test_a_schedule_that_leaves_the_action_is_refused_before_anything_runs():
    with pytest.raises(
        ConfigError, match=r"LinearSchedule leaves alphabar = 0\.904 .* Raise LinearSchedule\.levels = 10"
    ):
        build(
            "gorl_diffusion.gin",
            bindings=["DiffusionDecoder.schedule = @LinearSchedule()", "LinearSchedule.levels = 10"],
        )


def test_modules_are_of_their_own_class_and_as_built_by_hand():
    """gin must leave no trace: such as a subclass, a wrapper or another structure."""
    experiment = build(
        "gorl_fm.gin", bindings=["critic/MLP.width = 4", "policy/MLP.width = 4", "decoder/MLP.width = 4"]
    ).experiment
    key = jax.random.key(0)
    sizes = {"activation": jax.nn.silu, "initializer": jax.nn.initializers.lecun_uniform}
    normalizer = RunningNormalizer(3, epsilon=1e-6, clip=10.0)

    (first, *_, fitted), learner = modules(experiment)
    assert type(first) is IdentityDecoder and type(fitted) is FlowMatchingDecoder
    assert type(learner.policy) is GaussianPolicy and type(learner.policy.body) is MLP
    assert type(learner.critic.body) is MLP and type(learner.critic.normalizer) is RunningNormalizer

    body = lambda i, o, *, key: MLP(i, o, width=4, depth=5, output_scale=1.0, key=key, **sizes)  # noqa: E731
    assert jax.tree.structure(learner.critic.body) == jax.tree.structure(body(3, 1, key=key))
    assert jax.tree.structure(learner.critic.normalizer) == jax.tree.structure(normalizer)
    by_hand = FlowMatchingDecoder(
        3, 2,
        body=lambda i, o, *, key: MLP(i, o, width=4, depth=4, output_scale=1.0, key=key, **sizes),
        normalizer=lambda size: RunningNormalizer(size, epsilon=1e-6, clip=10.0),
        time_embedding=FourierTime(frequencies=4), times=UniformTimes(),
        sampler=Midpoint(steps=5, grid=PowerGrid(exponent=1.5)),
        key=jax.random.key(experiment.seed),
    )  # fmt: skip
    assert jax.tree.structure(fitted) == jax.tree.structure(by_hand)
    assert eqx.tree_equal(fitted, by_hand)


def test_an_experiment_does_not_change_when_another_is_read():
    """gin's state is global; an experiment keeps the bindings it was built with."""
    one = build("gorl_fm.gin", bindings=["policy/MLP.width = 7"])
    parameters, macros = one.parameters(), one.macros()
    two = build("ppo.gin", bindings=["policy/MLP.width = 9", "DISCOUNT = 0.5"])
    gin.clear_config()
    for built, width in ((one, 7), (two, 9), (one, 7)):
        algorithm = next(
            s.declaration.algorithm
            for s in built.experiment.planned_phases()
            if isinstance(s.declaration, ImprovePolicy)
        )
        learner = jax.eval_shape(
            lambda a=algorithm: a.create(SIZES, key=jax.random.key(0)).policy.body.layers[0].weight
        )
        assert learner.shape == (width, 3)
    assert one.parameters() == parameters and one.macros() == macros and macros["DISCOUNT"] == 0.995


CHECK = """
import json, sys, time
start = time.monotonic()
sys.argv = ["gorl", "check", "gorl_fm.gin"]
from gorl.cli.main import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
import jax._src.xla_bridge
heavy = ("mujoco_playground", "mujoco", "brax", "aim", "orbax", "warp", "matplotlib")
print(json.dumps({"backends": list(jax._src.xla_bridge._backends), "seconds": time.monotonic() - start,
                  "imported": [m for m in heavy if m in sys.modules]}))
"""


def test_a_check_starts_no_device_and_no_simulator(tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    done = subprocess.run(
        [sys.executable, "-c", CHECK], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "184,381,440" in done.stdout
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["backends"] == [] and facts["imported"] == []
    assert facts["seconds"] < 20  # 2 on an idle core


@pytest.mark.parametrize(
    "role, answer",
    [("policy", "OnPolicy.policy builds MLP"), ("critic", "@critic/MLP does not fit everywhere it is used")],
)
def test_a_network_is_no_policy_or_critic(role, answer):
    """The mistake of naming the network where the class around it belongs is answered before anything runs."""
    with pytest.raises(ConfigError) as err:
        config.build(["ppo.gin"], [f"OnPolicy.{role} = @{role}/MLP"])
    assert answer in str(err.value) and "A network goes inside" in str(err.value)


NETWORK = """
import equinox as eqx, gin

@gin.register(module="mine", denylist=["in_size", "out_size", "key"])
class OneLayer(eqx.Module):
    layer: eqx.nn.Linear

    def __init__(self, in_size, out_size, *, key):
        self.layer = eqx.nn.Linear(in_size, out_size, key=key)

    def __call__(self, x):
        return self.layer(x)
"""


@pytest.mark.parametrize("role", ["GaussianPolicy", "FlowMatchingDecoder", "Critic"])
def test_any_roles_network_can_be_a_users_module(role, tmp_path):
    """The shipped network's settings in the files are then unused, which is no mistake."""
    plugin = tmp_path / f"one_layer_{role.lower()}.py"
    plugin.write_text(NETWORK.replace("OneLayer", f"OneLayer{role}"))
    built = config.build(["quickstart.gin"], [f"{role}.body = @OneLayer{role}"], plugins=[str(plugin)])
    assert f"body = @OneLayer{role}" in built.config
