"""What programs need of memory, against the sizes of what goes through them."""

import jax
import jax.numpy as jnp
import numpy as np

from gorl import config
from gorl.training.memory import memory_needs


def test_needs_are_the_bytes_of_the_state_and_grow_with_lanes():
    def found(num_envs):
        bindings = [
            "Task.environment = @Slider()",
            f"NUM_ENVS = {num_envs}",
            "OnPolicy.batch_size = 256",
            "critic/MLP.depth = 1",
        ]
        experiment = config.build(["ppo.gin", "parts/debug.gin"], bindings).experiment
        arrays = [x for x in jax.tree.leaves(experiment.template(0, True)) if jnp.issubdtype(x.dtype, np.number)]
        held = sum(np.prod(x.shape, dtype=int) * x.dtype.itemsize for x in arrays)
        return {n.unit.name: n for n in memory_needs(experiment)}, held

    (few, held), (many, more) = found(64), found(256)
    assert set(few) == {"evaluate", "iterate", "evaluate_best", "evaluate_last"}
    one = few["iterate"]
    assert held <= one.state
    assert one.state <= 1.2 * held + 20_000
    assert held < more
    assert many["iterate"].state - one.state >= 0.9 * (more - held)
    assert one.working > 0
    assert one.total == one.state + one.working
