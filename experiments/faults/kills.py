"""Kills and stops training at many moments, resumes it, and compares the end with undisturbed runs.

    python -m experiments.faults.kills --kills 200 --processes 2 --out experiments/results/kills.json

A run is killed or stopped, and resumed, until it finishes. Then its parameters, optimizer and normalizer state,
datasets, record and count of environment steps must equal those of the reference, bit for bit. A third of the moments
are random, a third are aimed by saboteur.py at one of POINTS (a checkpoint being written, a phase beginning, Aim being
written, a picture being drawn, ...), and a third are signals that stop a run. FAMILIES has every method, a run of three
seeds, one with pictures, and studies in two processes and on a Ray cluster, which are killed with all their workers.
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
SMALL = (
    "Task.environment = @Slider()",
    "policy/MLP.depth = 1",
    "critic/MLP.depth = 1",
    "Experiment.checkpoint_interval = 0.0",
)
STAGES = (
    *SMALL,
    "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]",
    "stage1/ImprovePolicy.env_steps = %STAGE_STEPS",
    "WARMUP_STEPS = 960",
    "STAGE_STEPS = 960",
    "COLLECT_STEPS = 800",
    "FIT_EPOCHS = 6",
)
TOY = (*STAGES, "decoder/MLP.width = 16")
ONE_STAGE = (*SMALL, "TOTAL_STEPS = 1920")
REAL = (
    "ENV = 'CartpoleBalance'",
    "policy/MLP.width = 32",
    "decoder/MLP.width = 32",
    "Experiment.checkpoint_interval = 0.0",
)
DEBUG = "parts/debug.gin"


@dataclasses.dataclass(frozen=True)
class Family:
    """What is trained. `executor`: that of a study of two variants (None: one run)."""

    files: tuple[str, ...]
    bindings: tuple[str, ...]
    executor: str | None = None

    def command(self, folder: pathlib.Path) -> list[str]:
        """Returns the command that begins it, or goes on with it."""
        if self.executor is None and folder.exists():
            return ["train", "--resume", str(folder)]
        words = [*self.files, *(word for binding in self.bindings for word in ("--set", binding))]
        if self.executor is None:
            return ["train", *words, "--run-dir", str(folder)]
        return ["sweep", *words, "--dir", str(folder), "--executor", self.executor, "--no-report"]


STUDY = (
    *TOY,
    "Study.variants = {'a': [], 'b': ['STAGE_KL = 0.5'], 'c': ['FIT_EPOCHS = 4']}",
    "Study.seeds = 2",
    "LocalProcesses.workers = 2",
)
FAMILIES = {
    "flow matching": Family(("gorl_fm.gin", DEBUG), TOY),
    "diffusion": Family(("gorl_diffusion.gin", DEBUG), TOY),
    "MeanFlow": Family(("gorl_mean_flow.gin", DEBUG), TOY),
    "Gaussian decoder": Family(("gorl_gaussian.gin", DEBUG), STAGES),
    "SAC on latents": Family(("gorl_sac.gin", DEBUG), TOY),
    "SAC on decoded actions": Family(("gorl_action_sac.gin", DEBUG), TOY),
    "REPPO on latents": Family(("gorl_reppo.gin", DEBUG), (*TOY[:1], *TOY[3:])),
    "PPO": Family(("ppo.gin", DEBUG), ONE_STAGE),
    "SAC": Family(("sac.gin", DEBUG), ONE_STAGE),
    "REPPO": Family(("reppo.gin", DEBUG), (*ONE_STAGE[:1], *ONE_STAGE[3:])),
    "FPO": Family(("fpo.gin", DEBUG), ONE_STAGE),
    "FPO++": Family(("fpo_plus_plus.gin", DEBUG), ONE_STAGE),
    "DPPO": Family(("dppo.gin", DEBUG), ONE_STAGE),
    "three seeds": Family(("gorl_fm.gin", DEBUG), (*TOY, "NUM_SEEDS = 3")),
    "with a picture": Family(("gorl_fm.gin", DEBUG), (*TOY, "Experiment.pictures = [@ActionDensity()]")),
    "a study, two processes": Family(("gorl_fm.gin", DEBUG), STUDY, "local_processes"),
    "a study, Ray": Family(("gorl_fm.gin", DEBUG), STUDY, "ray"),
    "CartpoleBalance": Family(("gorl_fm.gin", DEBUG), REAL),
}


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
POINTS["picture"] = Point("gorl.pictures.action_density:ActionDensity.draw", 2, 0.3)
ANY = "any moment"
STOPS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGHUP": signal.SIGHUP, "SIGUSR1": signal.SIGUSR1}
"""Signals that stop a run, which then saves its state and exits with 128 + the signal's number."""


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
            if code == -signal.SIGKILL or (moment in STOPS and code == _code_of(family, moment)):
                trial.kills.append((moment, last_unit(folder)))
                if FAMILIES[family].executor is None and not (folder / "run.json").exists():  # before the run existed
                    shutil.rmtree(folder, ignore_errors=True)
            else:
                trial.differences = (
                    [d for ours, theirs in _pairs(folder, reference) for d in same_bits.differences(ours, theirs)]
                    if code == 0
                    else [f"exit code {code}: {output[-2000:]}"]
                )
                if not trial.differences:
                    shutil.rmtree(folder)
                return trial

    def _attempt(self, family: str, folder: pathlib.Path, moment: str | None, rng: random.Random) -> tuple[int, str]:
        declared = FAMILIES[family]
        train = [*declared.command(folder), *([] if self._aim else ["--no-aim"])]
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
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=declared.executor is not None,  # its workers die with it
        )
        if moment == ANY or moment in STOPS:
            how = (STOPS.get(moment, signal.SIGKILL), declared.executor is not None)
            when = (rng.randint(0, 6 * (1 + 2 * (declared.executor is not None))), rng.uniform(0, 0.3))
            threading.Thread(target=_end_after_progress, args=(process, folder, *when, *how), daemon=True).start()
        output, _ = process.communicate(timeout=900)
        return process.returncode, output


def moments(count: int, seed: int, family: str) -> list[str]:
    """Returns random moments: a third of them any, a third aimed at a point of POINTS, a third stops by a signal.

    A study is killed with its workers, so no moment of it is aimed. Only some runs come to some of the points.
    """
    rng, declared = random.Random(seed), FAMILIES[family]
    if declared.executor is not None:
        return [rng.choice([ANY, ANY, "SIGTERM", "SIGINT"]) for _ in range(count)]
    points = [p for p in POINTS if p != "picture" or any("pictures" in b for b in declared.bindings)]
    kinds = [lambda: ANY, lambda: rng.choice(points), lambda: rng.choice(list(STOPS))]
    return [rng.choice(kinds)() for _ in range(count)]


def _code_of(family: str, moment: str) -> int:
    """Returns the exit code of a run, or of a study, that is stopped by a signal."""
    return 130 if FAMILIES[family].executor is not None else 128 + STOPS[moment]


def _end_after_progress(
    process: subprocess.Popen, folder: pathlib.Path, units: int, delay: float, number: int, with_group: bool
) -> None:
    """Sends a signal `delay` seconds after the process's first sign of life and `units` further lines in records."""
    began = time.time()
    alive = lambda: any(s.stat().st_mtime > began for s in folder.rglob("status.json"))  # noqa: E731
    while process.poll() is None and not alive():
        time.sleep(0.01)
    first = _lines(folder)
    while process.poll() is None and _lines(folder) < first + units:
        time.sleep(0.005)
    time.sleep(delay)
    if process.poll() is None:
        if with_group and number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def _lines(folder: pathlib.Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("metrics.jsonl"))


def _pairs(folder: pathlib.Path, reference: pathlib.Path) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Returns the folders of all seeds' runs below two folders, with those of the same place."""
    places = [path.parent.relative_to(reference) for path in sorted(reference.rglob("metrics.jsonl"))]
    return [(folder / place, reference / place) for place in places]


def last_unit(folder: pathlib.Path) -> str:
    """Returns the phase and the kind of the record's last complete line."""
    paths = sorted(folder.rglob("metrics.jsonl"), key=lambda path: path.stat().st_mtime)
    lines = [
        line for path in paths[-1:] for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")
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
    parser.add_argument("--only", nargs="+", choices=list(FAMILIES), metavar="FAMILY", help="these families alone")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=pathlib.Path, help="default: a temporary folder, which is kept if a run does not match"
    )
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    work = options.work or pathlib.Path(tempfile.mkdtemp(prefix="gorl-kills-"))
    turns = options.only or list(FAMILIES)
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
                        turns[number % len(turns)],
                        number,
                        moments(options.per_run, options.seed + number, turns[number % len(turns)]),
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
