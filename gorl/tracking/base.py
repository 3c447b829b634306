"""The interface of a tracker."""

import abc
import dataclasses
import pathlib
import re
from typing import Any

from gorl.runs.identity import identify
from gorl.runs.record import RecordEntry


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """Facts about a run that a tracker may show. `variant` and `axes` (as text) identify the run within its study."""

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
        """Returns the values to group runs by: {seed, method, variant, axes, env, task, macros}.

        Outside a study `variant` is the study's name. `method` is the variant, or the files and bindings that were
        named, with a hash of the resolved method: runs of one method, and no others, have the same. `env` has a hash of
        the model behind its name where the environment has a model of its own.
        """
        return {
            "seed": self.seed,
            "method": self._method,
            "variant": self.study if self.variant is None else self.variant,
            "axes": {name: parse_number(value) for name, value in self.axes.items()},
            "env": self._environment,
            "task": self.parameters.get("gin", {}).get("Task", {}),
            "macros": self.parameters.get("macros", {}),
        }

    @property
    def _method(self) -> str:
        asked = [str(word) for word in self.facts.get("asked", ()) if not _ASIDE.match(str(word))]
        words = [word if "=" in word else pathlib.PurePath(word).stem for word in asked]
        name = self.variant or " + ".join(words) or self.study
        return f"{name} [{identify(self.parameters, self.facts).method_key}]"

    @property
    def _environment(self) -> str | None:
        about = self.facts.get("environment", {})
        name, model = about.get("name"), about.get("model_sha256")
        return f"{name} [{str(model)[:8]}]" if model else name


_ASIDE = re.compile(r"\s*(SEED|NUM_SEEDS|ENV|Experiment\.(seed|num_seeds|trackers|pictures|checkpoint_interval))\s*=")
"""Bindings that do not belong to a method."""


class AbstractTracked(abc.ABC):
    """One run at a tracker. The training loop calls it, so no method may block or raise.

    `failed`: whether tracking has stopped after an error, of which there is one warning.
    """

    failed: bool = False

    @abc.abstractmethod
    def log(self, entry: RecordEntry) -> None: ...

    def picture(self, path: pathlib.Path, name: str, step: int, unit: int, caption: str) -> None:
        """Receives a picture file (.png or .gif); `step` counts environment steps. The default ignores pictures."""
        del path, name, step, unit, caption

    @abc.abstractmethod
    def close(self, status: str, summary: dict[str, Any]) -> None: ...


class AbstractTracker(abc.ABC):
    """A destination of metrics, in addition to the record."""

    @abc.abstractmethod
    def start(self, info: RunInfo) -> AbstractTracked:
        """Starts tracking one seed's run. Must neither block nor raise."""


def parse_number(text: str) -> int | float | str:
    """Returns the number that a text spells, or the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def caption(name: str, stage: int) -> str:
    """Returns the caption of a picture."""
    return f"{name}, after stage {stage}"
