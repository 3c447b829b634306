"""Run folders of format 3, made by gorl 0.1.0 before its modules moved, still load, resume and report."""

import hashlib
import json
import pathlib
import tarfile

import jax
import numpy as np
import pytest

import gorl
from gorl.runs import CheckpointStore, RunFolder
from gorl.runs.record import read
from gorl.training import trained

MADE_BEFORE = pathlib.Path(__file__).parent / "data" / "run_format_3.tar.gz"
SAVED = 10  # units at the newest checkpoint, in the midst of the decoder's fit; the record has one more


@pytest.fixture
def home(tmp_path):
    """The folders `finished` and `interrupted`, and what the version that made them read from the first."""
    with tarfile.open(MADE_BEFORE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def expected(home):
    return json.loads((home / "expected.json").read_text())


def test_every_array_is_read_bit_for_bit(home, expected):
    store = CheckpointStore(home / "finished")
    found = {
        path: [str(x.dtype), list(x.shape), hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()]
        for path, x in store.stored(expected["checkpoint"]).items()
    }
    store.close()
    assert found == expected["arrays"]


def test_every_array_fits_into_the_state_of_today(home):
    """The template of today's classes takes the arrays by path, shape and type, or `restore` raises."""
    experiment, state = trained.restore(home / "finished")
    assert [p.name for p in experiment.planned_phases()][-1] == "Evaluate"
    assert float(state.learner.policy.normalizer.count) == 480.0  # steps of the last stage
    assert state.decoder.body is not None and state.dataset is None


def test_its_policy_acts_as_before(home, expected):
    policy = gorl.load(RunFolder.open(home / "finished"))
    obs, key = np.asarray(expected["obs"]), jax.random.key(0)
    np.testing.assert_allclose(policy.act(obs, key=key), expected["mode"], atol=1e-5)
    np.testing.assert_allclose(policy.act(obs, key=key, rule="stochastic"), expected["stochastic"], atol=1e-5)


def test_it_evaluates_as_before(home):
    """The version that made it said 7.4 ± 5.5 over these 16 episodes, from 0.1 to 18.9."""
    best, last = gorl.evaluate(home / "finished", episodes=16)
    for found in (best, last):
        shown = [round(found.metrics[name], 1) for name in ("return", "return_std", "return_min", "return_max")]
        np.testing.assert_allclose(shown, [7.4, 5.5, 0.1, 18.9], atol=0.11)


def test_an_interrupted_one_resumes_where_it_was(home):
    run = home / "interrupted"
    before = list(read(run / "metrics.jsonl"))
    gorl.train(run_dir=run, resume=True)
    after, whole = list(read(run / "metrics.jsonl")), list(read(home / "finished" / "metrics.jsonl"))
    assert len(before) == SAVED + 1 and after[:SAVED] == before[:SAVED]
    assert [(e.unit, e.stage, e.phase, e.kind, e.env_steps) for e in after] == [
        (e.unit, e.stage, e.phase, e.kind, e.env_steps) for e in whole
    ]
    for found, expected in zip(after[SAVED : SAVED + 2], whole[SAVED : SAVED + 2]):  # the rest of the fit
        assert found.metrics == pytest.approx(expected.metrics, rel=1e-3)
    assert RunFolder.open(run).status()["status"] == "finished"
