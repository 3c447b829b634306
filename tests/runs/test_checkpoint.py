"""Which checkpoints are kept: the newest two, and those at the ends of stages."""

import numpy as np

from gorl.runs.checkpoint import STAGE_END, CheckpointStore


def test_the_ends_of_stages_are_kept_beside_the_newest_two(tmp_path):
    store = CheckpointStore(tmp_path)
    kept = []
    for number, stage in ((1, None), (2, 0), (3, None), (4, None), (5, 1), (6, None), (7, None)):
        store.save(number, {"x": np.full((1, 2), number, np.float32)}, {STAGE_END: stage}, row=0)
        kept.append(store.newest())
    assert kept == [[1], [2, 1], [3, 2], [4, 3, 2], [5, 4, 2], [6, 5, 2], [7, 6, 5, 2]]
    assert [store.meta(n)[STAGE_END] for n in (5, 2)] == [1, 0]
    store.close()
    again = CheckpointStore(tmp_path)  # another process goes on, from an older checkpoint
    again.save(6, {"x": np.zeros((1, 2), np.float32)}, {STAGE_END: 1}, row=0)
    again.save(8, {"x": np.zeros((1, 2), np.float32)}, {}, row=0)
    again.save(9, {"x": np.zeros((1, 2), np.float32)}, {}, row=0)
    assert again.newest() == [9, 8, 6, 5, 2]
    again.close()


def test_an_old_checkpoint_that_cannot_be_read_is_not_kept(tmp_path):
    store = CheckpointStore(tmp_path)
    save = lambda number: store.save(number, {"x": np.zeros((1, 2), np.float32)}, {STAGE_END: number}, row=0)
    save(1)
    for file in (tmp_path / "checkpoints" / "1").rglob("meta/*"):
        file.write_bytes(b"")
    for number in (2, 3, 4):
        save(number)
    assert store.newest() == [4, 3, 2]
    store.close()
