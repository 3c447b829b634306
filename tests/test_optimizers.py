import equinox as eqx
import gin
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gorl import config
from gorl.errors import ConfigError
from gorl.optimizers import OPTIMIZERS, SCHEDULES, TRANSFORMS, Chain, OptaxCall, as_rate, build_transformation

OFF = np.asarray(np.inf, np.float32)
MINIMUM = {"x": jnp.array([1.0, -2.0]), "y": jnp.array(0.5)}
SETTINGS = {
    "constant_schedule": {"value": 0.1},
    "cosine_decay_schedule": {"init_value": 0.1, "decay_steps": 10, "alpha": 0.2, "exponent": 2.0},
    "exponential_decay": {
        "init_value": 0.1,
        "transition_steps": 5,
        "decay_rate": 0.5,
        "transition_begin": 2,
        "end_value": 0.03,
    },
    "linear_schedule": {"init_value": 0.1, "end_value": 0.02, "transition_steps": 8},
    "polynomial_schedule": {"init_value": 0.1, "end_value": 0.02, "power": 2.0, "transition_steps": 8},
    "warmup_cosine_decay_schedule": {
        "init_value": 0.0,
        "peak_value": 0.1,
        "warmup_steps": 4,
        "decay_steps": 12,
        "end_value": 0.01,
    },
    "clip": {"max_delta": 0.5},
    "clip_by_block_rms": {"threshold": 0.5},
    "trace": {"decay": 0.9},
    "scale_by_adam": {"b1": 0.8, "b2": 0.99, "eps": 1e-6, "eps_root": 1e-9},
    "add_decayed_weights": {"weight_decay": 0.01},
}


def call(name, **numbers):
    return OptaxCall(
        function=getattr(optax, name), numbers={k: np.asarray(v, np.float32) for k, v in numbers.items()}, options=()
    )


def configured(name, **arguments):
    """What `@optax.name()` is in a configuration file."""
    return gin.get_configurable(f"optax.{name}")(**arguments)


def loss(params):
    return sum(
        jnp.sum(a * (p - m) ** 2) for a, p, m in zip((1.0, 3.0), jax.tree.leaves(params), jax.tree.leaves(MINIMUM))
    )


@eqx.filter_jit
def descend(optimizer, learning_rate, max_grad_norm, steps):
    """From (0, 0, 0), with everything given as an input of the compiled program."""
    transformation = build_transformation(optimizer, learning_rate, max_grad_norm)
    params = jax.tree.map(jnp.zeros_like, MINIMUM)

    def step(carry, _):
        params, state = carry
        updates, state = transformation.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), params

    (params, _), path = jax.lax.scan(step, (params, transformation.init(params)), length=steps)
    return params, path


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_finds_the_minimum_of_a_parabola(name):
    rate = configured("linear_schedule", init_value=0.05, end_value=0.0, transition_steps=1500)
    params, _ = descend(configured(name), rate, OFF, 1500)
    for found, minimum in zip(jax.tree.leaves(params), jax.tree.leaves(MINIMUM)):
        np.testing.assert_allclose(found, minimum, atol=0.01)


def test_sgd_by_hand():
    # y: gradient 6 (y - 0.5) = -3, then -3 + 6·0.3; velocity 3, then 0.9·3 + 1.2
    _, path = descend(call("sgd", momentum=0.9), np.float32(0.1), OFF, 3)
    np.testing.assert_allclose(path["y"], [0.0, 0.3, 0.69], rtol=1e-5)


def test_arguments_reach_the_function():
    expected = optax.adam(0.1, b1=0.5, b2=0.7, eps=0.3, nesterov=True).update(
        {"x": jnp.ones(2)}, optax.adam(0.1).init({"x": jnp.ones(2)})
    )[0]
    made = configured("adam", b1=0.5, b2=0.7, eps=0.3, nesterov=True)
    assert set(made.numbers) == {"b1", "b2", "eps", "eps_root"} and dict(made.options) == {
        "nesterov": True,
        "mu_dtype": None,
    }  # defaults too
    transformation = build_transformation(made, np.asarray(0.1, np.float32), OFF)
    updates, _ = transformation.update({"x": jnp.ones(2)}, transformation.init({"x": jnp.ones(2)}))
    np.testing.assert_allclose(updates["x"], expected["x"], rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_a_learning_rate_of_the_compiled_program(name):
    """With SGD on a constant slope, the updates are the schedule."""
    rate = as_rate(configured(name, **SETTINGS[name]))

    @eqx.filter_jit
    def rates(rate):
        transformation = build_transformation(call("sgd"), rate, OFF)
        step = lambda state, _: transformation.update(jnp.ones(()), state)[::-1]
        return jax.lax.scan(step, transformation.init(jnp.zeros(())), length=15)[1]

    expected = [getattr(optax, name)(**SETTINGS[name])(i) for i in range(15)]
    np.testing.assert_allclose(-rates(rate), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("steps", [8, 8.0])
def test_a_schedule_takes_steps_as_integers_or_floats(steps):
    """2e6 is how one writes a large number of updates."""
    value = eqx.filter_jit(lambda s: s()(jnp.asarray(4)))(
        configured("linear_schedule", init_value=1.0, end_value=0.0, transition_steps=steps)
    )
    np.testing.assert_allclose(value, 0.5)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_optaxs(name):
    arguments = SETTINGS.get(name, {})
    params, gradient = {"x": jnp.array([[1.0, -2.0], [0.5, 3.0]])}, {"x": jnp.array([[3.0, 0.1], [-2.0, 0.7]])}

    @eqx.filter_jit
    def update(optimizer):
        transformation = build_transformation(optimizer, np.asarray(1.0, np.float32), OFF)
        return transformation.update(gradient, transformation.init(params), params)[0]

    reference = getattr(optax, name)(**arguments)
    expected, _ = reference.update(gradient, reference.init(params), params)
    np.testing.assert_allclose(update(Chain([configured(name, **arguments)]))["x"], -expected["x"], rtol=1e-5)


def test_chain_applies_in_order_then_the_rate():
    # clip to 0.5, then momentum: 0.1 · (0.5, 0.5 + 0.9·0.5) upwards in y, whose slopes -3 and -2.7 are beyond the clip
    chain = Chain([call("clip", max_delta=0.5), call("trace", decay=0.9)])
    _, path = descend(chain, np.float32(0.1), OFF, 3)
    np.testing.assert_allclose(path["y"], [0.0, 0.05, 0.145], rtol=1e-5)
    # momentum, then clip: never faster than 0.5
    _, path = descend(Chain(chain.transforms[::-1]), np.float32(0.1), OFF, 3)
    np.testing.assert_allclose(path["y"], [0.0, 0.05, 0.1], rtol=1e-5)


def test_equal_structure_shares_one_compilation():
    traces = []

    @eqx.filter_jit
    def rate_of_first_step(optimizer, learning_rate, max_grad_norm):
        traces.append(optimizer)
        transformation = build_transformation(optimizer, learning_rate, max_grad_norm)
        return transformation.update(jnp.float32(2.0), transformation.init(jnp.float32(0.0)))[0]

    first = rate_of_first_step(configured("adam", b1=0.9, eps=1e-8), as_rate(0.1), OFF)
    second = rate_of_first_step(configured("adam", b1=0.5, eps=2.0), as_rate(0.3), np.asarray(5.0, np.float32))
    assert len(traces) == 1
    np.testing.assert_allclose(
        [first, second], [-0.1, -0.3 * 2.0 / (2.0 + 2.0)], rtol=1e-5
    )  # yet their numbers are their own
    rate_of_first_step(configured("adam", b1=0.5, eps=2.0, nesterov=True), as_rate(0.3), OFF)
    rate_of_first_step(configured("rmsprop"), as_rate(0.3), OFF)
    assert len(traces) == 3


@pytest.mark.parametrize("bound, expected", [(0.5, [0.3, 0.4]), (5.5, [3.0, 4.0]), (np.inf, [3.0, 4.0])])
def test_the_global_norm_of_the_gradient_is_clipped(bound, expected):
    transformation = build_transformation(call("sgd"), as_rate(1.0), np.asarray(bound, np.float32))
    gradient = {"a": jnp.array([3.0]), "b": jnp.array(4.0)}  # of norm 5
    updates, _ = transformation.update(gradient, transformation.init(gradient))
    np.testing.assert_allclose([-updates["a"][0], -updates["b"]], expected, rtol=1e-6)


def test_the_norm_is_clipped_before_the_optimizer_sees_it():
    transformation = build_transformation(call("sgd", momentum=0.9), as_rate(1.0), np.asarray(1.0, np.float32))
    state = transformation.init(jnp.zeros(()))
    _, state = transformation.update(jnp.float32(100.0), state)
    update, _ = transformation.update(jnp.float32(100.0), state)
    np.testing.assert_allclose(update, -1.9, rtol=1e-6)


@pytest.mark.parametrize("value", ["1e-3", True, None])
def test_a_learning_rate_is_a_number_or_a_schedule(value):
    with pytest.raises(ConfigError, match="it must be a number or a schedule"):
        as_rate(value)


@pytest.mark.parametrize(
    "name, arguments, what",
    [
        ("adam", {"b1": 1.0}, "optax.adam.b1 = 1.0: it must be in [0, 1)."),
        ("sgd", {"momentum": -0.1}, "optax.sgd.momentum = -0.1: it must be in [0, 1)."),
        ("adamw", {"weight_decay": float("inf")}, "optax.adamw.weight_decay = inf: it must be finite."),
        ("nadam", {"eps": -1e-8}, "optax.nadam.eps = -1e-08: it must be >= 0."),
        ("clip", {"max_delta": 0.0}, "optax.clip.max_delta = 0.0: it must be > 0."),
        ("linear_schedule", {"init_value": 1.0, "end_value": 0.0, "transition_steps": 0}, "it must be >= 1."),
        ("constant_schedule", {"value": -1e-3}, "optax.constant_schedule.value = -0.001: it must be >= 0."),
    ],
)
def test_numbers_of_which_optax_makes_something_else_are_refused(name, arguments, what):
    with pytest.raises(ConfigError) as err:
        configured(name, **arguments)
    assert what in str(err.value)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_narrow_parameters_are_updated_in_float32_and_keep_their_type(kind):
    """Adam's first step is the learning rate against the gradient's sign."""
    one = build_transformation(call("adam"), np.asarray(0.25, np.float32), np.asarray(1.0, np.float32))
    params = {"narrow": jnp.ones(2, kind), "wide": jnp.ones(2)}
    state = one.init(params)
    grads = {"narrow": jnp.array([3.0, -3.0], kind), "wide": jnp.array([3.0, -3.0])}
    updates, after = one.update(grads, state, params)
    assert updates["narrow"].dtype == kind and updates["wide"].dtype == jnp.float32
    np.testing.assert_allclose(updates["narrow"].astype(jnp.float32), [-0.25, 0.25], rtol=1e-2)
    np.testing.assert_allclose(updates["wide"], [-0.25, 0.25], rtol=1e-5)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)


@pytest.mark.parametrize(
    "bindings, message",
    [
        (
            ["OnPolicy.optimizer = @optax.adam()", "optax.adam.mu_dtype = 'float99'"],
            "'float99'.*it must name",
        ),
        (["OnPolicy.optimizer = @optax.adam()", "optax.adam.mu_dtype = 'int32'"], "'int32'.*it must name"),
        (["OnPolicy.optimizer = @optax.adamw()", "optax.adamw.mask = 3"], "mask = 3.*it must be None or a function"),
        (
            [
                "OnPolicy.learning_rate = @optax.warmup_cosine_decay_schedule()",
                "optax.warmup_cosine_decay_schedule.init_value = 0.0",
                "optax.warmup_cosine_decay_schedule.peak_value = 1e-3",
                "optax.warmup_cosine_decay_schedule.warmup_steps = 20",
                "optax.warmup_cosine_decay_schedule.decay_steps = 10",
            ],
            r"optax.warmup_cosine_decay_schedule\(.*decay_steps = 10.*\) fails",
        ),
    ],
)
def test_settings_that_optax_itself_refuses_are_named(bindings, message):
    with pytest.raises(ConfigError, match=message):
        config.build(["ppo.gin"], bindings)
