"""A number by hand for every objective that gorl registers: of the value, compiled or not; and a finite gradient.

A new class must be added to the table. The tests beside this one look at each more closely.
"""

import inspect
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gorl.registry  # noqa: F401
from gorl.config import tables
from gorl.generative.distributions import DiagonalGaussian
from gorl.generative.grids import AbstractGrid, CosineGrid, PowerGrid, UniformGrid
from gorl.generative.predictions import AbstractPrediction, DataPrediction, NoisePrediction, VelocityPrediction
from gorl.generative.samplers import AbstractSampler, Euler, Heun, Midpoint
from gorl.generative.schedules import (
    AbstractLevels,
    AbstractSchedule,
    CosineSchedule,
    LinearSchedule,
    NoisyLevels,
    OffByOneLevels,
)
from gorl.generative.times import AbstractTimes, ArcsineTimes, DiscreteTimes, LogitNormalTimes, UniformTimes
from gorl.objectives.entropy import AbstractEntropy, LatentEntropy, RelativeEntropy, SquashedEntropy
from gorl.objectives.gae import AbstractAdvantage, BraxAdvantage, GeneralizedAdvantage
from gorl.objectives.regularizers import AbstractRegularizer, EntropyBonus, LatentKL, LatentL2, SquashedEntropyBonus
from gorl.objectives.trust_region import ASPO, SPO, AbstractTrustRegion, Clip
from gorl.phases.latents import (
    AbstractLatents,
    EncoderLatents,
    PairedLatents,
    PreferredLatents,
    PriorLatents,
    StoredLatents,
)
from gorl.phases.selection import AbstractSelection, AdvantageWeighted, AllEpisodes, ReturnWeighted, TopEpisodes
from gorl.policies.flow_ratio import (
    AbstractFlowRatio,
    AbstractLossTarget,
    AveragedRatio,
    NoiseTarget,
    PerDrawRatio,
    VelocityTarget,
)

ROLES = (AbstractTrustRegion, AbstractRegularizer, AbstractAdvantage, AbstractTimes, AbstractLossTarget,
         AbstractFlowRatio, AbstractEntropy, AbstractSampler, AbstractGrid, AbstractPrediction, AbstractSchedule,
         AbstractLevels)  # fmt: skip
ELSEWHERE = {AllEpisodes, TopEpisodes, ReturnWeighted, AdvantageWeighted,
             PriorLatents, EncoderLatents, PairedLatents, PreferredLatents, StoredLatents}  # tests/phases  # fmt: skip
LAWS = {UniformTimes, ArcsineTimes, LogitNormalTimes}  # no value, but moments and quantiles: test_times.py
GRIDS = {CosineGrid}  # tests/generative/test_grids.py

f32 = lambda *x: jnp.asarray(x if len(x) > 1 else x[0], jnp.float32)
KEY = jax.random.key(3)


def cost(regularizer):
    return lambda mean, std: regularizer.cost(DiagonalGaussian(mean, std), key=KEY)


def steps(advantage):
    """Two steps to a time limit: rewards 1 and 2, values 3 and 4, next values 4 and 5; discount 0.5, lambda 0.5."""
    no = jnp.zeros(2, bool)
    more = (no, jnp.array([False, True]), ~no)
    return lambda reward, value, after: advantage(reward, value, after, *more, discount=f32(0.5), gae_lambda=f32(0.5))[
        0
    ]


def log_density(x, mean, std):
    return sum(-0.5 * ((a - m) / s) ** 2 - math.log(s) - 0.5 * math.log(2 * math.pi) for a, m, s in zip(x, mean, std))


U = 0.5 + 2.0 * np.asarray(jax.random.normal(KEY, (1,)))[0]  # the one sample that the squashed entropy takes
RATIO = math.log(1.5)
SAMPLED = (f32([1.0, -1.0]), f32([0.5, 2.0]), f32([1.5, 0.0]))  # mean, std, action
REWARDS = (f32([1.0, 2.0]), f32([3.0, 4.0]), f32([4.0, 5.0]))
DRAW = (
    f32([1.0, 0.0]),
    f32([0.5, 1.0]),
    f32([2.0, -1.0]),
    f32(0.25),
)  # velocity, action, noise, t: v - (noise - action) = (-0.5, 2)
LEVEL = (f32([2.0]), f32([-1.0]), f32(0.6), f32(0.8))  # x0, eps, alpha, sigma: x = 0.4, v = alpha eps - sigma x0 = -2.2
half = lambda x, t: 0.5 * x  # dx/dt = x / 2, from t = 1 to 0
uniform = UniformGrid()

# class: [(function, arguments, value by hand), ...]
TABLE = {
    Clip: [(Clip(0.2).objective, (f32(RATIO), f32(2.0)), 2.4), (Clip(0.2).objective, (f32(RATIO), f32(-2.0)), -3.0)],
    SPO: [
        (SPO(0.2).objective, (f32(RATIO), f32(2.0)), 3.0 - 2.0 / 0.4 * 0.25),
        (SPO(0.2).objective, (f32(RATIO), f32(-2.0)), -3.0 - 1.25),
    ],
    ASPO: [
        (ASPO(0.2).objective, (f32(RATIO), f32(2.0)), 2.4),
        (ASPO(0.2).objective, (f32(RATIO), f32(-2.0)), -3.0 - 1.25),
    ],
    EntropyBonus: [
        (cost(EntropyBonus(1.0)), (f32([1.0]), f32([2.0])), -(math.log(2.0) + 0.5 * math.log(2 * math.pi * math.e)))
    ],
    SquashedEntropyBonus: [
        (
            cost(SquashedEntropyBonus(1.0)),
            (f32([0.5]), f32([2.0])),
            -(math.log(2.0) + 0.5 * math.log(2 * math.pi * math.e) + math.log(1 - math.tanh(U) ** 2)),
        )
    ],
    LatentL2: [(cost(LatentL2(1.0)), (f32([1.0, 3.0]), f32([2.0, 4.0])), 5.0 + 10.0)],
    LatentKL: [(cost(LatentKL(1.0)), (f32([1.0]), f32([2.0])), 0.5 * (4.0 + 1.0 - 1.0 - 2 * math.log(2.0)))],
    GeneralizedAdvantage: [
        (steps(GeneralizedAdvantage()), REWARDS, [0.0 + 0.25 * 0.5, 0.5])
    ],  # deltas 1 + 2 - 3 and 2 + 2.5 - 4
    BraxAdvantage: [
        (steps(BraxAdvantage()), REWARDS, [1.0 + 0.5 * 4.0 - 3.0, 0.0])
    ],  # a truncated step's target is its value, its advantage 0
    DiscreteTimes: [(lambda: DiscreteTimes(1).sample(key=KEY), (), 1.0)],
    VelocityTarget: [(VelocityTarget().loss, DRAW, (0.25 + 4.0) / 2)],
    NoiseTarget: [(NoiseTarget().loss, DRAW, 0.75**2 * (0.25 + 4.0) / 2)],
    AveragedRatio: [(AveragedRatio(), (f32([1.0, 6.0]), f32([2.0, 1.0])), [2.0])],
    PerDrawRatio: [(PerDrawRatio(8.0), (f32([1.0, 6.0]), f32([2.0, 1.0])), [-1.0, 5.0])],
    LatentEntropy: [
        (
            lambda m, s, a: LatentEntropy(0.7).log_prob(DiagonalGaussian(m, s), a),
            SAMPLED,
            log_density([1.5, 0.0], [1.0, -1.0], [0.5, 2.0]),
        ),
        (lambda: LatentEntropy(0.7).target(3), (), 3 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.7))),
    ],
    RelativeEntropy: [
        (
            lambda m, s, a: RelativeEntropy(1.0).log_prob(DiagonalGaussian(m, s), a),
            SAMPLED,
            log_density([1.5, 0.0], [1.0, -1.0], [0.5, 2.0]) - log_density([1.5, 0.0], [0.0, 0.0], [1.0, 1.0]),
        ),
        (lambda: RelativeEntropy(1.5).target(3), (), -4.5),
    ],
    SquashedEntropy: [
        (
            lambda m, s, a: SquashedEntropy(-1.0).log_prob(DiagonalGaussian(m, s), a),
            SAMPLED,
            log_density([1.5, 0.0], [1.0, -1.0], [0.5, 2.0]) - math.log(1 - math.tanh(1.5) ** 2),
        ),
        (lambda: SquashedEntropy(-1.0).target(3), (), -3.0),
    ],
    Euler: [(lambda x: Euler(2, uniform)(half, x), (f32([1.0]),), [0.75**2])],  # each step: x - h x / 2, h = 1/2
    Midpoint: [(lambda x: Midpoint(1, uniform)(half, x), (f32([1.0]),), [1 - 0.5 * 0.75])],
    Heun: [(lambda x: Heun(1, uniform)(half, x), (f32([1.0]),), [1 - 0.5 * (0.5 + 0.25)])],
    UniformGrid: [(lambda: f32(uniform.times(2)), (), [1.0, 0.5, 0.0])],
    PowerGrid: [(lambda: f32(PowerGrid(2.0).times(2)), (), [1.0, 0.25, 0.0])],
    NoisePrediction: [(NoisePrediction().target, LEVEL, [-1.0])],
    VelocityPrediction: [(VelocityPrediction().target, LEVEL, [0.6 * -1.0 - 0.8 * 2.0])],
    DataPrediction: [(DataPrediction().target, LEVEL, [2.0])],
    CosineSchedule: [(lambda: f32(CosineSchedule(2, offset=0.0, floor=1e-3).alphabar()), (), [1.0, 0.5, 1e-3])],
    LinearSchedule: [
        (lambda: f32(LinearSchedule(2, first_beta=0.9, last_beta=0.9, levels=2).alphabar()), (), [1.0, 0.1, 0.01])
    ],
    NoisyLevels: [(lambda: f32(list(NoisyLevels().trained(3))), (), [1.0, 2.0, 3.0])],
    OffByOneLevels: [(lambda: f32(list(OffByOneLevels().trained(3))), (), [0.0, 1.0, 2.0])],
}
ROWS = [pytest.param(*row, id=f"{kind.__name__}-{i}") for kind, rows in TABLE.items() for i, row in enumerate(rows)]


def test_the_table_has_every_objective():
    classes = {t for t in tables.registered().values() if inspect.isclass(t) and t.__module__.startswith("gorl.")}
    assert {t for t in classes if issubclass(t, ROLES)} == set(TABLE) | LAWS | GRIDS
    assert {t for t in classes if issubclass(t, (AbstractSelection, AbstractLatents))} == ELSEWHERE


@pytest.mark.parametrize("function, arguments, expected", ROWS)
def test_the_value_by_hand(function, arguments, expected):
    np.testing.assert_allclose(function(*arguments), expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(eqx.filter_jit(function)(*arguments), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("function, arguments, expected", [row for row in ROWS if row.values[1]])
def test_the_gradient_is_finite_and_is_that_of_differences(function, arguments, expected):
    """In the first argument, along one direction."""
    first, *rest = arguments
    total = lambda x: jnp.sum(function(x, *rest))
    gradient = jax.jit(jax.grad(total))(first)
    assert gradient.shape == first.shape and jnp.all(jnp.isfinite(gradient))
    h = 1e-2
    difference = (total(first + h) - total(first - h)) / (2 * h)
    np.testing.assert_allclose(jnp.sum(gradient), difference, rtol=2e-2, atol=2e-2)
