"""Run folders, groups and studies as gorl leaves them, written by hand and without training."""

import json
import pathlib

from gorl import runs
from gorl.runs.record import Record, RecordEntry
from gorl.tracking.base import RunInfo

CONFIG = (
    "SEED = 3\nKL = 0.1\n\nClip:\n  epsilon = 0.2\n\nstage0/LatentKL:\n  coefficient = %KL\n\n"
    "Task:\n  environment = @Slider()\n  episode_length = 50\n"
)
FACTS = {"gorl": "0", "format": runs.FORMAT, "environment": {"name": "Slider", "impl": "jax"}}


def make_run(
    folder,
    *,
    task="CartpoleBalance",
    seed=0,
    study="ppo",
    status="finished",
    entries=(),
    evaluations=(),
    final_best=None,
    final_last=None,
    config=None,
    picture=None,
    **facts,
):
    """A run's folder with a record.

    `evaluations`: (env steps, wall seconds, return) each; `status`: its word, or all of status.json;
    `picture`: a PNG's bytes.
    """
    folder.mkdir(parents=True)
    environment = {"library": "toy", "name": task}
    known = {
        "format": runs.FORMAT,
        "gorl": "0.1.0",
        "study": study,
        "name": folder.name,
        "seed": seed,
        "environment": environment,
        **facts,
    }
    (folder / "run.json").write_text(json.dumps(known))
    (folder / "status.json").write_text(json.dumps({"status": status} if isinstance(status, str) else status))
    if config is not None:
        (folder / "operative_config.gin").write_text(config)
    if picture is not None:
        (folder / "pictures").mkdir()
        (folder / "pictures" / "stage1-ActionDensity.png").write_bytes(picture)
    record = Record(folder / "metrics.jsonl")
    for line in entries:
        record.log(line)
    for unit, (env_steps, wall_s, value) in enumerate(evaluations):
        record.log(
            RecordEntry(
                2 * unit, 0, "ImprovePolicy", "evaluate", "eval", "env_steps", env_steps, wall_s, {"return": value}
            )
        )
        record.log(
            RecordEntry(
                2 * unit + 1,
                0,
                "ImprovePolicy",
                "iterate",
                "train",
                "env_steps",
                env_steps + 7,
                wall_s + 0.5,
                {"return": float("nan")},
            )
        )
    for subset, value in (("final_best", final_best), ("final_last", final_last)):
        if value is not None:
            steps, seconds, _ = evaluations[-1] if evaluations else (0, 0.0, 0.0)
            record.log(
                RecordEntry(
                    1000, 0, "Evaluate", f"evaluate_{subset}", subset, "env_steps", steps, seconds, {"return": value}
                )
            )
    record.close()
    return folder


def make_study(folder, variants, seeds, *, name="study"):
    """study.json alone; `variants`: names, which are also their folders."""
    folder.mkdir(parents=True)
    about = {"format": 1, "name": name, "variants": [{"name": v, "folder": v} for v in variants], "seeds": list(seeds)}
    (folder / "study.json").write_text(json.dumps(about))
    return folder


def make_grid(folder, scores, *, name="study", evaluations=lambda value: ((0, 1.0, value / 2), (1000, 5.0, value))):
    """A study of finished runs. `scores`: {method: {task: returns by seed}}; its axes are the method and ENV."""
    tasks = list(next(iter(scores.values())))
    seeds = range(max(len(values) for by_task in scores.values() for values in by_task.values()))
    make_study(folder, [f"{m}-{t}" for m in scores for t in tasks], seeds, name=name)
    for method, by_task in scores.items():
        for task, values in by_task.items():
            for seed, value in enumerate(values):
                more = {"variant": f"{method}-{task}", "axes": {"method": method, "ENV": repr(task)}}
                make_run(
                    folder / f"{method}-{task}" / f"seed{seed}",
                    task=task,
                    seed=seed,
                    evaluations=evaluations(value),
                    final_best=value,
                    **more,
                )
    return folder


def stage(
    number: int, *, selected: float, best: float, last: float, stochastic: tuple[float, float] | None = None, **swap
) -> list[RecordEntry]:
    """The lines of a stage's evaluations, each after 100 steps more than the one before.

    `selected`: the highest evaluation in training; `best` and `last`: returns of the Evaluate phase, by its rule and
    `stochastic`. `swap`: a swap's latent_kl (one for each round), validation (one for each epoch), mode and samples.
    """
    lines = [("CollectRollouts", "train", {"latent_kl": value}) for value in swap.get("latent_kl", ())]
    lines += [("FitDecoder", "fit", {"loss/decoder_validation": value}) for value in swap.get("validation", ())]
    lines += [
        ("EvaluatePrior", f"swap_{name}", returns(swap[key]))
        for name, key in (("mode", "mode"), ("stochastic", "samples"))
        if key in swap
    ]
    lines += [("ImprovePolicy", "eval", returns(selected) | {"return_best": selected})]
    lines += [("Evaluate", "final_best", returns(best)), ("Evaluate", "final_last", returns(last))]
    if stochastic is not None:
        names = ("final_best_stochastic", "final_last_stochastic")
        lines += [("Evaluate", name, returns(value)) for name, value in zip(names, stochastic, strict=True)]
    first = 100 * number
    return [
        RecordEntry(first + i, number, phase, "unit", subset, "env_steps", 100 * (number + 1), 1.0 + first + i, metrics)
        for i, (phase, subset, metrics) in enumerate(lines)
    ]


def returns(value: float) -> dict[str, float]:
    """The metrics of an evaluation whose episodes are within 1 of their mean."""
    return {"return": value, "return_std": 0.5, "return_min": value - 1.0, "return_max": value + 1.0}


TWO_STAGES = [
    *stage(0, selected=90.0, best=50.0, last=40.0, stochastic=(45.0, 35.0)),
    *stage(
        1, selected=80.0, best=70.0, last=60.0, stochastic=(65.0, 55.0),
        latent_kl=(0.25, 0.75), validation=(3.0, 2.0), mode=48.0, samples=44.0,
    ),
]  # fmt: skip
"""A record of two stages. Training's evaluations choose stage 0, although stage 1's best policy returns more."""


def entry(unit: int, value: float, subset: str = "eval") -> RecordEntry:
    return RecordEntry(
        unit,
        1,
        "ImprovePolicy",
        "evaluate",
        subset,
        "env_steps",
        100 * unit,
        0.5 * unit,
        {"return": value, "loss/value": 1.0},
    )


def info(folder: pathlib.Path, **more) -> RunInfo:
    tree = {"macros": {"SEED": 3}, "gin": {"Clip": {"epsilon": 0.2}, "Task": {"episode_length": 50}}}
    known = dict(name="run-1", study="study", variant="slow", axes={"KL": "0.1", "decoder": "spline"}, seed=3)
    return RunInfo(
        **{
            "folder": str(folder),
            **known,
            "parameters": tree,
            "config": CONFIG,
            "facts": FACTS,
            "resumed": False,
            **more,
        }
    )


def write(folder: pathlib.Path, values, *, seed: int = 3, **more) -> pathlib.Path:
    """The run that `info` tells of, whose evaluations gave `values`."""
    known = {**FACTS, "study": "study", "variant": "slow", "axes": {"KL": "0.1"}, "seed": seed, "config": CONFIG}
    return make_run(folder, **{"entries": [entry(i, value) for i, value in enumerate(values, 1)], **known, **more})


def events(folder):
    """[(step, value)] of an event file: records of length (8 bytes), checksum (4), data, checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            found += [(event.step, value) for value in event.summary.value]
            at += size + 16
    return found
