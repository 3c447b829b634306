"""Sources of the pairs of latent and action that a decoder is fitted to."""

import abc

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.environments.wrappers import bounded
from gorl.fields import Scalar, hyperparameter, require, structural
from gorl.phases.base import PhaseInputs
from gorl.state import PyTree, Spaces


class DataSource(eqx.Module):
    """The policy, decoder and learner that collected the data, and the task's bound on |u|."""

    policy: PyTree
    decoder: PyTree
    learner: PyTree
    action_bound: Scalar


class Row(eqx.Module):
    """One step of the data: observation, pre-squash action and, where it was stored, the noise that made it."""

    obs: Float[Array, "*batch D_o"]
    action: Float[Array, "*batch D_a"]
    noise: Float[Array, "*batch D_z"] | None = None


class AbstractLatents(eqx.Module):
    """A source of the latents that a decoder is fitted with, and of the action that belongs to each."""

    def check(self, inputs: PhaseInputs) -> None:
        """Raises ConfigError if the collected data lacks what the pairs are made of."""
        del inputs

    def check_spaces(self, spaces: Spaces) -> None:
        """Raises ConfigError if the environment's observations do not suit the pairs."""
        del spaces

    @abc.abstractmethod
    def pair(
        self, source: DataSource, row: Row, size: int, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " D_z"], Float[Array, " D_a"]]:
        """Samples a latent of `size` numbers for a step of the data, and returns it with its action. Unbatched."""


@gin.register(module="gorl")
class PriorLatents(AbstractLatents):
    """Latents from the fixed prior N(0, I), independent of the encoder and of the action (GoRL)."""

    def pair(
        self, source: DataSource, row: Row, size: int, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " D_z"], Float[Array, " D_a"]]:
        del source
        return jax.random.normal(key, (size,)), row.action


@gin.register(module="gorl")
class EncoderLatents(AbstractLatents):
    """The encoder's latents, sampled at the same observation (an ablation). The decoder then depends on the encoder."""

    def pair(
        self, source: DataSource, row: Row, size: int, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " D_z"], Float[Array, " D_a"]]:
        return source.policy.sample(row.obs, key=key)[0].reshape(size), row.action


@gin.register(module="gorl")
class PairedLatents(AbstractLatents):
    """Latents n ~ N(0, I) from the prior, each with the action that it makes: u = decoder(s, mean(s) + std(s) n).

    The encoder N(mean(s), std(s)²) and the decoder are those that collected the data, of which only the observations
    are used. The fit is then a regression of one function on another, instead of the learning of a distribution from
    samples whose noise was forgotten. The prior stays N(0, I), and every draw makes a fresh pair. It needs an encoder
    with a `distribution`. A `selection` says at which observations the fit is exact; to change what the decoder does
    there, for example by weights of good actions, take `PriorLatents`.
    """

    def pair(
        self, source: DataSource, row: Row, size: int, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " D_z"], Float[Array, " D_a"]]:
        noise = jax.random.normal(key, (size,))
        action = source.decoder(row.obs, source.policy.distribution(row.obs).at(noise))
        return noise, jax.lax.stop_gradient(bounded(action, source.action_bound))


@gin.register(module="gorl")
class StoredLatents(AbstractLatents):
    """The noise n ~ N(0, I) that made the collected action, u = decoder(s, mean(s) + std(s) n).

    It needs `CollectRollouts.store_noise`. The pairs are rows of the data, so a `selection` weights single actions; as
    an action is a function of its noise, a weight says how exact the fit is there, and not how likely the action is.
    """

    def check(self, inputs: PhaseInputs) -> None:
        require(
            inputs.has_noise,
            "FitDecoder.latents = @StoredLatents(), but the collected data has no noise."
            " Set CollectRollouts.store_noise = True.",
        )

    def pair(
        self, source: DataSource, row: Row, size: int, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " D_z"], Float[Array, " D_a"]]:
        del source, key
        return row.noise.reshape(size), row.action


@gin.register(module="gorl")
class PreferredLatents(AbstractLatents):
    """Latents n ~ N(0, I), each with the action that the critic prefers among several of the old policy.

    At a collected observation the encoder and decoder that collected the data draw `candidates` actions u. The pair has
    the one with the largest min Q(s, u) + `temperature` g, where g is standard Gumbel noise. At 0 that is the best one,
    and otherwise a draw with probabilities proportional to exp(min Q(s, u) / temperature), in the critic's unit. So the
    new decoder with latents from the prior is better than the old policy by that critic, and the fit itself is a step
    of improvement: KL(new || old) is at most log(candidates) - 1 + 1 / candidates nats. The noise n is independent of
    the action, as that of `PriorLatents`. A flow of one Euler call would learn the mean of the preferred actions. The
    critic must judge actions: `SAC.space = 'action'`.
    """

    candidates: int = structural()
    temperature: Scalar = hyperparameter()

    def check(self, inputs: PhaseInputs) -> None:
        require(
            self.candidates >= 1,
            f"PreferredLatents.candidates = {self.candidates}: it must be >= 1.",
        )
        require(
            bool(self.temperature >= 0),
            f"PreferredLatents.temperature = {self.temperature}: it must be >= 0 (0: the best candidate).",
        )
        require(
            inputs.judges_actions,
            "FitDecoder.latents = @PreferredLatents(), but the learner has no critic Q(s, u) of the decoder's actions."
            " Bind ImprovePolicy.algorithm = @SAC() and SAC.space = 'action' in every stage.",
        )

    def check_spaces(self, spaces: Spaces) -> None:
        require(
            spaces.critic_observation == spaces.observation,
            "PreferredLatents: the data has the policy's observations alone, and the critic has others here."
            " Bind FitDecoder.latents = @PairedLatents(), or let the critic see what the policy sees.",
        )

    def pair(
        self, source: DataSource, row: Row, size: int, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " D_z"], Float[Array, " D_a"]]:
        noise_key, draw_key, choice_key = jax.random.split(key, 3)
        distribution = source.policy.distribution(row.obs)
        draws = jax.random.normal(draw_key, (self.candidates, source.decoder.latent_size))
        act = lambda n: bounded(source.decoder(row.obs, distribution.at(n)), source.action_bound)
        actions = jax.vmap(act)(draws)
        value = jax.vmap(lambda u: jnp.min(source.learner.critic(row.obs, u)))(actions)
        chosen = jnp.argmax(value + self.temperature * jax.random.gumbel(choice_key, value.shape))
        return jax.random.normal(noise_key, (size,)), jax.lax.stop_gradient(actions[chosen])
