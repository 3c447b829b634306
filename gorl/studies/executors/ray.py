"""Runs jobs on a Ray cluster of one machine or many (https://docs.ray.io)."""

import importlib.util
import socket
import types
from collections.abc import Sequence
from typing import Any

import gin

from gorl.errors import ConfigError, RunError
from gorl.runtime.signals import StopSignals
from gorl.studies.executors.base import AbstractExecutor, Watch
from gorl.studies.folder import Job, StudyFolder
from gorl.studies.jobs import JobSettings, run_job

_TICK = 0.5  # seconds
_CONNECT_TIMEOUT = 10.0  # seconds to wait for a cluster to accept a connection
_SAVE_TIMEOUT = 60.0  # seconds to wait for cancelled jobs to save


@gin.register(module="gorl")
class Ray(AbstractExecutor):
    """Runs jobs on a Ray cluster.

    `address`: the address of a running cluster ('auto', 'HOST:6379', 'ray://HOST:10001'), or None to start one on this
    machine. `cpus`, `gpus`: the numbers that a job reserves, which determine how many jobs run at once. `retries`: how
    often a job resumes from its last checkpoint after its worker or machine is lost. All machines must see the study's
    folder under the same path, and have the same version of gorl.
    """

    def __init__(self, *, address: str | None, cpus: float, gpus: float, retries: int):
        self.address, self.cpus, self.gpus, self.retries = address, cpus, gpus, retries

    def check(self) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("the executor Ray needs the package ray: pip install 'gorl[ray]'.")

    def run(self, study: StudyFolder, jobs: Sequence[Job], settings: JobSettings, watch: Watch) -> None:
        import ray

        owns_connection = not ray.is_initialized()
        if owns_connection:
            _connect(ray, self.address)
        try:
            self._check_resources(ray)
            with StopSignals() as signals:
                self._run(ray, StudyFolder(study.path.absolute()), list(jobs), settings, watch, signals)
        finally:
            if owns_connection:
                ray.shutdown()

    def _check_resources(self, ray: types.ModuleType) -> None:
        """Raises RunError if no machine has a job's resources, because the job would then wait forever."""
        nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
        if not any(n.get("CPU", 0) >= self.cpus and n.get("GPU", 0) >= self.gpus for n in nodes):
            has = ", ".join(f"{n.get('CPU', 0):g} and {n.get('GPU', 0):g}" for n in nodes)
            raise RunError(
                f"no machine of the Ray cluster has {self.cpus:g} CPUs and {self.gpus:g} GPUs (they have {has})."
                " Lower Ray.cpus or Ray.gpus."
            )

    def _run(
        self,
        ray: types.ModuleType,
        study: StudyFolder,
        jobs: list[Job],
        settings: JobSettings,
        watch: Watch,
        signals: StopSignals,
    ) -> None:
        # max_calls: a worker runs one job, so that each job gets a fresh process.
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
                    ray.cancel(ref)  # acts like SIGINT, so that the job saves
                ray.wait(list(pending), num_returns=len(pending), timeout=_SAVE_TIMEOUT)
                raise KeyboardInterrupt


def _connect(ray: types.ModuleType, address: str | None) -> None:
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT).close()
        ray.init(
            address=address,
            log_to_driver=False,
            include_dashboard=False if address is None else None,
            logging_level="error",
        )
    except (OSError, ValueError, RuntimeError) as err:
        raise RunError(
            f"Ray.address = {address!r}: no Ray cluster answers there ({str(err).splitlines()[0]})."
            " Start one with `ray start --head`."
        ) from err


def _run_there(study: StudyFolder, job: Job, settings: JobSettings) -> tuple[int, str]:
    """Runs a job in a Ray worker, and returns (exit code, reason)."""
    from gorl.errors import GorlError
    from gorl.runtime import quiet

    quiet.before_imports(debug=False)
    if not (study.path / "study.json").exists():
        return 2, f"the worker does not see {study.path}: all machines of a cluster must share the study's folder."
    try:
        return run_job(study, job, settings), ""
    except GorlError as err:
        return 2, str(err)


def _outcome(ray: types.ModuleType, ref: Any) -> tuple[int, str]:
    """Returns the (exit code, reason) of a finished Ray task; `ref` is its ObjectRef."""
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as err:
        return 1, str(err).strip().splitlines()[0]
