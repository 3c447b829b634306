"""Runs one job after another in the process of the sweep."""

from collections.abc import Sequence

import gin

from gorl.errors import GorlError
from gorl.runtime import compilation
from gorl.studies.executors.base import AbstractExecutor, Watch
from gorl.studies.folder import Job, StudyFolder
from gorl.studies.jobs import JobSettings, run_job


@gin.register(module="gorl")
class InProcess(AbstractExecutor):
    """Runs one job after another in this process, so that programs which runs share are compiled once."""

    def __init__(self):
        """Takes no settings. Without this method gin would accept any."""

    def run(self, study: StudyFolder, jobs: Sequence[Job], settings: JobSettings, watch: Watch) -> None:
        for job in jobs:
            watch.began(job)
            reason = ""
            try:
                code = run_job(study, job, settings, progress=lambda job=job, **_: watch.tick([job]))
            except GorlError as err:
                code, reason = 2, str(err)
            except Exception as err:  # one broken job, say of a plugin, must not end the others
                code, reason = 1, f"{type(err).__name__}: {err}"
            compilation.release_programs()
            watch.ended(job, code, reason)
            if code > 128:  # a signal: the state is saved
                raise KeyboardInterrupt
