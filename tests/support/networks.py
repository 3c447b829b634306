"""Networks as configurations bind them, small."""

import functools

import jax

from gorl.networks import MLP, RunningNormalizer

NORMALIZER = functools.partial(RunningNormalizer, epsilon=1e-6, clip=10.0)


def mlp(width, depth, *, activation=jax.nn.silu, output_scale=1.0, kind=MLP):
    return functools.partial(
        kind,
        width=width,
        depth=depth,
        activation=activation,
        initializer=jax.nn.initializers.lecun_uniform,
        output_scale=output_scale,
    )
