"""Runs several jobs at once, each in its own process on this machine."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import gin

from gorl.errors import ConfigError
from gorl.runs.files import open_plain, require_plain
from gorl.runtime.signals import StopSignals, name
from gorl.studies.executors.base import AbstractExecutor, Watch
from gorl.studies.folder import Job, StudyFolder
from gorl.studies.jobs import JobSettings

_TICK = 0.25  # seconds


@gin.register(module="gorl")
class LocalProcesses(AbstractExecutor):
    """Runs each job in its own process on this machine.

    `workers`: the number of processes at once (0: as many as there are devices or groups of cores). `cores`: the number
    of cores per worker, not shared if there are enough (0: every worker uses all of them); the bits of a result may
    depend on it. `devices`: the numbers of the GPUs to distribute, one per worker ([]: every worker sees the GPUs that
    this process sees).
    """

    def __init__(self, *, workers: int, cores: int, devices: list[int]):
        self.cores, self.devices = cores, list(devices)
        usable = (
            sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
        )
        if cores < 0 or workers < 0 or cores > len(usable):
            raise ConfigError(
                f"LocalProcesses: workers = {workers}, cores = {cores}:"
                f" they are >= 0, and there are {len(usable)} cores."
            )
        groups = [usable[i : i + cores] for i in range(0, len(usable) - cores + 1, cores)] if cores else [usable]
        self.workers = workers or (len(self.devices) or len(groups))
        self._cores = [groups[i % len(groups)] for i in range(self.workers)]

    def run(self, study: StudyFolder, jobs: Sequence[Job], settings: JobSettings, watch: Watch) -> None:
        waiting, running, signal_sent = list(jobs), {}, False
        require_plain(study.path / "logs")
        (study.path / "logs").mkdir(exist_ok=True)
        with StopSignals(say=_say, leave=lambda number: None) as signals:
            while running or (waiting and not signals.received):
                for slot in sorted(set(range(self.workers)) - set(running)):
                    if waiting and not signals.received:
                        running[slot] = (waiting[0], self._start(study, waiting.pop(0), settings, slot))
                        watch.began(running[slot][0])
                if signals.received and not signal_sent:
                    signal_sent = True
                    for _, process in running.values():
                        process.send_signal(signal.SIGTERM)  # they save and end
                for slot, (job, process) in list(running.items()):
                    if process.poll() is not None:
                        del running[slot]
                        reason = _last_line(_log_path(study, job)) if process.returncode else ""
                        watch.ended(job, process.returncode, reason)
                watch.tick([job for job, _ in running.values()])
                time.sleep(_TICK)
        if signals.received:
            raise KeyboardInterrupt

    def _start(self, study: StudyFolder, job: Job, settings: JobSettings, slot: int) -> subprocess.Popen:
        words = [str(study.path), job.folder, *settings.words, "--cores", _listed(self._cores[slot])]
        env = dict(os.environ)
        if self.devices:
            env["CUDA_VISIBLE_DEVICES"] = str(self.devices[slot % len(self.devices)])
        with open_plain(_log_path(study, job), "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "gorl.studies.worker", *words],
                env=env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )


def _say(number: int) -> None:
    """Says what a signal does."""
    print(f"gorl: {name(number)}: the running jobs save and end. Ctrl-C again does not wait for them.", file=sys.stderr)


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _log_path(study: StudyFolder, job: Job) -> pathlib.Path:
    return study.path / "logs" / f"{job.folder.replace('/', '-')}.log"


def _last_line(path: pathlib.Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1]} ({path})" if lines else str(path)
