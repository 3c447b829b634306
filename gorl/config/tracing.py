"""Traces every phase of an experiment with code that is not gorl's own. Nothing is compiled.

gorl's own classes are known to fit each other. A user's module, environment or phase may fail in any program, and
without this the first word of it would come when that program is compiled, hours into a run.
"""

import dataclasses
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.config import plugin_sources, tables
from gorl.config.build import SIZES, Configuration
from gorl.environments.base import AbstractEnvironment, check_types
from gorl.errors import ConfigError
from gorl.experiment import Experiment, PlannedPhase
from gorl.fields import structural
from gorl.state import EnvState, PyTree, Spaces

_OURS = ("gorl", "optax", "jax", "gin")


class AnyEnvironment(AbstractEnvironment):
    """An environment of given sizes that stands for a simulator, whose tracing takes long."""

    sizes: Spaces
    name: str = structural()

    @property
    def action_size(self) -> int:
        return self.sizes.action

    def reset(self, key: PRNGKeyArray) -> EnvState:
        noise = jax.random.normal(key)
        obs, critic_obs = (jnp.full((n,), noise) for n in (self.sizes.observation, self.sizes.critic_observation))
        same = self.sizes.observation == self.sizes.critic_observation
        return EnvState((), obs, None if same else critic_obs, noise, noise > 0, noise > 1)

    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        return eqx.tree_at(lambda s: s.reward, state, state.reward + jnp.sum(action))

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


def is_ours(thing: Any) -> bool:
    """Whether a class or function is gorl's own, or of the libraries whose parts gorl knows."""
    return (getattr(thing, "__module__", None) or "").partition(".")[0] in _OURS


def trace_phases(configuration: Configuration) -> None:
    """Raises ConfigError, with the phase and the place in the code, for what would fail when it is compiled.

    Returns at once if the configuration has no code but gorl's own. Several phases that run the same programs on the
    same shapes are traced once.
    """
    if configuration in _traced_before:
        return
    with plugin_sources.reading(configuration.source.plugins):
        _trace_phases(configuration)
    _traced_before.add(configuration)


_traced_before: weakref.WeakSet = weakref.WeakSet()


def _trace_phases(configuration: Configuration) -> None:
    used = {selector for _, selector in configuration.tables.operative if not selector.startswith("gin.")}
    experiment, env = configuration.experiment, configuration.experiment.task.environment
    if not is_ours(type(env)):
        _traced(f"{type(env).__name__}.reset or .step", check_types, env)
    if all(is_ours(tables.configurable(selector)) for selector in used) and not configuration.source.plugins:
        return
    try:
        sizes = SIZES if is_ours(type(env)) else env.spaces()
        _trace(_with_environment(experiment, AnyEnvironment(sizes, type(env).__name__)))
    except ConfigError:  # perhaps a part needs this very environment
        _trace(experiment)


def _with_environment(experiment: Experiment, env: AbstractEnvironment) -> Experiment:
    return dataclasses.replace(experiment, task=dataclasses.replace(experiment.task, environment=env))


def _trace(experiment: Experiment) -> None:
    """Traces `start`, one unit of each name, and `finish` of every phase."""
    run = _traced("the first decoder", eqx.filter_eval_shape, experiment.initial_state, experiment.seed)
    seen = set()
    for planned in experiment.planned_phases():
        phase, context = planned.declaration, experiment.context(planned)
        where = f"stage {planned.stage}, phase {planned.phase} ({planned.name})"
        state = _traced(f"{where}, its start", eqx.filter_eval_shape, phase.start, context, run)
        for name, unit in {u.name: u for u in experiment.units(planned)}.items():
            mark = (name, repr(jax.tree.structure(phase)), repr(jax.tree.structure(state)), *_types(state))
            if mark not in seen:
                seen.add(mark)
                _traced(f"{where}, unit {name}", _trace_unit, experiment, planned, unit, state)
        run = _traced(f"{where}, its end", eqx.filter_eval_shape, phase.finish, context, state)


def _trace_unit(experiment: Experiment, planned: PlannedPhase, unit: Any, state: PyTree) -> None:
    context = experiment.context(planned, np.asarray([experiment.seed], np.int32))
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype) if _is_shape(x) else x, state)
    after, _ = eqx.filter_eval_shape(lambda s: unit.run(context, s, unit.key_index(0)), state)
    changed = [
        f"{name} is {was} before and {now} after it"
        for (name, was), (_, now) in zip(_named_types(state), _named_types(after))
        if was != now
    ]
    if changed or jax.tree.structure(state) != jax.tree.structure(after):
        raise TypeError(changed[0] if changed else "it returns a state of another structure than it is given")


def _is_shape(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)


def _types(tree: PyTree) -> list[tuple]:
    return [(x.shape, str(x.dtype)) for x in jax.tree.leaves(tree) if _is_shape(x)]


def _named_types(tree: PyTree) -> Iterator[tuple[str, str]]:
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path).removeprefix("."), f"{x.dtype}{list(x.shape)}" if _is_shape(x) else repr(x)


def _traced(what: str, call: Callable, *args: Any) -> Any:
    """Returns what the call returns. Its errors become a ConfigError with the place in the user's code."""
    try:
        return call(*args)
    except ConfigError as err:
        raise ConfigError(str(err) if call is check_types else f"{what}: {err}") from err
    except Exception as err:
        message = next((line for line in str(err).splitlines() if line.strip()), "")
        raise ConfigError(f"{what} fails: {type(err).__name__}: {message}{_place(err)}") from err


def _place(err: BaseException) -> str:
    """Returns where in the user's code an error was raised: the innermost frame outside of the libraries."""
    frames = traceback.extract_tb(err.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename and "/gorl/" not in f.filename and f.lineno]
    frame = own[-1] if own else frames[-1]
    return f" ({frame.filename}:{frame.lineno}, in {frame.name})"
