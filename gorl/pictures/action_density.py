"""Histograms of the agent's actions and of the latents that they are decoded from."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.environments.wrappers import bounded
from gorl.fields import Scalar, require
from gorl.phases.base import StageEnd
from gorl.pictures import plotting
from gorl.pictures.base import AbstractPicture, fresh_observations, picture_keys, require_policy, with_extension
from gorl.state import PyTree


@gin.register(module="gorl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ActionDensity(AbstractPicture):
    """Histograms of each action dimension and, next to it, of the policy's latent, at `observations` fresh resets.

    A column of an image is the distribution of `samples` draws at one observation; observations are ordered along their
    main direction. The panel beside it shows the distribution over all observations. The observations and axes are the
    same in every stage. The first `dimensions` are shown.
    """

    observations: int
    samples: int
    bins: int
    dimensions: int
    latent_extent: float

    def __post_init__(self):
        for name in ("observations", "samples", "bins", "dimensions"):
            require(getattr(self, name) >= 1, f"ActionDensity.{name} = {getattr(self, name)}: it must be >= 1.")
        size = self.observations * max(self.samples, self.bins)
        require(
            size <= 100_000_000,
            f"ActionDensity: observations x samples (or bins) = {size:_}: it must be at most 100_000_000.",
        )
        require(self.latent_extent > 0, f"ActionDensity.latent_extent = {self.latent_extent}: it must be > 0.")

    def draw(self, end: StageEnd, path: pathlib.Path) -> list[pathlib.Path]:
        policy, task = require_policy(end), end.context.task
        reset_key, sample_key = picture_keys(end, "ActionDensity")
        obs = sort_observations(fresh_observations(task, reset_key, self.observations))
        drawn = sample_actions(policy, end.run.decoder, task.action_bound, obs, sample_key, self.samples)
        latents, actions = map(np.asarray, drawn)
        shown = min(self.dimensions, actions.shape[-1])
        fig = plotting.figure(9.0, 1.1 + 1.6 * shown, between=0.42)
        rows = fig.subplots(shown, 4, squeeze=False, sharex="col", width_ratios=(3, 1, 3, 1))
        for d, row in enumerate(rows):
            self._plot(row[:2], histogram(actions[..., d], 1.0, self.bins), f"action {d + 1}", 1.0)
            if d < latents.shape[-1]:
                shares = histogram(latents[..., d], self.latent_extent, self.bins)
                self._plot(row[2:], shares, f"latent {d + 1}", self.latent_extent)
        for ax, text in zip(rows[-1], ("observation", "share", "observation", "share")):
            ax.set_xlabel(text)
        selection = f"the first {shown} of {actions.shape[-1]} dimensions, " if shown < actions.shape[-1] else ""
        draws = f"{self.samples} actions at each of {self.observations} resets"
        fig.suptitle(f"stage {end.context.stage}, {end.env_steps:,} steps: {selection}{draws}", fontsize=10)
        plotting.save(fig, with_extension(path, ".png"))
        return [with_extension(path, ".png")]

    def _plot(self, axes: Any, shares: Float[np.ndarray, "bins N"], label: str, extent: float) -> None:
        """Plots an image of the histogram at each observation, and the histogram over all observations.

        Both show square roots, which make small shares visible. A bin with a quarter of the probability is white.
        """
        image, beside = axes
        box = (0.5, shares.shape[1] + 0.5, -extent, extent)
        image.imshow(
            np.sqrt(shares),
            origin="lower",
            aspect="auto",
            extent=box,
            vmin=0.0,
            vmax=0.5,
            cmap="magma",
            interpolation="nearest",
        )
        image.set_ylabel(label)
        beside.stairs(
            shares.mean(1),
            np.linspace(-extent, extent, self.bins + 1),
            orientation="horizontal",
            fill=True,
            color="tab:purple",
        )
        beside.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0.0)), np.square))
        beside.set(
            xlim=(0.0, 0.5), ylim=(-extent, extent), xticks=(0.1, 0.5), xticklabels=("0.1", "0.5"), yticklabels=()
        )


@eqx.filter_jit
def sample_actions(
    policy: PyTree,
    decoder: Callable[[Array, Array], Array],
    bound: Scalar,
    obs: Float[Array | np.ndarray, "N D_o"],
    key: PRNGKeyArray,
    count: int,
) -> tuple[Float[Array, "N {count} D_z"], Float[Array, "N {count} D_a"]]:
    """Returns `count` (latents, actions in (-1, 1)) of the stochastic agent at each observation."""

    def one(o: Float[Array, " D_o"], key: PRNGKeyArray) -> tuple[Float[Array, " D_z"], Float[Array, " D_a"]]:
        latent = policy.sample(o, key=key)[0]
        return latent, jnp.tanh(bounded(decoder(o, latent), bound))

    return jax.vmap(jax.vmap(one, (None, 0)))(obs, jax.random.split(key, (obs.shape[0], count)))


def sort_observations(obs: Float[np.ndarray, "N D_o"]) -> Float[np.ndarray, "N D_o"]:
    """Returns the observations sorted along their first principal component."""
    centered = obs - obs.mean(0)
    direction = np.linalg.svd(centered, full_matrices=False)[2][0]
    direction = direction * np.sign(direction[np.abs(direction).argmax()])  # a fixed choice of the two signs
    return obs[np.argsort(centered @ direction, kind="stable")]


def histogram(values: Float[np.ndarray, "N K"], extent: float, bins: int) -> Float[np.ndarray, "bins N"]:
    """Returns the share of each row's values per bin of [-extent, extent]; the outermost bins include all beyond."""
    width = 2.0 * extent / bins
    index = np.clip(np.floor((values + extent) / width), 0, bins - 1).astype(int)
    return np.stack([np.bincount(row, minlength=bins) / row.size for row in index], axis=1)
