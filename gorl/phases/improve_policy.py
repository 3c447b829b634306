"""The phase that improves the policy with an RL algorithm, in the environment decoded by the frozen decoder."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import gin
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.acting.evaluator import Evaluator
from gorl.algorithms.base import AbstractAlgorithm, AbstractLearner
from gorl.decoders.base import AbstractDecoder
from gorl.environments.task import Task
from gorl.environments.wrappers import DecodedEnvironment
from gorl.errors import ConfigError, did_you_mean
from gorl.fields import LARGEST_SIZE, budget, require, structural
from gorl.phases.base import AbstractPhase, PhaseContext, PhaseInputs, Unit, require_units
from gorl.phases.end_rules import AbstractEndRule, EndState, continued, gain, is_met, update_rule
from gorl.runtime import trees
from gorl.runtime.programs import program
from gorl.state import PyTree, RunState, Snapshot, Spaces

# What a phase begins with, from a new learner and that of the previous ImprovePolicy phase.
REINITIALIZE: dict[str, Callable[[AbstractLearner, AbstractLearner], AbstractLearner]] = {
    "policy": lambda new, old: new.with_critic_of(old),
    "networks": lambda new, old: new.with_statistics_of(old),
    "all": lambda new, old: new,
    "nothing": lambda new, old: old,
}
KEEPS_REPLAY = {**dict.fromkeys(REINITIALIZE, True), "all": False}
"""Whether a phase begins with the replay of the previous one, where the algorithm has one that still holds."""
FORMER = {True: "all", False: "nothing"}
"""The former values of `reinitialize`, which saved runs have."""

HAND_ON = {"best": lambda state: state.best.policy, "last": lambda state: state.training.learner.policy}


class ImproveState(eqx.Module):
    """The state between iterations."""

    training: PyTree  # the algorithm's state; `.learner.policy` is the newest policy
    decoder: AbstractDecoder
    best: Snapshot
    end: EndState | None = None  # of the phase's end rule


@gin.register(module="gorl")
class ImprovePolicy(AbstractPhase):
    """Runs `algorithm` for `env_steps` environment steps, rounded up to whole iterations, and evaluates the policy.

    Evaluations take place before the first iteration, every `evaluation_interval` environment steps (rounded up
    likewise) and at the end. `hand_on` is the policy that the next phase receives: that of this phase's 'best'
    evaluation, or the 'last'.

    `reinitialize` is what begins anew after an earlier ImprovePolicy phase: the 'policy' (the critic V(s) goes on, and
    so do the statistics of observations), the 'networks' (both, with the known statistics), 'all' (the statistics too,
    as published) or 'nothing'. The optimizer begins anew with any of them. A critic of latents, Q(s, z), holds for one
    decoder alone, so it begins anew with the 'policy'. A replay of actions and critics of them, Q(s, u), go on, but for
    'all' (and critics for 'networks').

    The rule `end`, if there is one, ends the phase after an evaluation, at `env_steps` at the latest. After a phase
    with a rule that gained nothing, training goes on with that one's learner.
    """

    algorithm: AbstractAlgorithm
    evaluator: Evaluator
    env_steps: int = budget()
    evaluation_interval: int = budget()
    reinitialize: str | bool = structural(converter=lambda value: FORMER.get(value, value))
    hand_on: str = structural()
    end: AbstractEndRule | None = None

    def __check_init__(self):
        if self.hand_on not in HAND_ON:
            raise ConfigError(
                f"ImprovePolicy.hand_on = {self.hand_on!r}: it is 'best' or 'last'."
                f"{did_you_mean(self.hand_on, HAND_ON)}"
            )
        require(
            self.reinitialize in REINITIALIZE,
            f"ImprovePolicy.reinitialize = {self.reinitialize!r}: it is one of"
            f" {', '.join(map(repr, REINITIALIZE))}.{did_you_mean(str(self.reinitialize), REINITIALIZE)}",
        )
        for name, kind in (("algorithm", AbstractAlgorithm), ("evaluator", Evaluator)):
            value = getattr(self, name)
            require(
                isinstance(value, kind),
                f"ImprovePolicy.{name} is {value!r}, not an object; did you forget '()' after its name?",
            )
        require(
            isinstance(self.end, AbstractEndRule | None),
            f"ImprovePolicy.end is {self.end!r}, not an end rule or None; did you forget '()' after its name?",
        )

    def check(self, task: Task, inputs: PhaseInputs) -> PhaseInputs:
        for name in ("env_steps", "evaluation_interval"):
            require(getattr(self, name) >= 1, f"ImprovePolicy.{name} = {getattr(self, name)}: it must be >= 1.")
        self.algorithm.check(task.episode_length)
        size, name = self.algorithm.env_steps_per_iteration, type(self.algorithm).__name__
        require(
            size <= LARGEST_SIZE,
            f"{name}: one iteration would be {size:_} environment steps, of at most {LARGEST_SIZE:_}. Lower its sizes.",
        )
        require_units(
            self.iterations,
            f"ImprovePolicy.env_steps = {self.env_steps}, at {size:_} a unit,",
            f"Lower it, or make {name}'s iterations longer.",
        )
        return PhaseInputs(has_policy=True, judges_actions=self.algorithm.judges_actions)

    def check_devices(self, count: int) -> None:
        lanes, name = self.algorithm.num_envs, f"{type(self.algorithm).__name__}.num_envs"
        fits = next(n for n in range(count, 0, -1) if lanes % n == 0)
        require(
            lanes % count == 0,
            f"{name} = {lanes} lanes cannot be shared evenly by {count} devices. Make {name} a multiple of {count},"
            f" or set Experiment.devices so that there are {fits}.",
        )

    def create(self, spaces: Spaces, decoder: AbstractDecoder, *, key: PRNGKeyArray) -> AbstractDecoder:
        learner = self._create_learner(spaces, decoder, key=key)
        if self.end is not None:
            self.end.check(learner.policy)
        return decoder

    def _create_learner(self, spaces: Spaces, decoder: AbstractDecoder, *, key: PRNGKeyArray) -> AbstractLearner:
        """Creates a learner whose actions are the decoder's latents."""
        latent = decoder.latent_size
        return self.algorithm.create(
            Spaces(spaces.observation, spaces.critic_observation, latent, decoded=spaces.action), key=key
        )

    @property
    def iterations(self) -> int:
        """The number of iterations of the algorithm."""
        return -(-self.env_steps // self.algorithm.env_steps_per_iteration)

    @property
    def may_end_early(self) -> bool:
        return self.end is not None

    def least_env_steps(self, task: Task) -> int:
        """Returns the steps of one iteration, or of those before which the rule does not end the phase."""
        del task
        size = self.algorithm.env_steps_per_iteration
        least = 1 if self.end is None else max(1, -(-self.end.min_env_steps // size))
        return min(least, self.iterations) * size

    def within(self, env_steps: int) -> "ImprovePolicy":
        whole = env_steps // self.algorithm.env_steps_per_iteration * self.algorithm.env_steps_per_iteration
        return dataclasses.replace(self, env_steps=min(self.env_steps, whole))

    def units(self, task: Task) -> tuple[Unit, ...]:
        """Lists the iterations and the evaluations between them.

        The index of either is the number of iterations, so random numbers depend on nothing but how far training is:
        `evaluation_interval` changes what is seen of it, and not the training.
        """
        size, eval_steps = self.algorithm.env_steps_per_iteration, self.evaluator.env_steps(task)
        interval = max(1, -(-self.evaluation_interval // size))
        units = []
        for i in range(self.iterations + 1):
            if i > 0:
                units.append(Unit("iterate", self.iterate, env_steps=size, index=i))
            if i % interval == 0 or i == self.iterations:
                asked = self.end is not None and i * size >= self.end.min_env_steps
                ends = (lambda state: is_met(state.end)) if asked else None
                units.append(
                    Unit("evaluate", self.evaluate, eval_steps=eval_steps, subset="eval", index=i, ends_phase=ends)
                )
        return tuple(units)

    def start(self, context: PhaseContext, run: RunState) -> ImproveState:
        spaces = context.task.environment.spaces()
        learner = self._create_learner(spaces, run.decoder, key=context.key("init"))
        if run.learner is not None:
            learner = REINITIALIZE[self.reinitialize](learner, run.learner)
        learner, best = continued(run, learner)
        env = DecodedEnvironment(context.task.squashed, run.decoder)
        training = self.algorithm.start(env, learner, context.task.episodes, key=context.key("environment"))
        if run.replay is not None and KEEPS_REPLAY[self.reinitialize]:
            training = self.algorithm.with_replay(training, run.replay)
        return ImproveState(training, run.decoder, best, self.end and self.end.start())

    def iterate(self, context: PhaseContext, state: ImproveState, index: int) -> tuple[ImproveState, dict[str, Array]]:
        """Runs one iteration of the algorithm."""
        training, metrics = iterate(
            (self.algorithm, context.task), (state.decoder, context.key("iterate", index)), state.training
        )
        return ImproveState(training, state.decoder, state.best, state.end), metrics

    def evaluate(self, context: PhaseContext, state: ImproveState, index: int) -> tuple[ImproveState, dict[str, Array]]:
        """Evaluates the newest policy and keeps it if it is the best so far."""
        policy = state.training.learner.policy
        metrics = self.evaluator.returns(context.task, policy, state.decoder, key=context.key("evaluate", index))
        best = keep_best((), (context.for_each(index), policy, metrics["return"]), state.best)
        metrics = {**metrics, "return_best": best.value + 0.0}
        if self.end is None:
            return ImproveState(state.training, state.decoder, best), metrics
        seen = (metrics["return"], policy, state.training.lanes.env.obs)
        end, found = update_rule((self.end,), seen, state.end)
        return ImproveState(state.training, state.decoder, best, end), {**metrics, **found}

    def finish(self, context: PhaseContext, state: ImproveState) -> RunState:
        del context
        handed = HAND_ON[self.hand_on](state), state.best.policy, state.training.learner
        gained, replay = None if self.end is None else gain(state.best), self.algorithm.replay_of(state.training)
        return RunState(state.decoder, *handed, gain=gained, replay=replay)


@program
def iterate(shared: tuple, each: tuple, state: PyTree) -> tuple[PyTree, dict[str, Float[Array, ""]]]:
    """Runs one iteration of the algorithm for one seed."""
    (algorithm, task), (decoder, key) = shared, each
    env = DecodedEnvironment(task.squashed, decoder)
    return algorithm.iterate(env, state, task.episodes, key=key)


@program
def keep_best(shared: tuple, each: tuple, best: Snapshot) -> Snapshot:
    """Returns the new policy if its value is strictly greater than the best one's, which NaN is not."""
    del shared
    index, policy, value = each
    return trees.where(value > best.value, Snapshot(policy, value, index), best)
