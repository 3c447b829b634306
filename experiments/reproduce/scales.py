"""What is measured, and in what order, as a gin file declares it (`parts/order_*.gin`)."""

import abc
import dataclasses
import pathlib
import re
from collections.abc import Iterator

import gin

from gorl import config
from gorl.errors import ConfigError, did_you_mean

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def folder_name(name: str) -> str:
    """A name as a folder's."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("._")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One cell's place: `kind` is 'train' or 'physics', where `method` is empty."""

    kind: str
    method: str
    task: str


class AbstractBlock(abc.ABC):
    """Cells of equal rank."""

    @abc.abstractmethod
    def entries(self) -> Iterator[Entry]:
        """In the order in which they are measured."""


@gin.register(module="reproduce")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(AbstractBlock):
    """Methods (studies of the scale) on tasks (their variants), one task after another: each task's comparison is whole before the next begins."""

    methods: list[str]
    tasks: list[str]

    def entries(self) -> Iterator[Entry]:
        for task in self.tasks:
            for method in self.methods:
                yield Entry("train", method, task)


@gin.register(module="reproduce")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Physics(AbstractBlock):
    """Environment steps per second of tasks on physics implementations (none named: all that run), as `gorl bench physics`.

    `seconds`: what one task is expected to take.
    """

    tasks: list[str]
    implementations: list[str]
    num_envs: int
    steps: int
    rounds: int
    seconds: float

    def entries(self) -> Iterator[Entry]:
        for task in self.tasks:
            yield Entry("physics", "", task)


@gin.register(module="reproduce")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Guess:
    """What a cell takes where nothing was measured: `seconds` of a task, times the `cost` of a method (1 where none is given); `source`: who says so."""

    source: str
    seconds: dict[str, float]
    cost: dict[str, float]

    def of(self, method: str, task: str) -> float | None:
        return self.seconds[task] * self.cost.get(method, 1.0) if task in self.seconds else None


@gin.register(module="reproduce")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """All cells of one size. `studies`: by method, the words of `gorl sweep` (files, and bindings with '='); their variants are the tasks.

    `blocks` in order of priority. `published`: whether published numbers compare. `controls`: by what they change, pairs of studies
    {sound: changed}; `presets`: by study, the published settings of the same method. `about`: what a reader must know of the size.
    """

    name: str
    title: str
    about: str
    published: bool
    studies: dict[str, list[str]]
    blocks: list[AbstractBlock]
    controls: dict[str, dict[str, str]]
    presets: dict[str, list[str]]
    guess: Guess

    def __post_init__(self):
        paired = [name for pairs in self.controls.values() for pair in pairs.items() for name in pair]
        preset = [name for base, others in self.presets.items() for name in (base, *others)]
        for name in (*(e.method for e in self.entries() if e.kind == "train"), *paired, *preset):
            if name not in self.studies:
                raise ConfigError(
                    f"Scale {self.name}: {name!r} is not one of its studies.{did_you_mean(name, self.studies)}"
                )

    def entries(self) -> list[Entry]:
        """Every cell once, in order of priority."""
        return list(dict.fromkeys(entry for block in self.blocks for entry in block.entries()))

    def block_of(self, entry: Entry) -> AbstractBlock:
        return next(block for block in self.blocks if entry in block.entries())

    @property
    def main_methods(self) -> list[str]:
        """Those that are no control and no published preset."""
        special = {c for pairs in self.controls.values() for c in pairs.values()} | {
            p for others in self.presets.values() for p in others
        }
        return [name for name in self.studies if name not in special]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(e.task for e in self.entries() if e.kind == "train"))

    def command(self, entry: Entry) -> str:
        """What measures one cell alone."""
        return f'python -m experiments.reproduce.run --scale {self.name} --only "{entry.method or entry.kind}/{entry.task}"'


def load(name: str) -> Scale:
    """A scale by its name, or by the path of its file. Raises ConfigError."""
    path = pathlib.Path(name) if name.endswith(".gin") else HERE / "parts" / f"order_{name}.gin"
    if not path.is_file():
        known = sorted(p.stem.removeprefix("order_") for p in (HERE / "parts").glob("order_*.gin"))
        raise ConfigError(
            f"--scale {name}: it is one of {', '.join(known)}, or a .gin file.{did_you_mean(name, known)}"
        )
    config.read_source([str(path)])
    return gin.get_configurable("reproduce.Scale")()
