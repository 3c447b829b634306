"""The interface of a tracker."""

import abc
import dataclasses
import pathlib
from typing import Any

from gorl.runs.record import RecordEntry


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """What a tracker may show about a run. `variant` and `axes` say which one of its study it is: what varies, as text."""

    folder: str
    name: str
    study: str
    variant: str | None
    axes: dict[str, str]
    seed: int
    parameters: dict[str, Any]  # the configuration as nested plain values
    config: str  # operative_config.gin
    facts: dict[str, Any]  # versions, device, git
    resumed: bool

    @property
    def hparams(self) -> dict[str, Any]:
        """What runs are told apart and grouped by: {seed, variant, axes, env, task, macros}. Outside a study `variant` is the study's name."""
        return {
            "seed": self.seed,
            "variant": self.study if self.variant is None else self.variant,
            "axes": {name: number(value) for name, value in self.axes.items()},
            "env": self.facts.get("environment", {}).get("name"),
            "task": self.parameters.get("gin", {}).get("Task", {}),
            "macros": self.parameters.get("macros", {}),
        }


class AbstractTracked(abc.ABC):
    """One run at a tracker. Called from the training loop: it must not block, and must not raise.

    `failed`: whether it has given up (which it says once, as a warning).
    """

    failed: bool = False

    @abc.abstractmethod
    def log(self, entry: RecordEntry) -> None: ...

    def picture(self, path: pathlib.Path, name: str, step: int, unit: int, caption: str) -> None:
        """A picture file (.png or .gif) is there. `step` counts environment steps. A tracker without pictures leaves this as it is."""
        del path, name, step, unit, caption

    @abc.abstractmethod
    def close(self, status: str, summary: dict[str, Any]) -> None: ...


class AbstractTracker(abc.ABC):
    """Where metrics go beside the record."""

    @abc.abstractmethod
    def start(self, info: RunInfo) -> AbstractTracked:
        """Begins to track a run. Each seed is a run of its own. Must not block, and must not raise."""


def number(text: str) -> int | float | str:
    """The number that a text is, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def caption(name: str, stage: int) -> str:
    return f"{name}, after stage {stage}"
