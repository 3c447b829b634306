"""Phases that runs share are computed once, and each run is bit for bit what it is alone."""

import json
import shutil

import numpy as np
import pytest

from gorl import config
from gorl.reuse.explain import Estimator, explain_differences, explain_miss
from gorl.reuse.identity import identities
from gorl.reuse.store import PhaseStore, default_store
from gorl.runs.record import read
from tests.support.toy_study import assert_same, status, sweep, write

STUDY = """
Study.variants = {'flow': [], 'longer': ['FIT_EPOCHS = 3'], 'gaussian': ['parts/gaussian_decoder.gin']}
"""


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """A run whose phases are stored, to be copied: (its file, its folder, the cache)."""
    root = tmp_path_factory.mktemp("computed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GORL_CACHE", str(root / "cache"))
        sweep(write(root, ""), root / "study")
    return root / "toy.gin", root / "study" / "base" / "seed0", root / "cache"


@pytest.fixture
def stored(computed, cache):
    """(the file of a run whose phases are stored in this test's cache, the run)."""
    path, run, filled = computed
    shutil.copytree(filled, cache)
    return path, run


def run_folders(study):
    return {job.folder: study.path / job.folder for job in study.jobs()}


def test_shared_phases_are_computed_once_and_change_nothing(tmp_path, cache):
    path = write(tmp_path, STUDY)
    shared, result, _ = sweep(path, tmp_path / "shared")
    alone, _, _ = sweep(path, tmp_path / "alone", reuse=False)
    assert result.statuses == {"finished": 3} and result.failures == {}
    for name, folder in run_folders(shared).items():
        assert_same(folder, alone.path / name)
    # Stage 0 (improve, evaluate) and collection are the same for all; what is fitted to the data differs.
    taken = [status(f)["reused"]["phases"] for f in run_folders(shared).values()]
    assert taken == [0, 3, 3]
    steps = [status(f)["env_steps"] - status(f)["reused"]["env_steps"] for f in run_folders(shared).values()]
    whole = status(next(iter(run_folders(alone).values())))["env_steps"]
    assert steps[0] == whole and len(set(steps[1:])) == 1 and steps[1] < whole / 2
    assert all("reused" not in status(f) for f in run_folders(alone).values())


def test_a_run_that_is_wholly_stored_takes_no_step_and_has_the_same_record(tmp_path, stored):
    path, first = stored
    again, _, _ = sweep(path, tmp_path / "again")
    run = again.path / "base" / "seed0"
    assert_same(run, first)
    assert status(run)["reused"]["env_steps"] == status(run)["env_steps"]
    clock = [[e.wall_s for e in read(f / "metrics.jsonl")] for f in (first, run)]
    np.testing.assert_allclose(
        clock[1], clock[0], atol=2.0
    )  # the clock counts what was reused as if it had been computed
    assert clock[1] == sorted(clock[1])


@pytest.mark.slow
def test_seeds_together_are_shared_together(tmp_path, cache):
    path = write(tmp_path, "Study.grid = {'FIT_EPOCHS': [2, 3]}\nStudy.seeds = 2\nStudy.seeds_together = True\n")
    study, _, _ = sweep(path, tmp_path / "study")
    assert [(j.folder, j.seeds) for j in study.jobs()] == [("FIT_EPOCHS=2", (0, 1)), ("FIT_EPOCHS=3", (0, 1))]
    assert status(study.path / "FIT_EPOCHS=3" / "seed1")["reused"]["phases"] == 3
    plain, _, _ = sweep(path, tmp_path / "plain", reuse=False)
    for seed in ("seed0", "seed1"):
        assert_same(study.path / "FIT_EPOCHS=3" / seed, plain.path / "FIT_EPOCHS=3" / seed)


@pytest.mark.parametrize("damage", ["flip", "truncate", "entry", "format"])
def test_a_damaged_result_is_computed_again(tmp_path, cache, stored, damage, caplog):
    path, first = stored
    keys = [i.key for i in identities(config.build([str(path)]))]
    folder = cache / "phases" / keys[1]
    if damage == "flip":
        data = bytearray((folder / "state.npz").read_bytes())
        data[len(data) // 2] ^= 1
        (folder / "state.npz").write_bytes(data)
    elif damage == "truncate":
        (folder / "result.json").write_bytes((folder / "result.json").read_bytes()[:-10])
    elif damage == "entry":
        (folder / "entry.json").write_text("{")
    else:
        (folder / "entry.json").write_text(
            json.dumps({**json.loads((folder / "entry.json").read_text()), "format": 99})
        )
    again, _, _ = sweep(path, tmp_path / "again")
    assert_same(again.path / "base" / "seed0", first)
    assert "cannot be reused and is computed again" in caplog.text
    assert default_store().result(keys[1]) is not None  # it is whole again


def keys(tmp_path, *bindings, files=()):
    return [i.key for i in identities(config.build([str(write(tmp_path, "")), *files], bindings))]


def equal(a, b):
    return [x == y for x, y in zip(a, b, strict=True)]


def test_a_key_changes_with_the_phases_inputs_and_with_nothing_else(tmp_path, monkeypatch):
    base = keys(tmp_path)
    assert len(set(base)) == 7  # improve, evaluate; collect, fit, prior, improve, evaluate
    assert equal(base, keys(tmp_path)) == [True] * 7
    assert equal(base, keys(tmp_path, "FIT_EPOCHS = 7")) == [True] * 3 + [False] * 4
    assert equal(base, keys(tmp_path, "decoder/MLP.width = 17")) == [True] * 3 + [False] * 4  # only a factory's binding
    assert equal(base, keys(tmp_path, "STAGE_KL = 0.5")) == [True] * 5 + [False] * 2
    assert equal(base, keys(tmp_path, "Experiment.checkpoint_interval = 9.0", "Experiment.trackers = []")) == [True] * 7
    for change in (
        "SEED = 1",
        "NUM_SEEDS = 2",
        "EPISODE_LENGTH = 21",
        "Experiment.precision = 'high'",
        "policy/MLP.width = 9",
    ):
        assert equal(base, keys(tmp_path, change)) == [False] * 7, change
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    from gorl.reuse import identity

    identity.platform_facts.cache_clear()
    assert equal(base, keys(tmp_path)) == [False] * 7
    identity.platform_facts.cache_clear()


def test_a_key_knows_the_rule_and_with_a_budget_what_is_set_aside_for_later(tmp_path):
    """Without a budget the next stage's least steps change nothing before it; with one they do."""
    rule = ["ImprovePolicy.end = @NoGain()", "stage1/NoGain.min_env_steps = 240"]
    base = keys(tmp_path, *rule)
    assert equal(base, keys(tmp_path, *rule, "stage0/NoGain.margin = 6.0")) == [False] * 7
    later = "stage1/NoGain.min_env_steps = 480"
    assert equal(base, keys(tmp_path, rule[0], later)) == [True] * 5 + [False] * 2
    limited = keys(tmp_path, *rule, "Experiment.budget = 2_000")
    assert equal(base, limited) == [False] * 7
    assert equal(limited, keys(tmp_path, rule[0], later, "Experiment.budget = 2_000")) == [False] * 7


def test_why_a_phase_is_not_reused(stored):
    path, _ = stored
    configuration = config.build([str(path)])
    assert explain_miss(identities(configuration)[3], []) == "no FitDecoder of this place is stored"
    stored = default_store().entries()
    changed = identities(config.build([str(path)], ["FIT_EPOCHS = 7"]))
    assert explain_miss(changed[3], stored) == "the nearest stored one differs in settings.epochs: 7, stored 2"
    assert "before[3].epochs: 7, stored 2" in explain_miss(changed[4], stored)
    assert explain_differences({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}, "c": 0}) == [
        "a.b[1]: 2, stored 3",
        "c: null, stored 0",
    ]


def test_estimates_come_from_stored_phases(stored):
    path, _ = stored
    stored = default_store().entries()
    estimator = Estimator(stored)
    by_phase = {(s.parts["stage"], s.parts["phase"]): s for s in stored}
    other_seed = identities(config.build([str(path)], ["SEED = 3"]))
    assert estimator.seconds(other_seed[0], 480) == by_phase[0, 0].seconds
    longer = identities(config.build([str(path)], ["WARMUP_STEPS = 48_000"]))
    rate = max(stored, key=lambda s: s.used if s.parts["settings"]["@"] == "ImprovePolicy" else -1)
    assert estimator.seconds(longer[0], 48_000) == pytest.approx(48_000 * rate.seconds / rate.env_steps)
    assert Estimator([]).seconds(other_seed[0], 480) is None


def state(value):
    return {"x": np.full((1, 1000), value, np.float32)}


def add(store, key, value=0.0):
    store.add(
        key, {"stage": 0}, {"entries": [[]], "units": 1, "env_steps": 2, "eval_steps": 3, "seconds": 4.0}, state(value)
    )


def test_the_store_is_bounded_and_forgets_the_least_recently_used(tmp_path):
    import os

    store = PhaseStore(tmp_path / "store", limit=14_000)  # three of about 4.6 kB
    for i, key in enumerate("abc"):
        add(store, key)
        os.utime(store.folder / key / "entry.json", (i, i))
    assert [e.key for e in store.entries()] == ["a", "b", "c"]
    template = {"x": np.zeros((1000,), np.float32)}
    assert store.state("a", template, 1)["x"].shape == (1, 1000)  # now the one that was used last
    add(store, "d")
    assert {e.key for e in store.entries()} == {"a", "c", "d"}
    assert [e.key for e in store.prune(0)] == ["c", "a", "d"] and store.entries() == []


def test_several_writers_leave_one_whole_result(tmp_path):
    import concurrent.futures

    store = PhaseStore(tmp_path / "store")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: add(store, "k", float(i % 2)), range(32)))
    assert [e.key for e in store.entries()] == ["k"]
    values = store.state("k", {"x": np.zeros((1000,), np.float32)}, 1)["x"]
    assert float(values.min()) == float(values.max())
    assert [p.name for p in store.folder.iterdir()] == ["k"]


def test_a_full_disk_costs_the_result_and_not_the_run(tmp_path, monkeypatch, caplog):
    store = PhaseStore(tmp_path / "store")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    add(store, "k")
    assert store.entries() == [] and "No space left on device" in caplog.text
    assert list(store.folder.iterdir()) == []


def test_one_process_at_a_time_computes_a_phase(tmp_path):
    store = PhaseStore(tmp_path / "store")
    with store.claim("k") as mine:
        assert mine.try_acquire()
        with store.claim("k") as other:
            assert not other.try_acquire()
    with store.claim("k") as later:
        assert later.try_acquire()
