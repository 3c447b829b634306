"""The interface of an executor: where the jobs of a sweep run."""

import abc
import dataclasses
from collections.abc import Callable, Sequence

from gorl.studies.folder import Job, StudyFolder
from gorl.studies.jobs import JobSettings


@dataclasses.dataclass(frozen=True)
class Watch:
    """Who is told, from the executor's main thread: that a job `began`, that it `ended` with a code and a reason (empty where
    the code says it), and at least twice a second while jobs run (`tick`, with those that run)."""

    began: Callable[[Job], None]
    ended: Callable[[Job, int, str], None]
    tick: Callable[[Sequence[Job]], None]


class AbstractExecutor(abc.ABC):
    """Runs jobs. A job that fails does not end the others; an executor that is ended leaves jobs that can go on."""

    @abc.abstractmethod
    def run(self, study: StudyFolder, jobs: Sequence[Job], settings: JobSettings, watch: Watch) -> None:
        """Runs every job to its end. Raises KeyboardInterrupt, after the jobs under way were told and have saved, if told to
        stop by SIGINT or SIGTERM."""

    def check(self) -> None:
        """Raises ConfigError for what cannot run here. Starts nothing."""
        return None
