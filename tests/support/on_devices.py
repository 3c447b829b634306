"""What test_devices.py has done in a process of eight devices: `python -m tests.support.on_devices FOLDER [sac]`."""

import contextlib
import json
import pathlib
import sys

import equinox as eqx
import gin
import jax
import numpy as np

from gorl import config
from gorl.cli.main import build_app
from gorl.environments.toy import Slider
from gorl.errors import ConfigError
from gorl.runtime import devices, programs, seeds, trees
from gorl.runtime.precision import matrix_products
from gorl.state import Lanes

FILES = ["gorl_fm.gin", "parts/debug.gin"]
STAGES = [
    "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]",
    "stage0/Stage.phases = [@ImprovePolicy()]",
    "stage1/Stage.phases = [@CollectRollouts(), @FitDecoder()]",
    "EPISODE_LENGTH = 12",
    "policy/MLP.depth = 1",
    "decoder/MLP.depth = 1",
    "decoder/MLP.width = 16",
]
SAC = [
    *STAGES,
    "ImprovePolicy.algorithm = @SAC()",
    "SAC.num_envs = 8",
    "SAC.min_replay = 40",
    "q/LayerNormMLP.depth = 1",
    "NUM_SEEDS = 2",
]


with gin.unlock_config():  # another module may have read a configuration when pytest imports this one

    @gin.register(module="test")
    class OnHost(Slider):
        """As if its physics were a function on the host."""

        @property
        def one_device(self):
            return True


def small(*more, lanes=16, task="Slider"):
    """Bindings of an experiment whose first stage is one iteration."""
    return [
        *STAGES,
        f"Task.environment = @{task}()",
        f"NUM_ENVS = {lanes}",
        f"OnPolicy.batch_size = {lanes}",
        "critic/MLP.depth = 1",
        *more,
    ]


def difference(a, b):
    """The largest of all numbers, relative to 1 or to their size."""
    pairs = zip(
        *([np.asarray(x) for x in jax.tree.leaves(eqx.filter(t, eqx.is_inexact_array)) if x.size] for t in (a, b)),
        strict=True,
    )
    return max(float(np.max(np.abs(x - y) / np.maximum(1.0, np.abs(x)))) for x, y in pairs)


def refusal(bindings):
    """What is said of an experiment, and what was traced until then."""
    programs.TRACES.clear()
    try:
        config.build(FILES, bindings).experiment.choose_devices()
    except ConfigError as err:
        return [str(err), dict(programs.TRACES)]


def used(bindings):
    return len(config.build(FILES, bindings).experiment.choose_devices())


def where(state):
    """Where the parts of an algorithm's state are."""
    obs, clock = state.lanes.env.obs, state.lanes.clock
    return {
        "devices": len(obs.sharding.device_set),
        "rows_on_each": [s.data.shape[1] for s in obs.addressable_shards],
        "clock": str(clock.sharding.spec),
        "learner_everywhere": all(
            x.is_fully_replicated and len(x.sharding.device_set) == 8 for x in jax.tree.leaves(state.learner)
        ),
    }


def watched():
    """Where each state with lanes is that is gathered from now on."""
    seen, gathered = [], devices.gather

    def gather(tree):
        has = any(isinstance(x, Lanes) for x in jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Lanes)))
        seen.extend([where(tree.training)] if has and devices.mesh() else [])
        return gathered(tree)

    devices.gather = gather
    return seen


def main(folder):
    found = {
        "indivisible": refusal(small(lanes=12)),
        "too_many": refusal(small("Experiment.devices = 9", lanes=144)),
        "on_host_asked": refusal(small("Experiment.devices = 2", task="OnHost")),
        "used": {
            "some": used(small("Experiment.devices = 4")),
            "all": used(small()),
            "on_host": used(small(task="OnHost")),
        },
        "where": watched(),
    }
    words = [w for b in small() for w in ("--set", b)]
    with contextlib.suppress(SystemExit):
        build_app()(
            ["train", *FILES, *words, "--run-dir", str(folder / "eight"), "--stages", "1", "--no-aim"],
            standalone_mode=False,
        )
    (folder / "found.json").write_text(json.dumps(found))


def iterated(bindings):
    """An algorithm's learner before and after its first iteration, and where its state is then."""
    experiment = config.build(FILES, bindings).experiment
    step, every = next(iter(experiment.planned_phases())), np.asarray(experiment.seeds, np.int32)
    with devices.on(experiment.choose_devices()), matrix_products(experiment.precision):
        first = experiment.start(step, every, seeds.vmap_seeds(experiment.initial_state, every))
        state, _ = step.declaration.iterate(
            experiment.context(step, every), devices.place(trees.unshare_buffers(first)), 0
        )
        return (
            first.training.learner,
            devices.gather(state).training.learner,
            where(state.training) if devices.mesh() else None,
        )


def sac(folder):
    bindings = [*SAC, "Task.environment = @Slider()"]
    before, alone, _ = iterated([*bindings, "Experiment.devices = 1"])
    _, ours, place = iterated([*bindings, "Experiment.devices = 8"])
    (folder / "sac.json").write_text(
        json.dumps({"difference": difference(ours, alone), "moved": difference(before, alone), "where": place})
    )


if __name__ == "__main__":
    (sac if sys.argv[2:] == ["sac"] else main)(pathlib.Path(sys.argv[1]))
