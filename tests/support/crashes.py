"""How xdist's workers died, for `make test` to run again the tests that they took down, and no others.

XLA ends a process now and then. Such a test has not failed: where every failure of a session is a dead worker, the
session ends with 75 (as EX_TEMPFAIL of sysexits.h), and .pytest_cache/crashed.txt names the tests, one a line:
`pytest @.pytest_cache/crashed.txt` runs them.
"""

import pytest

EXIT_CODE = 75
_CRASHED = pytest.StashKey[list[str]]()


@pytest.hookimpl(optionalhook=True)  # xdist's
def pytest_handlecrashitem(crashitem, sched):
    sched.config.stash.setdefault(_CRASHED, []).append(crashitem)


def pytest_sessionfinish(session, exitstatus):
    crashed = session.config.stash.get(_CRASHED, [])  # a worker knows of none
    if crashed and exitstatus == pytest.ExitCode.TESTS_FAILED and session.testsfailed == len(crashed):
        path = session.config.rootpath / ".pytest_cache" / "crashed.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in crashed))
        session.exitstatus = EXIT_CODE
