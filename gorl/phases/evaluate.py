"""The phase that evaluates policies on fresh evaluation episodes, not used for model selection."""

import gin
from jaxtyping import Array

from gorl.acting.evaluator import Evaluator
from gorl.environments.task import Task
from gorl.fields import require
from gorl.phases.base import AbstractPhase, PhaseContext, PhaseInputs, Unit
from gorl.state import RunState


@gin.register(module="gorl")
class Evaluate(AbstractPhase):
    """Evaluates the best and the last policy of the previous phase, both on the same fresh episodes."""

    evaluator: Evaluator

    def __check_init__(self):
        require(
            isinstance(self.evaluator, Evaluator),
            f"Evaluate.evaluator is {self.evaluator!r}; did you forget '()' after its name?",
        )

    def check(self, task: Task, inputs: PhaseInputs) -> PhaseInputs:
        del task
        require(inputs.has_policy, "Evaluate has no policy to evaluate: put an ImprovePolicy phase before it.")
        return inputs

    def units(self, task: Task) -> tuple[Unit, ...]:
        steps = self.evaluator.env_steps(task)
        return (
            Unit("evaluate_best", self.best, eval_steps=steps, subset="final_best"),
            Unit("evaluate_last", self.last, eval_steps=steps, subset="final_last"),
        )

    def start(self, context: PhaseContext, run: RunState) -> RunState:
        del context
        return run

    def best(self, context: PhaseContext, run: RunState, index: int) -> tuple[RunState, dict[str, Array]]:
        """Evaluates the best policy."""
        del index
        return run, self.evaluator.returns(context.task, run.best, run.decoder, key=context.key("final"))

    def last(self, context: PhaseContext, run: RunState, index: int) -> tuple[RunState, dict[str, Array]]:
        """Evaluates the learner's policy."""
        del index
        return run, self.evaluator.returns(context.task, run.learner.policy, run.decoder, key=context.key("final"))

    def finish(self, context: PhaseContext, state: RunState) -> RunState:
        del context
        return state
