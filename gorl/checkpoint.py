"""Checkpoints: the whole state, with Orbax, committed atomically.

Orbax refuses arrays of size 0 and there is no structure to store (it follows from the configuration), so a checkpoint is
the list of non-empty array leaves, with their paths, shapes and dtypes beside them to name what does not fit. Collected
datasets do not change: they are stored once, by the hash of their content, and referred to.
"""

import hashlib
import json
import logging
import os
import pathlib
from typing import Any

import jax
import numpy as np

from gorl import arrays
from gorl.errors import RunError
from gorl.paths import inside
from gorl.state import Dataset

KEEP = 2
_log = logging.getLogger(__name__)


class CheckpointStore:
    """The checkpoints of one seed's run: `folder`/checkpoints and `folder`/artifacts."""

    def __init__(self, folder: pathlib.Path):
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._artifacts = folder / "artifacts"
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=False, create=True)
        self._manager = ocp.CheckpointManager((folder / "checkpoints").absolute(), options=options)
        self._hashes: dict[int, tuple[Any, str]] = {}  # id of a dataset's array -> (the array, its dataset's hash)

    def save(self, number: int, state: Any, meta: dict[str, Any], *, row: int) -> None:
        """Commits the part of seed `row` of a state [S, ...] and `meta` as checkpoint `number`; older ones than the newest two go."""
        state, datasets = self._split(state)
        found, paths = arrays.leaves(state, axes=1)
        stored = {f"{i:05d}": np.asarray(np.asarray(arrays.plain(x))[row]) for i, x in enumerate(found)}
        meta = {**meta, "leaves": paths, "datasets": [self._commit(d, row) for d in datasets]}
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
        return self._manager.restore(number, args=self._ocp.args.Composite(meta=self._ocp.args.JsonRestore()))["meta"]

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
        args = self._ocp.args
        stored = self._manager.restore(number, args=args.Composite(state=args.StandardRestore(wanted)))["state"]
        state = arrays.refill(outer, (stored[f"{i:05d}"] for i in range(len(leaves))))
        parts = iter([self._fetch(h, d) for h, d in zip(meta["datasets"], datasets, strict=True)])
        return jax.tree.map(lambda x: next(parts) if isinstance(x, _Slot) else x, state, is_leaf=lambda x: isinstance(x, _Slot))

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
        digest = hashlib.sha256()
        for x in host:
            digest.update(f"{x.shape}{x.dtype}".encode())
            digest.update(np.ascontiguousarray(x).data)
        name = digest.hexdigest()
        path = self._artifacts / f"{name}.npz"
        if not path.exists():
            self._artifacts.mkdir(exist_ok=True)
            part = path.with_suffix(f".part{os.getpid()}")
            with open(part, "wb") as file:
                np.savez(file, *host)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        self._hashes = {id(leaves[0]): (leaves[0], name)}
        return name

    def _fetch(self, name: str, template: Dataset) -> Dataset:
        path = inside(self._artifacts, f"{name}.npz", "the checkpoint's dataset")
        if not path.exists():
            raise RunError(f"{path} is missing: the checkpoint needs this dataset.")
        with np.load(path, allow_pickle=False) as file:
            values = [file[f"arr_{i}"] for i in range(len(file.files))]
        return jax.tree.unflatten(jax.tree.structure(template), values)

    def _prune(self) -> None:
        """Deletes datasets that no kept checkpoint refers to."""
        if self._artifacts.exists():
            used = {name for number in self.newest() for name in self.meta(number)["datasets"]}
            for path in self._artifacts.iterdir():
                if path.stem not in used:
                    path.unlink(missing_ok=True)


class _Slot:
    """Where a dataset was taken out of a state."""


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes atomically."""
    part = path.with_suffix(f".part{os.getpid()}")
    with open(part, "w") as file:
        json.dump(value, file, indent=2, default=str)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
