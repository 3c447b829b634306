"""Draws the pictures of a run into its folder, and hands them to its trackers."""

import collections
import logging
import pathlib
import time
from collections.abc import Iterable, Sequence

from gorl.phases.base import StageEnd
from gorl.pictures.base import AbstractPicture, CannotDraw
from gorl.tracking.base import AbstractTracked, caption

SHOWN = (".png", ".gif")
"""What trackers are given."""

_log = logging.getLogger(__name__)


class Album:
    """An observer of stages' ends: draws every picture as pictures/stage<k>-<name> in a seed's folder.

    A picture that fails is left out from there on, with one line; training never notices. `failed` holds their names:
    the albums of several seeds share it, so that the line is said once.
    """

    def __init__(
        self,
        pictures: Iterable[AbstractPicture],
        folder: pathlib.Path,
        tracked: Sequence[AbstractTracked],
        failed: set[str],
    ):
        self.pictures = named(pictures)
        self._folder, self._tracked, self._failed = folder / "pictures", tracked, failed
        self.seconds = 0.0  # spent on drawing

    def __call__(self, end: StageEnd) -> None:
        began = time.monotonic()
        for name, picture in self.pictures.items():
            if name not in self._failed:
                try:
                    self.draw(name, picture, end)
                except Exception as err:
                    self._failed.add(name)
                    _log.warning("picture %s is left out: %s", name, reason(err))
        self.seconds += time.monotonic() - began

    def draw(self, name: str, picture: AbstractPicture, end: StageEnd) -> list[pathlib.Path]:
        """Draws one, and returns its files."""
        self._folder.mkdir(exist_ok=True)
        files = picture.draw(end, self._folder / f"stage{end.context.stage}-{name}")
        for file in files:
            for tracked in self._tracked if file.suffix in SHOWN else ():
                tracked.picture(file, name, end.env_steps, end.unit, caption(name, end.context.stage))
        return files


def named(pictures: Iterable[AbstractPicture]) -> dict[str, AbstractPicture]:
    """By name; of several of one name, the second has a -2."""
    count: collections.Counter[str] = collections.Counter()
    result = {}
    for picture in pictures:
        count[picture.name] += 1
        result[picture.name + (f"-{count[picture.name]}" if count[picture.name] > 1 else "")] = picture
    return result


def reason(err: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(err).split())
    return text if isinstance(err, CannotDraw) else f"{type(err).__name__}: {text[:300]}"
