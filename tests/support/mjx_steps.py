"""Steps of DM Control tasks as MJX simulates them, for tests that have no time to compile MJX.

python -m tests.support.mjx_steps        # writes mjx_steps.json beside this file; minutes
"""

import json
import pathlib

import jax
import numpy as np

FILE = pathlib.Path(__file__).with_suffix(".json")
TASKS = ("BallInCup", "CheetahRun", "FingerTurnEasy", "FishSwim", "HopperStand", "SwimmerSwimmer6", "WalkerWalk")
STEPS, LANES = 12, 2


def record(name: str) -> dict:
    """The fields of the state before each step, the action, and what MJX's step showed, all [STEPS, LANES, ...]."""
    from gorl.environments.native import engine
    from gorl.environments.playground import PlaygroundEnvironment

    env = PlaygroundEnvironment(name, "jax", {}, None, None)
    reset, step = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))
    state, rows = reset(jax.random.split(jax.random.key(7), LANES)), []
    for action in jax.random.uniform(jax.random.key(8), (STEPS, LANES, env.action_size), minval=-1.0):
        before = {field: getattr(state.sim.data, field) for field in engine.ROW}
        state = step(state, action)
        rows.append({**before, "action": action, "next_obs": state.obs, "next_reward": state.reward})
    return {field: np.stack([np.asarray(row[field], np.float64) for row in rows]).tolist() for field in rows[0]}


def load(name: str) -> dict[str, np.ndarray]:
    return {field: np.asarray(value, np.float32) for field, value in json.loads(FILE.read_text())[name].items()}


if __name__ == "__main__":
    jax.config.update("jax_default_matmul_precision", "highest")
    found = {}
    for task in TASKS:
        found[task] = record(task)
        print(task, flush=True)
    short = json.loads(
        json.dumps(found), parse_float=lambda text: float(f"{float(text):.9g}")
    )  # all that a float32 holds
    FILE.write_text(json.dumps(short) + "\n")
