"""Drawing the pictures of a run into its folder, and passing them to its trackers."""

import collections
import logging
import pathlib
import time
from collections.abc import Iterable, Sequence

from gorl.phases.base import StageEnd
from gorl.pictures.base import AbstractPicture, CannotDraw
from gorl.runs.files import inside, require_plain_tree
from gorl.tracking.base import AbstractTracked, caption

SHOWN = (".png", ".gif")
"""Suffixes of the files that trackers receive."""

_log = logging.getLogger(__name__)


class Album:
    """An observer of stages' ends that draws every picture as pictures/stage<k>-<name> in a seed's folder.

    A picture that fails is left out from then on, with one warning, and training continues. `failed` contains the names
    of such pictures. The albums of several seeds share it, so there is one warning for all of them.
    """

    def __init__(
        self,
        pictures: Iterable[AbstractPicture],
        folder: pathlib.Path,
        tracked: Sequence[AbstractTracked],
        failed: set[str],
    ):
        self.pictures = unique_names(pictures)
        self._folder, self._tracked, self._failed = folder / "pictures", tracked, failed
        self.seconds = 0.0  # spent drawing

    def __call__(self, end: StageEnd) -> None:
        start = time.monotonic()
        for name, picture in self.pictures.items():
            if name not in self._failed:
                try:
                    self.draw(name, picture, end)
                except Exception as err:
                    self._failed.add(name)
                    _log.warning("picture %s is left out: %s", name, describe_failure(err))
        self.seconds += time.monotonic() - start

    def draw(self, name: str, picture: AbstractPicture, end: StageEnd) -> list[pathlib.Path]:
        """Draws one picture and returns its files. Raises CannotDraw, and RunError for what leads out."""
        require_plain_tree(self._folder)
        self._folder.mkdir(exist_ok=True)
        files = picture.draw(end, inside(self._folder, f"stage{end.context.stage}-{name}", "the name of a picture"))
        for file in files:
            for tracked in self._tracked if file.suffix in SHOWN else ():
                tracked.picture(file, name, end.env_steps, end.unit, caption(name, end.context.stage))
        return files


def unique_names(pictures: Iterable[AbstractPicture]) -> dict[str, AbstractPicture]:
    """Maps names to pictures; a repeated name gets the suffix -2, -3, ..."""
    count: collections.Counter[str] = collections.Counter()
    result = {}
    for picture in pictures:
        count[picture.name] += 1
        result[picture.name + (f"-{count[picture.name]}" if count[picture.name] > 1 else "")] = picture
    return result


def describe_failure(err: Exception) -> str:
    """Returns an error as one line."""
    text = " ".join(str(err).split())
    return text if isinstance(err, CannotDraw) else f"{type(err).__name__}: {text[:300]}"
