"""Run folders, groups and studies as gorl leaves them, with given returns and without training."""

import json

from gorl.runs.provenance import FORMAT
from gorl.runs.record import Record, RecordEntry


def make_run(
    folder,
    *,
    task="CartpoleBalance",
    seed=0,
    study="ppo",
    status="finished",
    evaluations=(),
    final_best=None,
    final_last=None,
    **facts,
):
    """`evaluations`: (env steps, wall seconds, return) each."""
    folder.mkdir(parents=True)
    environment = {"library": "toy", "name": task}
    known = {
        "format": FORMAT,
        "gorl": "0.1.0",
        "study": study,
        "name": folder.name,
        "seed": seed,
        "environment": environment,
        **facts,
    }
    (folder / "run.json").write_text(json.dumps(known))
    (folder / "status.json").write_text(json.dumps({"status": status}))
    record = Record(folder / "metrics.jsonl")
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
