"""The command line: in this process, where it is quick, and in one of its own, as a person has it."""

import os
import pathlib
import subprocess
import sys

from typer.testing import CliRunner

from gorl.cli.main import build_app
from gorl.errors import GorlError

ROOT = pathlib.Path(__file__).parents[2]


def _invoked(words):
    return CliRunner().invoke(build_app(), list(map(str, words)))


def gorl(*words, code=0, error=None) -> str:
    """All that a command in this process says, which ends with `code`, or with an `error`, whose message comes last.

    What it raises is raised, unless it is that error.
    """
    result = _invoked(words)
    if error is not None:
        assert isinstance(result.exception, error), result.output
        return result.output + str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def answer(*words) -> tuple[int, str]:
    """(exit code, all that it says), of a command in this process that may end well or with an error for the user."""
    result = _invoked(words)
    if isinstance(result.exception, GorlError):
        return 2, result.output + str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def python(*words, cwd, code=0, cache=None) -> subprocess.CompletedProcess:
    """Python in a process of its own, in any folder, with the gorl and the helpers of this repository."""
    env = {k: v for k, v in os.environ.items() if k != "GORL_PLUGINS"}
    env |= {"JAX_PLATFORMS": "cpu", "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    env |= {} if cache is None else {"GORL_CACHE": str(cache)}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def gorl_process(*words, cwd, code=0, cache=None) -> str:
    """All that a command in a process of its own says."""
    done = python("-m", "gorl.cli.main", *words, cwd=cwd, code=code, cache=cache)
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    return done.stdout + done.stderr
