"""Executors, which run the jobs of a sweep, one per file. `--executor NAME` takes the name of an executor's module."""

from gorl.studies.executors.in_process import InProcess as InProcess
from gorl.studies.executors.local_processes import LocalProcesses as LocalProcesses
from gorl.studies.executors.ray import Ray as Ray

NAMES = {"in_process": "InProcess", "local_processes": "LocalProcesses", "ray": "Ray"}
"""The values of --executor, and the class that each names in gin."""
