"""The interface of an executor, which runs the jobs of a sweep."""

import abc
import dataclasses
from collections.abc import Callable, Sequence

from gorl.studies.folder import Job, StudyFolder
from gorl.studies.jobs import JobSettings


@dataclasses.dataclass(frozen=True)
class Watch:
    """Callbacks on a sweep's progress. The executor calls them from its main thread.

    `began(job)` and `ended(job, code, reason)` are called once per job; `reason` is empty where the exit code explains
    itself. `tick(running_jobs)` is called at least twice a second while jobs run.
    """

    began: Callable[[Job], None]
    ended: Callable[[Job, int, str], None]
    tick: Callable[[Sequence[Job]], None]


class AbstractExecutor(abc.ABC):
    """Runs the jobs of a sweep.

    A job that fails does not end the others. An executor that is interrupted leaves jobs that can be resumed.
    """

    @abc.abstractmethod
    def run(self, study: StudyFolder, jobs: Sequence[Job], settings: JobSettings, watch: Watch) -> None:
        """Runs every job to its end.

        On SIGINT or SIGTERM it stops the running jobs, waits until they have saved, and raises KeyboardInterrupt.
        """

    def check(self) -> None:
        """Raises ConfigError if this executor cannot run on this machine. Starts nothing."""
        return None
