"""Registers everything that a gin file may name.

`import gorl.registry` is the first line of gin_configs/parts/base.gin.
"""

import gin
import jax

import gorl.acting.evaluator
import gorl.algorithms
import gorl.algorithms.action_critics
import gorl.algorithms.on_policy
import gorl.algorithms.reppo
import gorl.algorithms.sac
import gorl.decoders
import gorl.environments
import gorl.environments.task
import gorl.environments.toy
import gorl.experiment
import gorl.generative.samplers
import gorl.generative.times
import gorl.networks
import gorl.objectives.entropy
import gorl.objectives.gae
import gorl.objectives.regularizers
import gorl.objectives.trust_region
import gorl.optimizers
import gorl.phases
import gorl.pictures
import gorl.policies
import gorl.policies.flow_ratio
import gorl.studies.declaration
import gorl.studies.executors
import gorl.tracking.aim
import gorl.tracking.tensorboard  # noqa: F401

# A constant is the function itself. gin's wrapper would not be equal to jax.nn.silu, and so would change the structure
# of every module that holds it.
for _name in ("elu", "gelu", "leaky_relu", "mish", "relu", "sigmoid", "silu", "softplus", "tanh"):
    gin.constant(f"jax.nn.{_name}", getattr(jax.nn, _name))
for _name in (
    "he_normal",
    "he_uniform",
    "glorot_normal",
    "glorot_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
):
    gin.constant(f"jax.nn.initializers.{_name}", getattr(jax.nn.initializers, _name))
