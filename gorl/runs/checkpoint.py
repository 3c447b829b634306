"""Checkpoints: the whole state, written with Orbax and committed atomically.

Orbax refuses arrays of size 0, and the configuration determines the state's structure. A checkpoint is therefore the
list of non-empty array leaves, with their paths, shapes and dtypes to name the array that does not fit. Collected
datasets do not change, so each is stored once under the hash of its content, and checkpoints refer to it.

Everything has a checksum, because Orbax's format has none for the numbers themselves. Damaged files are never read as
other numbers.
"""

import contextlib
import functools
import hashlib
import json
import pathlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from gorl.errors import RunError
from gorl.runs import arrays
from gorl.runs.files import inside, replacing, require_plain_tree, writing
from gorl.runtime import hosts
from gorl.state import Array, Dataset, PyTree

KEEP = 2
"""Number of newest checkpoints that are kept. Those at the ends of stages are kept besides."""

STAGE_END = "stage_end"
"""Entry of a checkpoint's metadata: the number of the stage that ended there, or None."""


class CheckpointStore:
    """The checkpoints of one seed's run, in `folder`/checkpoints and `folder`/artifacts.

    Raises RunError if there are links, devices or pipes in them. The first checkpoint that is saved is read back, so
    that a run which nothing could be restored from ends at once.
    """

    def __init__(self, folder: pathlib.Path):
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._folder = folder
        self._artifacts = folder / "artifacts"
        self._is_proven = False
        for part in (folder / "checkpoints", self._artifacts):
            require_plain_tree(part)
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        # Only one of several processes saves, so Orbax must not wait for the others.
        this = jax.process_index()
        processes = {"primary_host": this, "active_processes": {this}} if hosts.is_distributed() else {}
        options = ocp.CheckpointManagerOptions(
            enable_async_checkpointing=False,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(**processes),
        )
        self._manager = ocp.CheckpointManager(_literal_path()((folder / "checkpoints").absolute()), options=options)
        self._hashes: dict[int, tuple[Array, str]] = {}  # id of a dataset's array -> (the array, its dataset's hash)

    def save(self, number: int, state: PyTree, meta: dict[str, Any], *, row: int) -> None:
        """Commits row `row` of a state [S, ...] and `meta` as checkpoint `number`.

        Deletes all earlier ones but the newest, and those whose `meta` says that a stage ended there (`STAGE_END`).
        Raises RunError if the checkpoint cannot be written; earlier checkpoints then remain intact.
        """
        with writing(self._folder, f"checkpoint {number}"):
            self._save(number, state, meta, row)
        if not self._is_proven:
            self._prove(number)
            self._is_proven = True

    def _prove(self, number: int) -> None:
        """Reads a checkpoint back. Raises RunError if that fails."""
        try:
            self.stored(number)
        except RunError as err:
            raise RunError(
                f"a checkpoint that was just written to {self._folder} cannot be read back: {err}. The run ends, since"
                " nothing of it could be resumed or evaluated. Name another folder, on another disk, with --run-dir."
            ) from err

    def _save(self, number: int, state: PyTree, meta: dict[str, Any], row: int) -> None:
        state, datasets = self._split(state)
        found, paths = arrays.leaves(state, axes=1)
        stored = {f"{i:05d}": np.asarray(arrays.to_stored(x)[row]) for i, x in enumerate(found)}
        meta = {
            **meta,
            "leaves": paths,
            "datasets": [self._commit(d, row) for d in datasets],
            "state_sha256": _hash_arrays(stored.values()),
        }
        meta["meta_sha256"] = _hash_meta(meta)
        args = self._ocp.args
        # Checkpoints from this number on were skipped when the run resumed (torn, or missing for some seed). The run
        # writes them again, and Orbax silently refuses to save a number below its newest.
        for later in self._manager.all_steps():
            if later >= number:
                self._manager.delete(later)
        self._manager.save(number, args=args.Composite(state=args.StandardSave(stored), meta=args.JsonSave(meta)))
        self._manager.wait_until_finished()
        self._prune()

    def newest(self) -> list[int]:
        """Returns the numbers of the committed checkpoints, newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def meta(self, number: int) -> dict[str, Any]:
        """Returns what `save` was given, "leaves" ([path, shape, dtype] per array), "datasets" (hashes), checksums.

        Raises RunError if it is damaged.
        """
        args = self._ocp.args
        with _reading(f"the metadata of checkpoint {number}"):
            meta = self._manager.restore(number, args=args.Composite(meta=args.JsonRestore()))["meta"]
        if meta.get("meta_sha256") != _hash_meta(meta):
            raise RunError(f"the metadata of checkpoint {number} is damaged")
        return meta

    def stored(self, number: int) -> dict[str, np.ndarray]:
        """Returns the stored arrays of checkpoint `number` by path, without datasets. Raises RunError if damaged."""
        meta = self.meta(number)
        names = [f"{i:05d}" for i in range(len(meta["leaves"]))]
        found = self._restore(number, self._ocp.args.StandardRestore(), names, meta)
        return {leaf[0]: array for leaf, array in zip(meta["leaves"], found, strict=True)}

    def restore(self, number: int, template: PyTree) -> PyTree:
        """Returns one seed's state of checkpoint `number`, structured as `template` (a tree of ShapeDtypeStruct).

        Raises RunError if the checkpoint is damaged or does not fit.
        """
        meta = self.meta(number)
        outer, datasets = self._split(template)
        leaves, paths = arrays.leaves(outer)
        arrays.check_arrays(paths, meta["leaves"], f"checkpoint {number}")
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = {}
        for i, leaf in enumerate(leaves):
            data = arrays.stored_shape(leaf)
            wanted[f"{i:05d}"] = jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=device)
        stored = self._restore(number, self._ocp.args.StandardRestore(wanted), wanted, meta)
        state = arrays.refill(outer, stored)
        parts = iter([self._fetch(h, d) for h, d in zip(meta["datasets"], datasets, strict=True)])
        is_slot = lambda x: isinstance(x, _Slot)
        return jax.tree.map(lambda x: next(parts) if is_slot(x) else x, state, is_leaf=is_slot)

    def _restore(self, number: int, wanted: Any, names: Iterable[str], meta: dict[str, Any]) -> list[Array]:
        with _reading(f"checkpoint {number}"):
            stored = self._manager.restore(number, args=self._ocp.args.Composite(state=wanted))["state"]
            found = [stored[name] for name in names]
        if _hash_arrays(np.asarray(x) for x in found) != meta["state_sha256"]:
            raise RunError(f"the arrays of checkpoint {number} are damaged")
        return found

    def close(self) -> None:
        self._manager.close()

    def _split(self, state: PyTree) -> tuple[PyTree, list[Dataset]]:
        """Returns the state with a `_Slot` in place of every dataset, and the datasets."""
        found: list[Dataset] = []

        def take(x: PyTree) -> PyTree:
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
        name = _hash_arrays(host)
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
            if any(part.compress_type != zipfile.ZIP_STORED for part in file.zip.infolist()):
                raise ValueError("it is compressed, which gorl never does: it may fill the memory")
            values = [file[f"arr_{i}"] for i in range(len(file.files))]
        if _hash_arrays(values) != name:
            raise RunError(f"{path} is damaged: the checkpoint needs this dataset.")
        return jax.tree.unflatten(jax.tree.structure(template), values)

    def _prune(self) -> None:
        """Deletes old checkpoints, datasets that no kept one refers to, and partial files of killed processes.

        Deletes no dataset while the metadata of a kept checkpoint cannot be read.
        """
        for number in self.newest()[KEEP:]:
            if not self._ends_stage(number):
                self._manager.delete(number)
        if not self._artifacts.exists():
            return
        try:
            used = {f"{name}.npz" for number in self.newest() for name in self.meta(number)["datasets"]}
        except RunError:
            return
        for path in self._artifacts.iterdir():
            if path.name not in used:
                path.unlink(missing_ok=True)

    def _ends_stage(self, number: int) -> bool:
        try:
            return self.meta(number).get(STAGE_END) is not None
        except RunError:
            return False


@functools.cache
def _literal_path() -> type:
    """Returns epath's class of paths, with a `glob` for which brackets and stars in the path itself are just names.

    Orbax looks for a checkpoint's metadata with it: in `lr=[1e-3]/checkpoints` it would find nothing.
    """
    from etils.epath import gpath

    class LiteralPath(gpath.PosixGPath):
        def glob(self, pattern: str) -> Iterator["LiteralPath"]:
            return (self._new(path) for path in pathlib.Path(str(self)).glob(pattern))

    return LiteralPath


class _Slot:
    """The place of a dataset that was taken out of a state."""


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turns any exception into a RunError: Orbax, NumPy and zipfile do not document what a damaged file raises."""
    try:
        yield
    except Exception as err:
        line = str(err).splitlines()[0] if str(err) else ""
        raise RunError(f"{what} cannot be read ({type(err).__name__}: {line})") from err


def _hash_arrays(values: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for x in values:
        digest.update(f"{x.shape}{x.dtype}".encode())
        digest.update(np.ascontiguousarray(x).data)
    return digest.hexdigest()


def _hash_meta(meta: Mapping[str, Any]) -> str:
    hashed = {k: v for k, v in meta.items() if k != "meta_sha256"}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()
