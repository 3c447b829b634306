"""The exact swap: a decoder that is not fitted."""

import gin

from gorl.decoders.absorbed import AbsorbedDecoder
from gorl.environments.task import Task
from gorl.fields import require
from gorl.phases.base import AbstractPhase, PhaseContext, PhaseInputs, Unit
from gorl.policies.base import AbstractGaussianPolicy
from gorl.state import RunState


@gin.register(module="gorl")
class AbsorbEncoder(AbstractPhase):
    """Makes the encoder a part of the decoder, decoder'(s, z) = decoder(s, mean(s) + std(s) z), instead of a fit.

    It is the control of FitDecoder: a swap that changes nothing but the coordinates of the latents. It needs no data.
    """

    def check(self, task: Task, inputs: PhaseInputs) -> PhaseInputs:
        del task
        require(inputs.has_policy, "AbsorbEncoder has no encoder: put an ImprovePolicy phase before it.")
        return PhaseInputs(has_policy=True)

    def units(self, task: Task) -> tuple[Unit, ...]:
        del task
        return ()

    def is_idle(self, run: RunState) -> bool:
        return run.is_without_gain

    def start(self, context: PhaseContext, run: RunState) -> RunState:
        del context
        return run

    def finish(self, context: PhaseContext, state: RunState) -> RunState:
        del context
        require(
            isinstance(state.policy, AbstractGaussianPolicy),
            f"AbsorbEncoder needs a Gaussian encoder, and the policy is {type(state.policy).__name__}."
            " Bind OnPolicy.policy = @GaussianPolicy.",
        )
        decoder = AbsorbedDecoder(state.decoder, state.policy)
        return RunState(decoder, state.policy, state.best, state.learner, replay=state.replay)
