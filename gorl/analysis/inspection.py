"""Inspection of a run's folder without building or compiling anything: its record, its checkpoints, its arrays.

A checkpoint lists its own arrays, so reading one needs neither the configuration nor a simulator.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gorl.errors import GorlError, RunError
from gorl.runs.checkpoint import CheckpointStore
from gorl.runs.folder import RunFolder
from gorl.runs.record import RecordEntry
from gorl.state import Array, Dataset, Episodes, PyTree

FAULTS = ("diverged", "updates_skipped", "invalid_steps", "diverged_episodes")
"""Metrics that count faults. Any value but 0 is reported."""

NOTHING_YET = {".best.value": -math.inf, ".best_loss": math.inf}
"""Arrays that are infinite before the first comparison, with their initial values."""

_TOKEN = re.compile(r"\.[^.\[]+|\[[^\]]*\]")
_DEPTH = 3  # number of names that identify a part, such as training.learner.policy


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Statistics of one array or of several.

    `low`, `high` and `mean` are those of the finite numbers (None: there are none, as in a random key). `nan` and `inf`
    count the other numbers.
    """

    name: str
    arrays: int
    size: int
    shape: tuple[int, ...] | None
    dtype: str
    low: float | None
    high: float | None
    mean: float | None
    nan: int
    inf: int

    @property
    def sound(self) -> bool:
        """Whether all numbers are finite."""
        return self.nan + self.inf == 0


def measure(name: str, value: Array) -> Numbers:
    """Returns the statistics of one array. Initial values (see `NOTHING_YET`) do not count as infinite."""
    about = {"name": name, "arrays": 1, "size": value.size, "shape": tuple(value.shape), "dtype": str(value.dtype)}
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return Numbers(**about, low=None, high=None, mean=None, nan=0, inf=0)
    x = np.asarray(value).astype(np.float64)
    nan, inf = int(np.isnan(x).sum()), int(np.isinf(x).sum())
    if inf == x.size and np.all(x == NOTHING_YET.get(name)):
        inf = 0
    finite = x[np.isfinite(x)]
    low, high, mean = (float(f(finite)) for f in (np.min, np.max, np.mean)) if finite.size else (None, None, None)
    return Numbers(**about, low=low, high=high, mean=mean, nan=nan, inf=inf)


def group_by_part(found: Sequence[Numbers]) -> list[Numbers]:
    """Returns the statistics of each part of the state, in the order in which parts first appear."""
    groups: dict[str, list[Numbers]] = {}
    for numbers in found:
        names = _TOKEN.findall(numbers.name)
        groups.setdefault("".join(names[: min(_DEPTH, max(1, len(names) - 1))]).lstrip("."), []).append(numbers)
    return [_combine(name, group) for name, group in groups.items()]


def _combine(name: str, group: Sequence[Numbers]) -> Numbers:
    known = [n for n in group if n.mean is not None]
    counts = [n.size - n.nan - n.inf for n in known]
    return Numbers(
        name=name,
        arrays=len(group),
        size=sum(n.size for n in group),
        shape=None,
        dtype=", ".join(sorted({n.dtype for n in group})),
        low=min((n.low for n in known), default=None),
        high=max((n.high for n in known), default=None),
        mean=float(np.average([n.mean for n in known], weights=counts)) if known else None,
        nan=sum(n.nan for n in group),
        inf=sum(n.inf for n in group),
    )


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One checkpoint. `problem` explains why it cannot be read; `meta` and `arrays` are then empty."""

    number: int
    meta: dict[str, Any]
    arrays: list[Numbers]
    problem: str | None = None


def checkpoints(folder: RunFolder) -> list[Checkpoint]:
    """Returns all checkpoints of a run, newest first, including broken ones."""
    if not (folder.path / "checkpoints").is_dir():
        return []
    store = CheckpointStore(folder.path)
    try:
        return [_read_checkpoint(store, number) for number in store.newest()]
    finally:
        store.close()


def select_checkpoint(found: Sequence[Checkpoint], number: int | None) -> Checkpoint | None:
    """Returns checkpoint `number`, or for None the newest readable one (None if there is none).

    Raises RunError for a number that does not exist.
    """
    if number is None:
        return next((c for c in found if c.problem is None), None)
    for checkpoint in found:
        if checkpoint.number == number:
            return checkpoint
    there = ", ".join(str(c.number) for c in found) or "none"
    raise RunError(f"there is no checkpoint {number}; there are: {there}.")


def _read_checkpoint(store: CheckpointStore, number: int) -> Checkpoint:
    try:
        meta = store.meta(number)
        stored = store.restore(number, _Stored.template(meta))
        return Checkpoint(number, meta, [measure(name, value) for name, value in stored.named()])
    except Exception as err:  # a broken file may raise anything; it is shown, and the others are read
        return Checkpoint(number, {}, [], problem=describe_error(err))


def describe_error(err: Exception) -> str:
    """Returns an error as one line."""
    line = (str(err).strip().splitlines() or [""])[0][:240]
    return line if isinstance(err, GorlError) else f"{type(err).__name__}: {line}"


@jax.tree_util.register_pytree_with_keys_class
class _Stored:
    """A checkpoint's arrays under their paths, and its datasets, as a tree that restores the checkpoint."""

    def __init__(self, paths: Sequence[str], values: Sequence[PyTree], datasets: Sequence[PyTree]):
        self.paths, self.values, self.datasets = tuple(paths), tuple(values), tuple(datasets)

    @classmethod
    def template(cls, meta: dict[str, Any]) -> "_Stored":
        """Returns the tree of ShapeDtypeStruct that a checkpoint's metadata describes."""
        key = jax.eval_shape(lambda: jax.random.key(0)).dtype
        parse = lambda dtype: key if dtype.startswith("key<") else jnp.dtype(dtype)
        values = [jax.ShapeDtypeStruct(tuple(shape), parse(dtype)) for _, shape, dtype in meta["leaves"]]
        cube, table = np.zeros((0, 0, 0), np.float32), np.zeros((0, 0), np.float32)
        dataset = Dataset(Episodes(cube, cube, table, table, np.zeros((0, 0), bool)))  # its file determines the sizes
        return cls([path for path, _, _ in meta["leaves"]], values, [dataset] * len(meta["datasets"]))

    def named(self) -> Iterator[tuple[str, Array]]:
        """Yields the path and value of every array, those of datasets included."""
        yield from zip(self.paths, self.values, strict=True)
        for dataset in self.datasets:
            for path, value in jax.tree_util.tree_leaves_with_path(dataset):
                yield ".dataset" + jax.tree_util.keystr(path), value

    def tree_flatten_with_keys(self) -> tuple[list[tuple["_Path", PyTree]], tuple[str, ...]]:
        children = [(_Path(p), v) for p, v in zip(self.paths, self.values, strict=True)]
        return [*children, *((_Path(".dataset"), d) for d in self.datasets)], self.paths

    @classmethod
    def tree_unflatten(cls, paths: tuple[str, ...], children: Sequence[PyTree]) -> "_Stored":
        return cls(paths, children[: len(paths)], children[len(paths) :])


@dataclasses.dataclass(frozen=True)
class _Path:
    """A whole path as one key of a pytree."""

    text: str

    def __str__(self) -> str:
        return self.text


# ---- the record ----


@dataclasses.dataclass(frozen=True)
class Trouble:
    """A metric that was not finite, or counted faults, in `units` of the `of` units that have it.

    `total`: the number of faults (None: the metric is not a count).
    """

    phase: str
    kind: str
    metric: str
    units: int
    of: int
    first: RecordEntry
    last: RecordEntry
    total: float | None


def troubles(entries: Sequence[RecordEntry]) -> list[Trouble]:
    """Returns the troubles of each kind of unit and metric, in the order in which they first appeared."""
    seen: dict[tuple[str, str, str], list[RecordEntry]] = {}
    for entry in entries:
        for name in entry.metrics:
            seen.setdefault((entry.phase, entry.kind, name), []).append(entry)
    found = []
    for (phase, kind, name), with_metric in seen.items():
        bad = [e for e in with_metric if _is_bad(name, e.metrics)]
        if bad:
            total = sum(e.metrics[name] for e in bad) if name in FAULTS else None
            found.append(Trouble(phase, kind, name, len(bad), len(with_metric), bad[0], bad[-1], total))
    return sorted(found, key=lambda t: (t.first.unit, -t.units))


def _is_bad(name: str, metrics: dict[str, float]) -> bool:
    value = metrics[name]
    if math.isnan(value) and metrics.get("episodes" if name == "return" else "updates") == 0.0:
        return False  # the mean of no numbers: no episode has ended, or no update was made
    return not math.isfinite(value) or (name in FAULTS and value != 0.0)


def given_up_since(entries: Sequence[RecordEntry]) -> RecordEntry | None:
    """Returns the first unit of the trailing run of diverged units, or None if the latest unit did not diverge."""
    first = None
    for entry in reversed([e for e in entries if "diverged" in e.metrics]):
        if entry.metrics["diverged"] == 0.0:
            break
        first = entry
    return first
