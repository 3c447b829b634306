"""A run with files deleted, cut off or changed: the newest sound checkpoint is found, and the end is the same."""

import json
import pathlib
import random
import shutil

import pytest

from experiments.faults import same_bits
from gorl.errors import RunError
from gorl.runs.checkpoint import CheckpointStore
from tests.support.toy_runs import error_of, go_on, warnings


@pytest.fixture
def run(crashed, tmp_path):
    return shutil.copytree(crashed, tmp_path / "run")


def newest(run: pathlib.Path) -> pathlib.Path:
    return max((run / "checkpoints").iterdir(), key=lambda p: int(p.name))


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def arrays(run: pathlib.Path) -> list[pathlib.Path]:
    """Where the newest checkpoint has its numbers."""
    return [p for p in files(newest(run) / "state") if p.parent.name == "d"]


def meta(run: pathlib.Path) -> pathlib.Path:
    return newest(run) / "meta" / "metadata"


def flip(path: pathlib.Path, at: float, bit: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1 << bit
    path.write_bytes(data)


def cut(path: pathlib.Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])


def change_meta(run: pathlib.Path) -> None:
    """A digit that is as good JSON as before."""
    content = json.loads(meta(run).read_text())
    content["position"]["env_steps"] += 1
    meta(run).write_text(json.dumps(content))


def each(paths, change):
    for path in paths:
        change(path)


DAMAGES = {
    "the checkpoint is gone": lambda run: shutil.rmtree(newest(run)),
    "its arrays are gone": lambda run: shutil.rmtree(newest(run) / "state"),
    "its array files are gone": lambda run: each(arrays(run), pathlib.Path.unlink),
    "its array files are empty": lambda run: each(arrays(run), lambda p: p.write_bytes(b"")),
    "its array files are cut off": lambda run: each(arrays(run), lambda p: cut(p, 0.7)),
    "a bit of each array file": lambda run: each(arrays(run), lambda p: flip(p, 0.5)),
    "its index is cut off": lambda run: each((newest(run) / "state").glob("manifest*"), lambda p: cut(p, 0.5)),
    "its metadata are gone": lambda run: meta(run).unlink(),
    "its metadata are cut off": lambda run: cut(meta(run), 0.5),
    "its metadata say something else": change_meta,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_passed_over(damage, run, sound, caplog):
    last = int(newest(run).name)
    damage(run)
    assert go_on(run).status == "finished"
    assert same_bits.differences(run, sound) == []
    gone = not (run / "checkpoints" / str(last)).exists() or damage is DAMAGES["the checkpoint is gone"]
    assert gone or any(f"checkpoint {last} cannot be read and is skipped" in w for w in warnings(caplog))


def test_no_bit_of_a_checkpoint_is_read_as_another_number(run):
    """Bits at random places: what is read is what was written, or nothing."""
    store = CheckpointStore(run)
    number = store.newest()[0]
    before = store.stored(number)
    store.close()
    rng, refused = random.Random(0), 0
    originals = {path: path.read_bytes() for path in files(newest(run))}
    for _ in range(40):
        path = rng.choice(arrays(run) + [meta(run)])
        flip(path, rng.random(), rng.randrange(8))
        store = CheckpointStore(run)
        try:
            found = store.stored(number)
            assert found.keys() == before.keys() and all(found[k].tobytes() == before[k].tobytes() for k in before)
        except (RunError, ValueError, OSError, KeyError, TypeError):
            refused += 1
        finally:
            store.close()
        path.write_bytes(originals[path])
    assert refused >= 5  # Orbax has some things twice


@pytest.mark.parametrize(
    "damage", [pathlib.Path.unlink, lambda p: flip(p, 0.6), lambda p: cut(p, 0.6)], ids=["gone", "a bit", "cut off"]
)
def test_a_damaged_dataset_is_never_fitted(damage, run, caplog):
    """Checkpoints that refer to it are passed over; both of these do, so the run says that it cannot go on."""
    [dataset] = (run / "artifacts").iterdir()
    damage(dataset)
    assert "no checkpoint of this run can be read" in error_of(lambda: go_on(run))
    assert sum("cannot be read and is skipped" in w for w in warnings(caplog)) == 2
    assert dataset.name[:16] in " ".join(warnings(caplog))


def test_a_record_that_lost_its_end_is_told_from_one_that_was_not_finished(run, sound, caplog):
    path = run / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"unit": 14, "sta')  # a line that a crash cut off
    assert go_on(run).status == "finished"
    assert same_bits.differences(run, sound) == []
    path.write_bytes(whole[:100])
    assert "its end was lost" in error_of(lambda: go_on(run))
