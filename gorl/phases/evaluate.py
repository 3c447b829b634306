"""The phases that evaluate on fresh evaluation episodes, not used for model selection."""

import functools

import equinox as eqx
import gin
from jaxtyping import Array

from gorl.acting.agent import check_rule
from gorl.acting.evaluator import Evaluator
from gorl.environments.task import Task
from gorl.fields import require, structural
from gorl.phases.base import AbstractPhase, PhaseContext, PhaseInputs, Unit
from gorl.policies.prior import PriorPolicy
from gorl.state import RunState


class AbstractEvaluation(AbstractPhase):
    """A phase that evaluates and leaves the run's state as it is."""

    evaluator: eqx.AbstractVar[Evaluator]

    def __check_init__(self):
        require(
            isinstance(self.evaluator, Evaluator),
            f"{type(self).__name__}.evaluator is {self.evaluator!r}; did you forget '()' after its name?",
        )

    def start(self, context: PhaseContext, run: RunState) -> RunState:
        del context
        return run

    def finish(self, context: PhaseContext, state: RunState) -> RunState:
        del context
        return state


POLICIES = {"best": lambda run: run.best, "last": lambda run: run.learner.policy}


@gin.register(module="gorl")
class Evaluate(AbstractEvaluation):
    """Evaluates the best and the last policy of the previous phase, all on the same fresh episodes.

    The metrics have the subsets `final_best` and `final_last`, where the policy acts by the evaluator's rule. It also
    acts by each of `other_rules`, and that subset has the rule behind its name: `final_best_stochastic`.
    """

    evaluator: Evaluator
    other_rules: tuple[str, ...] = structural(default=(), converter=tuple)

    def __check_init__(self):
        for rule in self.other_rules:
            check_rule(rule, "Evaluate.other_rules")

    def check(self, task: Task, inputs: PhaseInputs) -> PhaseInputs:
        del task
        require(inputs.has_policy, "Evaluate has no policy to evaluate: put an ImprovePolicy phase before it.")
        return inputs

    def units(self, task: Task) -> tuple[Unit, ...]:
        others = [rule for rule in dict.fromkeys(self.other_rules) if rule != self.evaluator.rule]
        evaluators = {"": self.evaluator, **{f"_{rule}": Evaluator(self.evaluator.num_envs, rule) for rule in others}}
        return tuple(
            Unit(
                f"evaluate_{which}",
                functools.partial(self.evaluate, which=which, evaluator=evaluator),
                eval_steps=self.evaluator.env_steps(task),
                subset=f"final_{which}{rule}",
            )
            for which in POLICIES
            for rule, evaluator in evaluators.items()
        )

    def evaluate(
        self, context: PhaseContext, run: RunState, index: int, *, which: str, evaluator: Evaluator
    ) -> tuple[RunState, dict[str, Array]]:
        """Evaluates the best policy or the learner's."""
        del index
        return run, evaluator.returns(context.task, POLICIES[which](run), run.decoder, key=context.key("final"))


@gin.register(module="gorl")
class EvaluatePrior(AbstractEvaluation):
    """Evaluates the decoder with latents of its prior: with N(0, I), and with its mode 0.

    Behind FitDecoder this is what the swap of decoders left of the policy that collected the data. The metrics have the
    subsets `swap_mode` and `swap_stochastic`.
    """

    evaluator: Evaluator

    def is_idle(self, run: RunState) -> bool:
        return run.is_without_gain

    def units(self, task: Task) -> tuple[Unit, ...]:
        return tuple(
            Unit(
                "evaluate_prior",
                functools.partial(self.evaluate, evaluator=Evaluator(self.evaluator.num_envs, rule)),
                eval_steps=self.evaluator.env_steps(task),
                subset=f"swap_{rule}",
            )
            for rule in ("mode", "stochastic")
        )

    def evaluate(
        self, context: PhaseContext, run: RunState, index: int, *, evaluator: Evaluator
    ) -> tuple[RunState, dict[str, Array]]:
        """Evaluates the decoder."""
        del index
        prior = PriorPolicy(run.decoder.latent_size)
        return run, evaluator.returns(context.task, prior, run.decoder, key=context.key("final"))
