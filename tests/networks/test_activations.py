import jax
import jax.numpy as jnp
import numpy as np

from gorl.networks.activations import silu, with_cheap_gradient

X = jnp.array([-90.0, -3.0, -0.5, 0.0, 0.5, 3.0, 90.0])


def test_values_and_slopes_by_hand():
    # silu(1) = 1 / (1 + e^-1) = 0.7310586;
    # its slope there: s + s (1 - s) = 0.7310586 + 0.7310586 · 0.2689414 = 0.9276705; at 0: 1/2
    np.testing.assert_allclose(silu(jnp.array(1.0)), 0.7310586, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(silu)(1.0), 0.9276705, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(silu)(0.0), 0.5)


def test_it_is_jax_silu_up_to_the_third_derivative():
    theirs, ours = jax.nn.silu, silu
    for _ in range(4):
        np.testing.assert_allclose(jax.vmap(ours)(X), jax.vmap(theirs)(X), rtol=1e-5, atol=1e-6)
        theirs, ours = jax.grad(theirs), jax.grad(ours)


def test_forward_and_reverse_mode_agree():
    _, forward = jax.jvp(silu, (X,), (jnp.ones_like(X),))
    np.testing.assert_array_equal(forward, jax.vmap(jax.grad(silu))(X))


def test_one_array_is_stored_for_the_backward_pass():
    sizes = lambda f: [x.shape for x in jax.tree.leaves(jax.vjp(f, X)[1]) if getattr(x, "shape", ()) == X.shape]
    assert len(sizes(silu)) == 1 < len(sizes(jax.nn.silu))


def test_other_activations_than_silu_are_left_alone():
    assert with_cheap_gradient(jax.nn.silu) is silu
    assert with_cheap_gradient(jnp.tanh) is jnp.tanh
