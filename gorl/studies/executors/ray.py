"""Ray: jobs on one machine or many (https://docs.ray.io)."""

import importlib.util
import socket
from collections.abc import Sequence
from typing import Any

import gin

from gorl.errors import ConfigError, RunError
from gorl.runtime.signals import StopSignals
from gorl.studies.executors.base import AbstractExecutor, Watch
from gorl.studies.folder import Job, StudyFolder
from gorl.studies.jobs import JobSettings, run_job

_TICK = 0.5  # seconds
_ANSWER = 10.0  # seconds in which a cluster takes a connection
_PATIENCE = 60.0  # seconds in which cancelled jobs save


@gin.register(module="gorl")
class Ray(AbstractExecutor):
    """A Ray cluster. `address`: of one that runs ('auto', 'HOST:6379', 'ray://HOST:10001'; None: begin one on this machine).

    `cpus`, `gpus`: what a job reserves; how many run at once follows. `retries`: how often a job goes on from its last
    checkpoint after the loss of its worker or machine. All machines must see the study's folder under the same path, and have
    the same gorl.
    """

    def __init__(self, *, address: str | None, cpus: float, gpus: float, retries: int):
        self.address, self.cpus, self.gpus, self.retries = address, cpus, gpus, retries

    def check(self) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("the executor Ray needs the package ray: pip install 'gorl[ray]'.")

    def run(self, study: StudyFolder, jobs: Sequence[Job], settings: JobSettings, watch: Watch) -> None:
        import ray

        mine = not ray.is_initialized()
        if mine:
            _connect(ray, self.address)
        try:
            self._check_resources(ray)
            with StopSignals() as signals:
                self._run(ray, StudyFolder(study.path.absolute()), list(jobs), settings, watch, signals)
        finally:
            if mine:
                ray.shutdown()

    def _check_resources(self, ray: Any) -> None:
        """A job that no machine can hold would wait for ever."""
        nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
        if not any(n.get("CPU", 0) >= self.cpus and n.get("GPU", 0) >= self.gpus for n in nodes):
            has = ", ".join(f"{n.get('CPU', 0):g} and {n.get('GPU', 0):g}" for n in nodes)
            raise RunError(
                f"no machine of the Ray cluster has {self.cpus:g} CPUs and {self.gpus:g} GPUs (they have {has}). Lower Ray.cpus or Ray.gpus."
            )

    def _run(
        self, ray: Any, study: StudyFolder, jobs: list[Job], settings: JobSettings, watch: Watch, signals: StopSignals
    ) -> None:
        # max_calls: a worker runs one job, so that each begins in a process of its own, as with the other executors.
        remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.retries, max_calls=1)(_run_there)
        pending = {remote.remote(study, job, settings): job for job in jobs}
        begun: set[str] = set()
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1, timeout=_TICK)
            for job in pending.values():
                if job.folder not in begun and (study.path / job.folder / "run.json").exists():
                    begun.add(job.folder)
                    watch.began(job)
            for ref in done:
                watch.ended(pending.pop(ref), *_outcome(ray, ref))
            watch.tick([job for job in pending.values() if job.folder in begun])
            if signals.received:
                for ref in pending:
                    ray.cancel(ref)  # as SIGINT does, so that the job saves
                ray.wait(list(pending), num_returns=len(pending), timeout=_PATIENCE)
                raise KeyboardInterrupt


def _connect(ray: Any, address: str | None) -> None:
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=_ANSWER).close()
        ray.init(
            address=address,
            log_to_driver=False,
            include_dashboard=False if address is None else None,
            logging_level="error",
        )
    except (OSError, ValueError, RuntimeError) as err:
        raise RunError(
            f"Ray.address = {address!r}: no Ray cluster answers there ({str(err).splitlines()[0]}). Start one with `ray start --head`."
        ) from err


def _run_there(study: StudyFolder, job: Job, settings: JobSettings) -> tuple[int, str]:
    """In a worker: (code, reason)."""
    from gorl.errors import GorlError
    from gorl.runtime import quiet

    quiet.before_imports(debug=False)
    if not (study.path / "study.json").exists():
        return 2, f"the worker does not see {study.path}: all machines of a cluster must share the study's folder."
    try:
        return run_job(study, job, settings), ""
    except GorlError as err:
        return 2, str(err)


def _outcome(ray: Any, ref: Any) -> tuple[int, str]:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as err:
        return 1, str(err).strip().splitlines()[0]
