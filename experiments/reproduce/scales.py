"""The measurements of a scale and their order, as declared in a gin file (`parts/order_*.gin`)."""

import abc
import dataclasses
import pathlib
import re
from collections.abc import Iterator, Sequence

import gin

from gorl import config
from gorl.errors import ConfigError, did_you_mean

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def folder_name(name: str) -> str:
    """Returns a name in which every character is valid in the name of a folder."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("._")


@dataclasses.dataclass(frozen=True)
class Entry:
    """The position of one cell. `kind` is 'train', or 'physics' with an empty `method`."""

    kind: str
    method: str
    task: str


class AbstractBlock(abc.ABC):
    """Cells of the same priority."""

    @abc.abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Yields the cells in the order in which they are measured."""


@gin.register(module="reproduce")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(AbstractBlock):
    """Methods (studies of the scale) on tasks (their variants). All methods are measured on a task before the next."""

    methods: list[str]
    tasks: list[str]

    def entries(self) -> Iterator[Entry]:
        for task in self.tasks:
            for method in self.methods:
                yield Entry("train", method, task)


@gin.register(module="reproduce")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Physics(AbstractBlock):
    """Environment steps per second of tasks on physics implementations, as measured by `gorl bench physics`.

    An empty `implementations` means all that run on the machine. `seconds` is the expected time of one task.
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
    """The expected time of a cell before any is measured.

    It is the `seconds` of the task times the `cost` of the method, which is 1 if none is given. `source` is the origin
    of these numbers.
    """

    source: str
    seconds: dict[str, float]
    cost: dict[str, float]

    def of(self, method: str, task: str) -> float | None:
        return self.seconds[task] * self.cost.get(method, 1.0) if task in self.seconds else None


@gin.register(module="reproduce")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """All cells of one size.

    - `about`: a description of the size for the results page.
    - `published`: whether the published numbers are comparable.
    - `studies`: the words of `gorl sweep` (files, and bindings with '=') by method. Their variants are the tasks.
    - `blocks`: the cells in order of priority.
    - `controls`: pairs of studies {sound: changed} by the name of the change.
    - `presets`: the published settings of the same method by study.
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
        """Returns every cell once, in order of priority."""
        return list(dict.fromkeys(entry for block in self.blocks for entry in block.entries()))

    def block_of(self, entry: Entry) -> AbstractBlock:
        return next(block for block in self.blocks if entry in block.entries())

    @property
    def main_methods(self) -> list[str]:
        """The methods that are neither a control nor a published preset."""
        special = {c for pairs in self.controls.values() for c in pairs.values()} | {
            p for others in self.presets.values() for p in others
        }
        return [name for name in self.studies if name not in special]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(e.task for e in self.entries() if e.kind == "train"))

    def command(self, entry: Entry) -> str:
        """Returns the command that measures one cell alone."""
        name = f"{entry.method or entry.kind}/{entry.task}"
        return f'python -m experiments.reproduce.run --scale {self.name} --only "{name}"'


@dataclasses.dataclass(frozen=True)
class SeedCell:
    """One seed of a method on a task: one process on one core."""

    method: str
    task: str
    seed: int

    @property
    def place(self) -> pathlib.Path:
        """The relative path of its folder and, with a suffix, of its files."""
        return pathlib.Path(folder_name(self.method), folder_name(self.task), f"seed{self.seed}")

    def __str__(self) -> str:
        return f"{self.method}/{self.task}/seed{self.seed}"


@gin.register(module="reproduce")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedBlock:
    """Methods on tasks with the seeds 0 to `seeds` - 1.

    One seed of everything is run before the next one, so a block that is not done yet compares all of its methods.
    """

    methods: list[str]
    tasks: list[str]
    seeds: int

    def cells(self) -> Iterator[SeedCell]:
        """Yields the cells in the order in which they are run."""
        for seed in range(self.seeds):
            for task in self.tasks:
                for method in self.methods:
                    yield SeedCell(method, task, seed)


@gin.register(module="reproduce")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedScale:
    """Cells of one seed each, run in one process a core.

    - `about`: a description of the size for the results page.
    - `methods`: the words of `gorl train` (files, and bindings with '=') by method. `{task}` in them is the task.
    - `blocks`: the cells by the name of their block, in the order in which blocks are run.
    - `pairs`: the methods whose probability of improvement is reported, [the method, the one it is compared with].
    - `published`: the column of published.csv by method.
    - `episodes`: the number of episodes of the evaluation under MJX.
    """

    name: str
    title: str
    about: str
    methods: dict[str, list[str]]
    blocks: dict[str, SeedBlock]
    pairs: list[list[str]]
    published: dict[str, str]
    episodes: int

    def __post_init__(self):
        named = {cell.method for cell in self.cells()} | {m for pair in self.pairs for m in pair} | {*self.published}
        for method in sorted(named - {*self.methods}):
            raise ConfigError(
                f"Scale {self.name}: {method!r} is not one of its methods.{did_you_mean(method, self.methods)}"
            )

    def cells(self, blocks: Sequence[str] = ()) -> list[SeedCell]:
        """Returns every cell of these blocks once, in order; of all blocks without any. Raises ConfigError."""
        for name in blocks:
            if name not in self.blocks:
                raise ConfigError(f"--blocks {name}: the blocks of {self.name} are {', '.join(self.blocks)}.")
        chosen = [block for name, block in self.blocks.items() if not blocks or name in blocks]
        return list(dict.fromkeys(cell for block in chosen for cell in block.cells()))

    def words(self, cell: SeedCell) -> tuple[list[str], list[str]]:
        """Returns (the files, the bindings) of a cell."""
        words = [word.replace("{task}", cell.task) for word in self.methods[cell.method]]
        files, bindings = [w for w in words if "=" not in w], [w for w in words if "=" in w]
        return files, [*bindings, f"SEED = {cell.seed}"]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(cell.task for cell in self.cells()))


@gin.register(module="reproduce")
def declared(scale: Scale | SeedScale) -> Scale | SeedScale:
    """Returns the scale that a file declares."""
    return scale


def load(name: str) -> Scale | SeedScale:
    """Returns the scale of a name or of a .gin file. Raises ConfigError."""
    path = pathlib.Path(name) if name.endswith(".gin") else HERE / "parts" / f"order_{name}.gin"
    if not path.is_file():
        known = sorted(p.stem.removeprefix("order_") for p in (HERE / "parts").glob("order_*.gin"))
        raise ConfigError(
            f"--scale {name}: it is one of {', '.join(known)}, or a .gin file.{did_you_mean(name, known)}"
        )
    config.read_source([str(path)])
    return gin.get_configurable("reproduce.declared")()
