"""Checkpoints: the whole state, with Orbax, committed atomically.

Orbax refuses arrays of size 0 and there is no structure to store (it follows from the configuration), so a checkpoint is
the list of non-empty array leaves, with their paths, shapes and dtypes beside them to name what does not fit. Collected
datasets do not change: they are stored once, by the hash of their content, and referred to.

Everything has a checksum (Orbax's format has none for the numbers themselves): what was damaged on disk is never read as
other numbers.
"""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from gorl.runs import arrays
from gorl.runtime import hosts
from gorl.runs.files import replacing, writing
from gorl.errors import RunError
from gorl.runs.files import inside
from gorl.state import Dataset

KEEP = 2


class CheckpointStore:
    """The checkpoints of one seed's run: `folder`/checkpoints and `folder`/artifacts."""

    def __init__(self, folder: pathlib.Path):
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._folder = folder
        self._artifacts = folder / "artifacts"
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        # One of several processes saves: Orbax is to wait for no other.
        own = {"primary_host": jax.process_index(), "active_processes": {jax.process_index()}} if hosts.many() else {}
        alone = ocp.options.MultiprocessingOptions(**own)
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=False, create=False, multiprocessing_options=alone)
        self._manager = ocp.CheckpointManager((folder / "checkpoints").absolute(), options=options)
        self._hashes: dict[int, tuple[Any, str]] = {}  # id of a dataset's array -> (the array, its dataset's hash)

    def save(self, number: int, state: Any, meta: dict[str, Any], *, row: int) -> None:
        """Commits the part of seed `row` of a state [S, ...] and `meta` as checkpoint `number`; older ones than the newest two go.

        Raises RunError where that cannot be written: the checkpoints that were there still are.
        """
        with writing(self._folder, f"checkpoint {number}"):
            self._save(number, state, meta, row)

    def _save(self, number: int, state: Any, meta: dict[str, Any], row: int) -> None:
        state, datasets = self._split(state)
        found, paths = arrays.leaves(state, axes=1)
        stored = {f"{i:05d}": np.asarray(np.asarray(arrays.plain(x))[row]) for i, x in enumerate(found)}
        meta = {**meta, "leaves": paths, "datasets": [self._commit(d, row) for d in datasets], "state_sha256": _digest(stored.values())}
        meta["meta_sha256"] = _digest_of_meta(meta)
        args = self._ocp.args
        # What is not older was passed over when the run went on (torn, or not there for every seed). It is being made again, and
        # Orbax would not save a number below its newest, without a word.
        for later in self._manager.all_steps():
            if later >= number:
                self._manager.delete(later)
        self._manager.save(number, args=args.Composite(state=args.StandardSave(stored), meta=args.JsonSave(meta)))
        self._manager.wait_until_finished()
        self._prune()

    def newest(self) -> list[int]:
        """The numbers of the committed checkpoints, newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def meta(self, number: int) -> dict[str, Any]:
        """What `save` was given, {leaves: [path, shape, dtype] of each array, datasets: their hashes} and checksums. Raises RunError if damaged."""
        with _reading(f"what checkpoint {number} says of itself"):
            meta = self._manager.restore(number, args=self._ocp.args.Composite(meta=self._ocp.args.JsonRestore()))["meta"]
        if meta.get("meta_sha256") != _digest_of_meta(meta):
            raise RunError(f"what checkpoint {number} says of itself is damaged")
        return meta

    def stored(self, number: int) -> dict[str, np.ndarray]:
        """The arrays of checkpoint `number` by their paths, as they are on disk (datasets left out). Raises RunError if damaged."""
        meta = self.meta(number)
        names = [f"{i:05d}" for i in range(len(meta["leaves"]))]
        found = self._restore(number, self._ocp.args.StandardRestore(), names, meta)
        return {leaf[0]: array for leaf, array in zip(meta["leaves"], found, strict=True)}

    def restore(self, number: int, template: Any) -> Any:
        """The state (of one seed) of checkpoint `number`, in the structure of `template` (a tree of ShapeDtypeStruct)."""
        meta = self.meta(number)
        outer, datasets = self._split(template)
        leaves, paths = arrays.leaves(outer)
        arrays.compare(paths, meta["leaves"], f"checkpoint {number}")
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = {}
        for i, leaf in enumerate(leaves):
            data = jax.eval_shape(arrays.plain, leaf)
            wanted[f"{i:05d}"] = jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=device)
        stored = self._restore(number, self._ocp.args.StandardRestore(wanted), wanted, meta)
        state = arrays.refill(outer, stored)
        parts = iter([self._fetch(h, d) for h, d in zip(meta["datasets"], datasets, strict=True)])
        return jax.tree.map(lambda x: next(parts) if isinstance(x, _Slot) else x, state, is_leaf=lambda x: isinstance(x, _Slot))

    def _restore(self, number: int, wanted: Any, names: Iterable[str], meta: dict[str, Any]) -> list[Any]:
        with _reading(f"checkpoint {number}"):
            stored = self._manager.restore(number, args=self._ocp.args.Composite(state=wanted))["state"]
            found = [stored[name] for name in names]
        if _digest(np.asarray(x) for x in found) != meta["state_sha256"]:
            raise RunError(f"the arrays of checkpoint {number} are damaged")
        return found

    def close(self) -> None:
        self._manager.close()

    def _split(self, state: Any) -> tuple[Any, list[Dataset]]:
        found: list[Dataset] = []

        def take(x: Any) -> Any:
            if isinstance(x, Dataset):
                found.append(x)
                return _Slot()
            return x

        return jax.tree.map(take, state, is_leaf=lambda x: isinstance(x, Dataset)), found

    def _commit(self, dataset: Dataset, row: int) -> str:
        leaves = jax.tree.leaves(dataset)
        known = self._hashes.get(id(leaves[0]))
        if known is not None:
            return known[1]
        host = [np.asarray(x)[row] for x in leaves]
        name = _digest(host)
        path = self._artifacts / f"{name}.npz"
        if not path.exists():
            self._artifacts.mkdir(exist_ok=True)
            with replacing(path) as file:
                np.savez(file, *host)
        self._hashes = {id(leaves[0]): (leaves[0], name)}
        return name

    def _fetch(self, name: str, template: Dataset) -> Dataset:
        path = inside(self._artifacts, f"{name}.npz", "the checkpoint's dataset")
        if not path.exists():
            raise RunError(f"{path} is missing: the checkpoint needs this dataset.")
        with _reading(str(path)), np.load(path, allow_pickle=False) as file:
            values = [file[f"arr_{i}"] for i in range(len(file.files))]
        if _digest(values) != name:
            raise RunError(f"{path} is damaged: the checkpoint needs this dataset.")
        return jax.tree.unflatten(jax.tree.structure(template), values)

    def _prune(self) -> None:
        """Deletes datasets that no kept checkpoint refers to, and what a killed process left of one. Not while an older checkpoint cannot say."""
        if not self._artifacts.exists():
            return
        try:
            used = {f"{name}.npz" for number in self.newest() for name in self.meta(number)["datasets"]}
        except RunError:
            return
        for path in self._artifacts.iterdir():
            if path.name not in used:
                path.unlink(missing_ok=True)


class _Slot:
    """Where a dataset was taken out of a state."""


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Whatever Orbax, NumPy or zipfile raise at a damaged file (they do not say what may come) is a RunError."""
    try:
        yield
    except Exception as err:
        raise RunError(f"{what} cannot be read ({type(err).__name__}: {str(err).splitlines()[0] if str(err) else ''})") from err


def _digest(values: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for x in values:
        digest.update(f"{x.shape}{x.dtype}".encode())
        digest.update(np.ascontiguousarray(x).data)
    return digest.hexdigest()


def _digest_of_meta(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps({k: v for k, v in meta.items() if k != "meta_sha256"}, sort_keys=True).encode()).hexdigest()
