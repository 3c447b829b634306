"""Kills training with SIGKILL at many moments, resumes it, and compares the end with undisturbed runs.

    python -m experiments.faults.kills --kills 200 --processes 2 --out experiments/results/kills.json

A run is killed and resumed until it finishes. Then its parameters, optimizer and normalizer state, datasets, record
and count of environment steps must equal those of the reference, bit for bit. Half of the moments are random. The
others are aimed by saboteur.py at one of POINTS (a checkpoint being written, a phase beginning, Aim being written,
...).
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

from experiments.benchmarks.provenance import provenance
from experiments.faults import same_bits

HERE = pathlib.Path(__file__).parent
TOY = (
    "Task.environment = @Slider()",
    "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]",
    "stage1/ImprovePolicy.env_steps = %STAGE_STEPS",
    "WARMUP_STEPS = 960",
    "STAGE_STEPS = 960",
    "COLLECT_STEPS = 800",
    "FIT_EPOCHS = 6",
    "decoder/MLP.width = 16",
    "Experiment.checkpoint_interval = 0.0",
)
REAL = (
    "ENV = 'CartpoleBalance'",
    "policy/MLP.width = 32",
    "decoder/MLP.width = 32",
    "Experiment.checkpoint_interval = 0.0",
)
FAMILIES = {
    "flow matching": (["gorl_fm.gin", "parts/debug.gin"], TOY),
    "diffusion": (["gorl_diffusion.gin", "parts/debug.gin"], TOY),
    "SAC on latents": (["gorl_sac.gin", "parts/debug.gin"], TOY),
    "CartpoleBalance": (["gorl_fm.gin", "parts/debug.gin"], REAL),
}
TURNS = (
    "flow matching",
    "diffusion",
    "flow matching",
    "diffusion",
    "SAC on latents",
    "flow matching",
    "diffusion",
    "CartpoleBalance",
)


@dataclasses.dataclass(frozen=True)
class Point:
    """A place at which a process is killed: up to `within` seconds after one of the first `calls` calls of `target`."""

    target: str
    calls: int
    within: float


POINTS = {
    "checkpoint write": Point("gorl.runs.checkpoint:CheckpointStore.save", 4, 0.2),
    "checkpoint commit": Point("os:rename", 8, 0.002),
    "old checkpoints' removal": Point("gorl.runs.checkpoint:CheckpointStore._prune", 4, 0.01),
    "dataset write": Point("gorl.runs.checkpoint:CheckpointStore._commit", 2, 0.005),
    "line of the record": Point("gorl.runs.record:Record.log", 5, 0.0005),
    "status write": Point("gorl.runs.folder:RunFolder.set_status", 1, 0.002),
    "phase begins": Point("gorl.experiment:Experiment.start", 2, 0.05),
    "phase ends": Point("gorl.experiment:Experiment.finish", 2, 0.05),
    "best-so-far update": Point("gorl.phases.improve_policy:keep_best", 3, 0.005),
    "Aim write": Point("gorl.tracking.aim:AimWriter.entry", 6, 0.01),
}
ANY = "any moment"


@dataclasses.dataclass
class Trial:
    """One run and its kills, each as (moment, last unit in the record)."""

    family: str
    kills: list[tuple[str, str]]
    differences: list[str]
    attempts: int = 0


class Harness:
    """Starts, kills and resumes runs in `work`. Each family's reference run is made once."""

    def __init__(self, work: pathlib.Path, seed: int, *, aim: bool = True):
        self._work, self._seed, self._aim = work, seed, aim
        self._locks: dict[str, threading.Lock] = collections.defaultdict(threading.Lock)

    def reference(self, family: str) -> pathlib.Path:
        folder = self._work / "references" / family.replace(" ", "_")
        with self._locks[family]:
            if not folder.exists():
                code, output = self._attempt(family, folder, None, random.Random(0))
                if code:
                    raise SystemExit(f"the reference run of {family} failed:\n{output}")
        return folder

    def trial(self, family: str, number: int, moments: Sequence[str]) -> Trial:
        """Kills a run at one moment after the other, lets it finish, and compares it with the reference."""
        reference, folder = self.reference(family), self._work / f"run{number}"
        rng, trial = random.Random(self._seed * 1000 + number), Trial(family, [], [])
        while True:
            moment = moments[len(trial.kills)] if len(trial.kills) < len(moments) else None
            code, output = self._attempt(family, folder, moment, rng)
            trial.attempts += 1
            if code == -signal.SIGKILL:
                trial.kills.append((moment, last_unit(folder)))
                if not (folder / "run.json").exists():  # killed before the run existed
                    shutil.rmtree(folder, ignore_errors=True)
            else:
                trial.differences = (
                    same_bits.differences(folder, reference) if code == 0 else [f"exit code {code}: {output[-2000:]}"]
                )
                if not trial.differences:
                    shutil.rmtree(folder)
                return trial

    def _attempt(self, family: str, folder: pathlib.Path, moment: str | None, rng: random.Random) -> tuple[int, str]:
        files, bindings = FAMILIES[family]
        begin = [*files, *(x for b in bindings for x in ("--set", b)), "--run-dir", str(folder)]
        train = [
            "train",
            *(["--resume", str(folder)] if folder.exists() else begin),
            *([] if self._aim else ["--no-aim"]),
        ]
        point = POINTS.get(moment)
        fault = (
            [
                str(HERE / "saboteur.py"),
                point.target,
                str(rng.randint(1, point.calls)),
                str(rng.uniform(0, point.within)),
            ]
            if point
            else None
        )
        repo = self._work / "aim" / folder.name  # separate: a killed writer's lock would block others
        repo.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "GORL_CACHE": str(self._work / "cache"),
            "JAX_COMPILATION_CACHE_DIR": "",
            "GORL_AIM_REPO": str(repo),
        }
        command = [sys.executable, *(fault or ["-m", "gorl.cli.main"]), *train]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if moment == ANY:
            threading.Thread(
                target=_kill_after_progress, args=(process, folder, rng.randint(0, 6), rng.uniform(0, 0.3)), daemon=True
            ).start()
        output, _ = process.communicate(timeout=600)
        return process.returncode, output


def moments(count: int, seed: int) -> list[str]:
    """Returns random moments, half of which are aimed at a point of POINTS."""
    rng = random.Random(seed)
    return [ANY if rng.random() < 0.5 else rng.choice(list(POINTS)) for _ in range(count)]


def _kill_after_progress(process: subprocess.Popen, folder: pathlib.Path, units: int, delay: float) -> None:
    """Kills the process `delay` seconds after its first sign of life and `units` further lines in the record."""
    path, status = folder / "metrics.jsonl", folder / "status.json"
    began = time.time()
    while process.poll() is None and not (status.exists() and status.stat().st_mtime > began):
        time.sleep(0.005)
    first = _lines(path)
    while process.poll() is None and _lines(path) < first + units:
        time.sleep(0.002)
    time.sleep(delay)
    if process.poll() is None:
        process.kill()


def _lines(path: pathlib.Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def last_unit(folder: pathlib.Path) -> str:
    """Returns the phase and the kind of the record's last complete line."""
    path = folder / "metrics.jsonl"
    lines = [
        line for line in (path.read_bytes().splitlines(keepends=True) if path.exists() else []) if line.endswith(b"\n")
    ]
    return "{phase}/{kind}".format(**json.loads(lines[-1])) if lines else "start"


def summary(trials: list[Trial]) -> dict:
    kills = [kill for trial in trials for kill in trial.kills]
    count = lambda items: dict(sorted(collections.Counter(items).items()))  # noqa: E731
    return {
        "kills": len(kills),
        "runs": count(t.family for t in trials),
        "mismatches": sum(bool(t.differences) for t in trials),
        "differences": [
            {"family": t.family, "kills": t.kills, "differences": t.differences} for t in trials if t.differences
        ],
        "kills_by_family": count(t.family for t in trials for _ in t.kills),
        "kills_by_moment": count(moment for moment, _ in kills),
        "kills_by_last_unit_of_the_record": count(unit for _, unit in kills),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--per-run", type=int, default=10, help="the largest number of kills of one run")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=pathlib.Path, help="default: a temporary folder, which is kept if a run does not match"
    )
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    work = options.work or pathlib.Path(tempfile.mkdtemp(prefix="gorl-kills-"))
    harness, trials, began = Harness(work, options.seed), [], time.monotonic()

    def write() -> None:
        if options.out:
            result = {**summary(trials), "seconds": round(time.monotonic() - began, 1), "provenance": provenance()}
            options.out.write_text(json.dumps(result, indent=2) + "\n")

    with concurrent.futures.ThreadPoolExecutor(options.processes) as pool:
        done, number, running = 0, 0, set()
        while done < options.kills or running:
            while done < options.kills and len(running) < options.processes:
                running.add(
                    pool.submit(
                        harness.trial,
                        TURNS[number % len(TURNS)],
                        number,
                        moments(options.per_run, options.seed + number),
                    )
                )
                number += 1
            ended, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for trial in (f.result() for f in ended):
                trials.append(trial)
                done += len(trial.kills)
                print(
                    f"{done}/{options.kills} kills: {trial.family}, killed {len(trial.kills)} times, "
                    f"{trial.differences or 'the same bits'}",
                    flush=True,
                )
                write()
    if not any(t.differences for t in trials) and options.work is None:
        shutil.rmtree(work)
    sys.exit(any(t.differences for t in trials))


if __name__ == "__main__":
    main()
