"""When the statistics of a learner's normalizers are updated: before the epochs of an iteration, or after them."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax

from gorl.algorithms.base import AbstractActorCritic
from gorl.networks import AbstractNormalizer
from gorl.runtime import trees
from gorl.state import Transition

_Learner = TypeVar("_Learner", bound=AbstractActorCritic)


def _keep(learner: _Learner, rollout: Transition) -> tuple[_Learner, Transition]:
    return learner, rollout


def _observe(learner: _Learner, rollout: Transition) -> tuple[_Learner, Transition]:
    return learner.observe(rollout), rollout


def _begin(learner: _Learner, rollout: Transition) -> tuple[_Learner, Transition]:
    """Updates the normalizers that have seen nothing, and what the policy stored while it acted without statistics."""
    ready = _observe_some(learner, learner, rollout, known=False)

    def rescore(rows: tuple) -> object:  # of one time step, as while acting
        return jax.vmap(ready.policy.rescore)(*rows)

    extras = jax.lax.cond(
        learner.policy.normalizer.count > 0,
        lambda: rollout.extras,
        lambda: jax.lax.map(rescore, (rollout.obs, rollout.action, rollout.extras)),
    )
    return ready, eqx.tree_at(lambda r: r.extras, rollout, extras)


def _observe_some(learner: _Learner, began: AbstractActorCritic, rollout: Transition, *, known: bool) -> _Learner:
    """Updates those normalizers that had seen data in `began` (or those that had not), and leaves the others."""
    is_normalizer = lambda x: isinstance(x, AbstractNormalizer)

    def choose(began: object, old: object, new: object) -> object:
        return trees.where((began.count > 0) == known, new, old) if is_normalizer(began) else old

    return jax.tree.map(choose, began, learner, learner.observe(rollout), is_leaf=is_normalizer)


Before = Callable[[AbstractActorCritic, Transition], tuple[AbstractActorCritic, Transition]]
After = Callable[[AbstractActorCritic, AbstractActorCritic, Transition], AbstractActorCritic]

STATISTICS: dict[str, tuple[Before, After]] = {
    "after": (_keep, lambda trained, began, rollout: trained.observe(rollout)),
    "before": (_observe, lambda trained, began, rollout: trained),
    "first": (_begin, lambda trained, began, rollout: _observe_some(trained, began, rollout, known=True)),
}
"""What is done before the first epoch and after the last one.

The first function takes the learner as the iteration began and the rollout, and returns both as they are trained on.
The second takes the trained learner, the learner as the iteration began and the rollout, and returns the learner.
"""
