"""The map from latents to actions that a decoder has learned."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gorl.environments.wrappers import bounded
from gorl.fields import Scalar, require
from gorl.phases.base import StageEnd
from gorl.pictures import plotting
from gorl.pictures.base import AbstractPicture, CannotDraw, fresh_observations, picture_keys, with_extension


@gin.register(module="gorl")
@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderMap(AbstractPicture):
    """The decoder's map from latent to action at one observation, where both have 1 or 2 dimensions.

    The observation is that of a fresh reset, the same in every stage. One latent dimension gives a curve. Two give an
    image of each action over the latents, and the image of a latent grid in the space of actions.
    """

    resolution: int
    latent_extent: float

    def __post_init__(self):
        require(2 <= self.resolution <= 4096, f"DecoderMap.resolution = {self.resolution}: it must be in [2, 4096].")
        require(self.latent_extent > 0, f"DecoderMap.latent_extent = {self.latent_extent}: it must be > 0.")

    def draw(self, end: StageEnd, path: pathlib.Path) -> list[pathlib.Path]:
        task, decoder = end.context.task, end.run.decoder
        sizes = (decoder.latent_size, task.environment.action_size)
        if max(sizes) > 2:
            raise CannotDraw(
                f"it shows actions of 1 or 2 dimensions, and here latents have {sizes[0]} and actions {sizes[1]}."
            )
        obs = fresh_observations(task, picture_keys(end, "DecoderMap")[0], 1)[0]
        axis = np.linspace(-self.latent_extent, self.latent_extent, self.resolution, dtype=np.float32)
        grid = np.stack(np.meshgrid(*[axis] * sizes[0], indexing="ij"), -1)  # [R, D_z] or [R, R, D_z]
        actions = np.asarray(decode_latents(decoder, task.action_bound, obs, grid.reshape(-1, sizes[0])))
        actions = actions.reshape(*grid.shape[:-1], sizes[1])
        fig = (_plot_curve if sizes[0] == 1 else _plot_images)(axis, actions)
        fig.suptitle(f"stage {end.context.stage}: the decoder at one observation", fontsize=10)
        plotting.save(fig, with_extension(path, ".png"))
        return [with_extension(path, ".png")]


@eqx.filter_jit
def decode_latents(
    decoder: Callable[[Array, Array], Array],
    bound: Scalar,
    obs: Float[Array | np.ndarray, " D_o"],
    latents: Float[Array | np.ndarray, "N D_z"],
) -> Float[Array, "N D_a"]:
    """Returns the actions in (-1, 1) that the latents are decoded to."""
    return jax.vmap(lambda z: jnp.tanh(bounded(decoder(obs, z), bound)))(latents)


def _plot_curve(axis: Float[np.ndarray, " R"], actions: Float[np.ndarray, "R D_a"]) -> Any:
    fig = plotting.figure(4.5, 3.5)
    ax = fig.subplots()
    for d in range(actions.shape[-1]):
        ax.plot(axis, actions[:, d], label=f"action {d + 1}")
    ax.set(xlabel="latent", ylabel="action", xlim=(axis[0], axis[-1]), ylim=(-1.05, 1.05))
    if actions.shape[-1] > 1:
        ax.legend()
    return fig


def _plot_images(axis: Float[np.ndarray, " R"], actions: Float[np.ndarray, "R R D_a"]) -> Any:
    count = actions.shape[-1]
    panels = count + (count == 2)
    fig = plotting.figure(3.6 * panels, 3.5, top=0.8, between=0.35)
    axes = fig.subplots(1, panels, squeeze=False)[0]
    box = (axis[0], axis[-1], axis[0], axis[-1])
    for d in range(count):
        image = axes[d].imshow(
            actions[..., d].T, origin="lower", extent=box, vmin=-1.0, vmax=1.0, cmap="RdBu_r", interpolation="nearest"
        )
        axes[d].set(xlabel="latent 1", ylabel="latent 2", title=f"action {d + 1}")
    fig.colorbar(image, ax=list(axes[:count]), shrink=0.8)
    if count == 2:
        lines = np.linspace(0, len(axis) - 1, 9).round().astype(int)
        for i in lines:
            axes[2].plot(*actions[i].T, color="tab:blue", linewidth=0.8)
            axes[2].plot(*actions[:, i].T, color="tab:orange", linewidth=0.8)
        axes[2].set(
            xlim=(-1.05, 1.05),
            ylim=(-1.05, 1.05),
            xlabel="action 1",
            ylabel="action 2",
            title="image of a latent grid",
            aspect="equal",
        )
    return fig
