"""Rules by which an ImprovePolicy phase ends before its last step, and what a phase with a rule passes on.

A stage that has stopped rising may hand on what it gained, and a stage that gained nothing has nothing to hand on.
"""

import abc

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gorl.fields import Scalar, budget, hyperparameter, require, structural
from gorl.policies.base import AbstractGaussianPolicy, AbstractPolicy
from gorl.runtime import trees
from gorl.runtime.programs import program
from gorl.state import Gain, PyTree, RunState, Snapshot


class EndState(eqx.Module):
    """The memory of a rule between evaluations, for one seed."""

    reference: Float[Array, ""]  # the return that the next rise is counted from
    waited: Int[Array, ""]  # evaluations since that return
    met: Bool[Array, ""]  # the phase may end


class AbstractEndRule(eqx.Module):
    """A rule that ends a phase after an evaluation. It is never asked before `min_env_steps` of the phase's steps."""

    min_env_steps: eqx.AbstractVar[int]

    @abc.abstractmethod
    def check(self, policy: AbstractPolicy) -> None:
        """Raises ConfigError if the settings are invalid, or the policy lacks what the rule needs."""

    @abc.abstractmethod
    def update(
        self, state: EndState, value: Float[Array, ""], policy: AbstractPolicy, obs: Float[Array, "B D_o"]
    ) -> tuple[EndState, dict[str, Float[Array, ""]]]:
        """Returns the state after an evaluation with the return `value`, and metrics.

        `obs` are the observations at which the learner's lanes stand.
        """

    def start(self) -> EndState:
        """Returns the state before the first evaluation."""
        return EndState(jnp.asarray(-jnp.inf, jnp.float32), jnp.asarray(0, jnp.int32), jnp.asarray(False))


@gin.register(module="gorl")
class NoGain(AbstractEndRule):
    """Ends a phase whose return has not risen by more than `margin` for `patience` evaluations in a row.

    A rise is counted from the last return that was one; the first return is one, NaN is none. With `min_kl` the phase
    goes on as long as the mean of KL(policy(. | s) || N(0, I)), in nats, is below it: there is nothing yet for a
    decoder to absorb. Its states s are those at which the learner's lanes stand. None: wherever the policy is.
    """

    margin: Scalar = hyperparameter()
    patience: int = structural()
    min_env_steps: int = budget()
    min_kl: float | None = structural()

    def __check_init__(self):
        require(self.patience >= 1, f"NoGain.patience = {self.patience}: it must be >= 1 evaluation.")
        require(bool(self.margin >= 0), f"NoGain.margin = {self.margin}: it must be >= 0.")
        require(self.min_env_steps >= 0, f"NoGain.min_env_steps = {self.min_env_steps}: it must be >= 0.")
        require(
            self.min_kl is None or self.min_kl >= 0, f"NoGain.min_kl = {self.min_kl}: it must be >= 0 nats, or None."
        )

    def check(self, policy: AbstractPolicy) -> None:
        require(
            self.min_kl is None or isinstance(policy, AbstractGaussianPolicy),
            f"NoGain.min_kl = {self.min_kl} needs a Gaussian policy, but the algorithm's is {type(policy).__name__},"
            " whose divergence has no closed form. Set NoGain.min_kl = None.",
        )

    def update(
        self, state: EndState, value: Float[Array, ""], policy: AbstractPolicy, obs: Float[Array, "B D_o"]
    ) -> tuple[EndState, dict[str, Float[Array, ""]]]:
        rose = value > state.reference + self.margin
        reference = jnp.where(rose, value, state.reference)
        waited = jnp.where(rose, 0, state.waited + 1)
        met, metrics = waited >= self.patience, {"evaluations_without_gain": waited.astype(jnp.float32)}
        if self.min_kl is not None:
            kl = jnp.nanmean(jax.vmap(policy.kl_to_prior)(obs))
            met, metrics = met & (kl >= self.min_kl), {**metrics, "latent_kl": kl}
        return EndState(reference, waited, met), metrics


@program
def update_rule(shared: tuple, each: tuple, state: EndState) -> tuple[EndState, dict[str, Float[Array, ""]]]:
    """Tells the rule of an evaluation of one seed."""
    (rule,) = shared
    return rule.update(state, *each)


def is_met(state: EndState) -> bool:
    """Whether the rule ends the phase, for every seed [S]. Waits for the device."""
    return bool(np.all(np.asarray(state.met)))


def gain(best: Snapshot) -> Gain:
    """Returns what a phase gained: nothing if its best policy is its first one."""
    return Gain(best.iteration > 0, best.value)


def continued(run: RunState, learner: PyTree) -> tuple[PyTree, Snapshot]:
    """Returns the learner to begin with, and the best policy so far, given a new (or kept) learner.

    After a phase that gained nothing it is that phase's learner and its best policy: training goes on. A learner of
    another structure cannot go on, and is new.
    """
    best = Snapshot(learner.policy, jnp.asarray(-jnp.inf, jnp.float32), jnp.asarray(0, jnp.int32))
    if run.gain is None or not _alike(learner, run.learner):
        return learner, best
    found, before = run.gain.found, Snapshot(run.best, run.gain.value, best.iteration)
    return trees.where(found, learner, run.learner), trees.where(found, best, before)


def _alike(one: PyTree, other: PyTree) -> bool:
    """Whether two trees have one structure, and arrays of the same shapes."""
    shapes = lambda tree: [jnp.shape(x) for x in jax.tree.leaves(tree)]
    return jax.tree.structure(one) == jax.tree.structure(other) and shapes(one) == shapes(other)
