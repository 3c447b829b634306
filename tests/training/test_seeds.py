"""Several seeds at once: each is the run that it would be alone, in a folder of its own."""

import json

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl import config, runs
from gorl.errors import RunError
from gorl.phases import AbstractPhase, Unit
from gorl.runs.checkpoint import CheckpointStore
from gorl.runtime import seeds
from gorl.state import RunState
from gorl.training import trained
from gorl.training.trainer import Diverged
from tests.support.toy_runs import Crash, train_here

FILES = ["gorl_fm.gin", "parts/debug.gin"]
SMALL = [
    "Task.environment = @Slider()",
    "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]",
    "critic/MLP.depth = 1",
    "policy/MLP.depth = 1",
    "decoder/MLP.depth = 1",
    "decoder/MLP.width = 16",
    "EPISODE_LENGTH = 20",
]

EVERY_UNIT = "Experiment.checkpoint_interval = 0.0"


def train(folder, *bindings, common=SMALL, units=None):
    """Each seed's run, which ends by a Crash after so many units."""
    return train_here(config.build(FILES, [*common, *bindings]), folder, units=units)[0]


def go_on(folder):
    return train_here(None, folder)[0]


def lines(folder):
    """The record without its clock."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "wall_s"} for line in found]


def arrays(folder):
    return [np.asarray(x) for x in jax.tree.leaves(eqx.filter(trained.restore(folder)[1], eqx.is_array))]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together") / "run"
    train(folder, "NUM_SEEDS = 3", "SEED = 4")
    return folder


def test_seeds_trained_together_are_as_each_is_alone(together, tmp_path):
    """To rounding, until the first units of the second stage; the decoder was fitted by then."""
    train(tmp_path / "alone", "SEED = 5")
    alone, ours = lines(tmp_path / "alone"), lines(together / "seed5")
    assert [(a["stage"], a["kind"], a["env_steps"]) for a in alone] == [
        (b["stage"], b["kind"], b["env_steps"]) for b in ours
    ]
    for a, b in list(zip(alone, ours))[:12]:
        for name, value in a["metrics"].items():
            if name not in ("clip_fraction", "kl", "log_ratio_first", "log_ratio_max"):  # rounding itself
                assert float(b["metrics"][name]) == pytest.approx(float(value), rel=2e-3, abs=1e-5), (a["kind"], name)
    other = lines(together / "seed6")
    assert other[0]["metrics"]["return"] != ours[0]["metrics"]["return"]


def test_every_seed_has_its_own_folder_that_stands_alone(together, tmp_path):
    folder = runs.RunFolder.open(together)
    assert [m.path.name for m in folder.members] == ["seed4", "seed5", "seed6"]
    assert [m.facts()["seed"] for m in folder.members] == [4, 5, 6]
    alone = config.build([str(together / "seed6" / "config.gin")]).experiment
    assert alone.seeds == (6,)
    policy = trained.load(together / "seed6")
    assert policy.act(np.zeros(2), key=jax.random.key(0)).shape == (1,)
    with pytest.raises(RunError, match="holds 3 seeds: name one of them, such as .*seed4"):
        trained.load(together)


def test_the_best_policy_is_each_seeds_own(together):
    for name in ("seed4", "seed5", "seed6"):
        evaluations = [x["metrics"] for x in lines(together / name) if x["kind"] == "evaluate" and x["stage"] == 1]
        assert evaluations[-1]["return_best"] == max(m["return"] for m in evaluations)


@pytest.mark.parametrize("units", [2, 9])
def test_a_stopped_group_goes_on_bit_for_bit(together, tmp_path, units):
    """Within stage 0 and in stage 1."""
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        train(folder, "NUM_SEEDS = 3", "SEED = 4", EVERY_UNIT, units=units)
    assert len(lines(folder / "seed4")) <= units
    go_on(folder)
    for name in ("seed4", "seed5", "seed6"):
        assert lines(folder / name) == lines(together / name)
        for a, b in zip(arrays(folder / name), arrays(together / name), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_checkpoint_that_only_some_seeds_have_is_passed_over(together, tmp_path):
    """As when a run is killed while its seeds' checkpoints are being written one after another."""
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        train(folder, "NUM_SEEDS = 3", "SEED = 4", EVERY_UNIT, units=7)
    newest = max((folder / "seed6" / "checkpoints").iterdir(), key=lambda p: int(p.name))
    for path in sorted(newest.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    newest.rmdir()
    go_on(folder)
    assert lines(folder / "seed4") == lines(together / "seed4")


def test_a_checkpoint_replaces_those_that_were_passed_over(tmp_path):
    """A run that went back, since a newer one could not be read, saves under a lower number."""
    (tmp_path / "run").mkdir()
    store = CheckpointStore(tmp_path / "run")
    for number, value in ((4, 1.0), (9, 2.0), (7, 3.0)):
        store.save(number, {"x": jnp.full((2, 1), value)}, {}, row=0)
    assert store.newest() == [7, 4]
    template = {"x": jax.ShapeDtypeStruct((1,), jnp.float32)}
    assert [float(store.restore(n, template)["x"][0]) for n in (7, 4)] == [3.0, 1.0]
    store.close()


class Poisoned(AbstractPhase):
    """Counts to eight; the seeds in `bad` report from the third unit on that nothing sound could be learned."""

    bad: tuple[int, ...] = eqx.field(static=True)

    def units(self, task):
        return (Unit("count", self.count),) * 8

    def start(self, context, run):
        return (run, jnp.zeros(()), jnp.asarray(context.seed))

    def count(self, context, state, index):
        run, count, seed = state
        bad = jnp.isin(seed, jnp.asarray(self.bad)) & (index >= 2)
        return (run, count + 1.0, seed), {"count": count + 1.0, "diverged": bad.astype(jnp.float32)}

    def finish(self, context, state):
        return RunState(state[0].decoder, policy=state[1])


@pytest.fixture
def poisoned(own_registry):
    gin.register(module="test")(Poisoned)


BAD = [
    "Task.environment = @Slider()",
    "Experiment.stages = [@stage0/Stage()]",
    "stage0/Stage.phases = [@Poisoned()]",
    EVERY_UNIT,
]


def test_a_seed_that_diverges_is_frozen_and_the_others_go_on(poisoned, tmp_path):
    folder = tmp_path / "run"
    members = train(folder, "NUM_SEEDS = 3", "Poisoned.bad = (1,)", common=BAD)
    assert [m.frozen for m in members] == [False, True, False]
    counts = [[x["metrics"]["count"] for x in lines(folder / f"seed{k}")] for k in range(3)]
    assert counts == [list(range(1, 9)), [1, 2, 3, 4, 5], list(range(1, 9))]  # three units in a row: 3, 4, 5
    assert float(trained.restore(folder / "seed0")[1].policy) == 8.0
    assert float(trained.restore(folder / "seed1")[1].policy) in (
        5.0,
        6.0,
    )  # it is noticed while the next unit is under way


def test_a_frozen_seed_stays_frozen_after_a_restart(poisoned, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        train(folder, "NUM_SEEDS = 3", "Poisoned.bad = (1,)", common=BAD, units=7)
    before = (folder / "seed1" / "metrics.jsonl").read_bytes()
    members = go_on(folder)
    assert [m.frozen for m in members] == [False, True, False]
    assert (folder / "seed1" / "metrics.jsonl").read_bytes() == before
    assert [x["metrics"]["count"] for x in lines(folder / "seed2")] == list(range(1, 9))


def test_a_run_whose_seeds_have_all_diverged_ends(poisoned, tmp_path):
    with pytest.raises(Diverged):
        train(tmp_path / "a", "NUM_SEEDS = 2", "Poisoned.bad = (0, 1)", common=BAD)
    with pytest.raises(Diverged):
        train(tmp_path / "b", "Poisoned.bad = (0,)", "Experiment.divergence_limit = 1", common=BAD)
    assert len(lines(tmp_path / "b")) == 3


def test_helpers_on_trees():
    tree = {"x": jnp.arange(6.0).reshape(3, 2), "key": jax.random.split(jax.random.key(0), 3), "name": "n"}
    assert seeds.count(tree) == 3
    second = seeds.take_seed(tree, 1)
    np.testing.assert_array_equal(second["x"], [2.0, 3.0])
    again = seeds.stack([seeds.take_seed(tree, k) for k in range(3)])
    np.testing.assert_array_equal(again["x"], tree["x"])
    assert jnp.all(jax.random.key_data(again["key"]) == jax.random.key_data(tree["key"])) and again["name"] == "n"
    assert seeds.add_seed_axis(second)["x"].shape == (1, 2)
    assert seeds.mean([1.0, float("nan"), 3.0]) == 2.0 and np.isnan(seeds.mean([float("nan")]))
