"""Where the jobs of a sweep run. One file an executor; `--executor NAME` finds it here by its module's name."""

from gorl.studies.executors.in_process import InProcess as InProcess
from gorl.studies.executors.local_processes import LocalProcesses as LocalProcesses
from gorl.studies.executors.ray import Ray as Ray

NAMES = {"in_process": "InProcess", "local_processes": "LocalProcesses", "ray": "Ray"}
"""What may follow --executor, and the class that it names in gin."""
