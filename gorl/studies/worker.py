"""The program of a process that runs one job of a study, and ends when the process that started it does.

python -m gorl.studies.worker STUDY JOB_FOLDER [--stages N] [--no-aim] [--no-reuse] [--plugin P] [--cores N[,N...]]
"""

import argparse
import ctypes
import os
import pathlib
import signal
import sys

from gorl.errors import GorlError
from gorl.runtime import quiet, signals, streams

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _end_with_parent() -> None:
    """Requests a SIGTERM, on which the state is saved, when the parent process ends. Works on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def main() -> None:
    """Runs the job that the command line names, and exits with its code."""
    _end_with_parent()
    streams.make_patient()
    signals.own_process()
    quiet.before_imports(debug=False)
    parser = argparse.ArgumentParser(prog="python -m gorl.studies.worker")
    parser.add_argument("study", type=pathlib.Path)
    parser.add_argument("job")
    parser.add_argument("--stages", type=int)
    parser.add_argument("--no-aim", action="store_true")
    parser.add_argument("--no-reuse", action="store_true")
    parser.add_argument("--plugin", action="append", default=[])
    parser.add_argument("--cores", type=_numbers)
    args = parser.parse_args()
    if args.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, args.cores)  # before JAX counts them
    from gorl.studies.folder import StudyFolder
    from gorl.studies.jobs import JobSettings, run_job

    try:
        study = StudyFolder.open(args.study)
        sys.exit(
            run_job(
                study,
                study.job(args.job),
                JobSettings(not args.no_aim, not args.no_reuse, args.stages, tuple(args.plugin)),
            )
        )
    except GorlError as err:
        print(streams.printable(f"gorl: {err}"), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
