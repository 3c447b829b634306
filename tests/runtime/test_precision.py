"""The precision of matrix products is real on every device, and physics is left out of it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from gorl import config
from gorl.networks.mlp import MLP, Linear
from gorl.runtime.precision import PRECISIONS, in_float32, matrix_products, product

MLP_KIND = dict(
    width=16, depth=2, activation=jax.nn.tanh, initializer=jax.nn.initializers.lecun_uniform, output_scale=1.0
)


def sample(*shape, seed=0):
    return np.asarray(jax.random.normal(jax.random.key(seed), shape))


def test_bfloat16_is_the_product_of_rounded_factors_summed_in_float32():
    weight, x = sample(32, 64), sample(64, seed=1)
    exact = lambda a: a.astype(ml_dtypes.bfloat16).astype(np.float64)  # noqa: E731
    with matrix_products("bfloat16"):
        got = jax.jit(product)(weight, x)
    np.testing.assert_allclose(got, exact(weight) @ exact(x), atol=1e-5)
    assert np.abs(got - weight @ x).max() > 1e-3


@pytest.mark.parametrize(
    ("precision", "unit"), [("highest", 2.0**-24), ("tensorfloat32", 2.0**-11), ("bfloat16", 2.0**-8)]
)
def test_a_factor_is_rounded_to_half_a_unit_of_its_last_place(precision, unit):
    with matrix_products(precision):
        got = jax.jit(product)(jnp.asarray([[1.0 + 2 * unit]]), jnp.ones(1))
        halfway = jax.jit(product)(jnp.asarray([[1.0 + unit]]), jnp.ones(1))  # ties go to the even one, 1
    assert got[0] == 1.0 + 2 * unit and halfway[0] == 1.0


def test_the_backward_products_have_rounded_factors_too():
    weight, x, cotangent = sample(8, 5), sample(5, seed=1), sample(8, seed=2)
    r = lambda a: a.astype(ml_dtypes.bfloat16).astype(np.float32)  # noqa: E731
    with matrix_products("bfloat16"):
        by_weight, by_x = jax.jit(lambda w, x, c: jax.vjp(product, w, x)[1](c))(weight, x, cotangent)
    # A gradient is itself rounded on its way back through the rounding of its factor.
    np.testing.assert_allclose(by_weight, r(np.outer(r(cotangent), r(x))), rtol=1e-6)
    np.testing.assert_allclose(by_x, r(r(weight).T @ r(cotangent)), rtol=2.0**-7)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_and_results_stay_float32_and_batches_agree_with_single_vectors(precision):
    network, x = MLP(5, 3, **MLP_KIND, key=jax.random.key(0)), jnp.asarray(sample(7, 5))
    with matrix_products(precision):
        loss = lambda n: jnp.sum(jax.vmap(n)(x) ** 2)  # noqa: E731
        grads = jax.jit(jax.grad(loss))(network)
        together, one = jax.vmap(network)(x), jnp.stack([network(row) for row in x])
    assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(eqx.filter(grads, eqx.is_array)))
    np.testing.assert_allclose(together, one, atol=2e-2 if precision == "bfloat16" else 1e-4)


def test_the_default_is_the_plain_product():
    with matrix_products("highest"):
        text = str(
            jax.make_jaxpr(Linear(4, 4, initializer=jax.nn.initializers.lecun_uniform, key=jax.random.key(0)))(
                jnp.ones(4)
            )
        )
    assert "reduce_precision" not in text and "custom_vjp" not in text


def test_physics_is_float32_whatever_networks_are():
    seen = []
    with matrix_products("bfloat16"):
        in_float32(lambda: seen.append(jax.config.jax_default_matmul_precision))()
        seen.append(jax.config.jax_default_matmul_precision)
    assert seen == ["highest", "bfloat16"]


def test_an_environments_step_asks_for_highest():
    env = config.build(["ppo.gin"], ["ENV = 'CartpoleBalance'"]).experiment.task.environment
    with matrix_products("bfloat16"), jax.numpy_rank_promotion("allow"):  # MuJoCo's own code relies on it
        state = jax.eval_shape(env.reset, jax.eval_shape(lambda: jax.random.key(0)))
        text = str(jax.make_jaxpr(env.step)(state, jnp.zeros(1)))
    assert "dot_general" in text and "Precision.DEFAULT" not in text
