"""Runs the gorl command with one fault in it: `python saboteur.py MODULE:FUNCTION CALL DELAY train ...`

The process kills itself (SIGKILL) DELAY seconds after it calls FUNCTION for the CALL-th time.
"""

import functools
import importlib
import itertools
import os
import signal
import sys
import threading


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(target: str, call: int, delay: float) -> None:
    module, _, name = target.partition(":")
    *path, last = name.split(".")
    owner = functools.reduce(getattr, path, importlib.import_module(module))
    original, calls = getattr(owner, last), itertools.count(1)

    @functools.wraps(original)
    def armed(*arguments, **named):
        if next(calls) == call:
            threading.Timer(delay, die).start() if delay else die()
        return original(*arguments, **named)

    setattr(owner, last, armed)


if __name__ == "__main__":
    target, call, delay, *rest = sys.argv[1:]
    sys.argv = ["gorl", *rest]
    arm(target, int(call), float(delay))
    from gorl.cli.main import main

    main()
