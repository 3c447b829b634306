"""How the suite itself runs: what takes longest first, and again what a dead worker took down."""

import pathlib

import pytest

from tests import conftest
from tests.support import commands, crashes

TESTS = pathlib.Path(__file__).parent

DIES = """
import os, pathlib, pytest

@pytest.mark.parametrize("name", ["a b", "c"])
def test_dies_once(name):
    path = pathlib.Path(f"died {name}")
    if not path.exists():
        path.touch()
        os._exit(1)

def test_passes():
    pass
"""
FAILS = """
def test_fails():
    assert False
"""


@pytest.fixture
def folder(tmp_path):
    """A session's own, in which a test file ends its process, and passes the next time."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_dies.py").write_text(DIES)
    return tmp_path


def run(folder, *words, code):
    return commands.python("-m", "pytest", "-p", "tests.support.crashes", *words, cwd=folder, code=code).stdout


def test_tests_of_dead_workers_alone_are_named_and_run_again(folder):
    said = run(folder, "-n", "1", "--dist", "loadfile", code=crashes.EXIT_CODE)
    assert "2 failed" in said
    names = (folder / ".pytest_cache" / "crashed.txt").read_text().splitlines()
    assert names == ["test_dies.py::test_dies_once[a b]", "test_dies.py::test_dies_once[c]"]
    assert "2 passed" in run(folder, "@.pytest_cache/crashed.txt", code=0)


def test_another_failure_is_a_failure(folder):
    (folder / "test_fails.py").write_text(FAILS)
    run(folder, "-n", "1", code=pytest.ExitCode.TESTS_FAILED)
    assert not (folder / ".pytest_cache" / "crashed.txt").exists()


def test_the_longest_files_come_first():
    class Item:
        def __init__(self, name):
            self.path = TESTS / f"{name}.py"

    first, *_, last = conftest.LONGEST
    items = [Item(name) for name in ("objectives/test_gae", last, "test_cli", first)]
    expected = [items[3], items[1], items[0], items[2]]
    conftest.pytest_collection_modifyitems(items)
    assert items == expected


def test_the_longest_files_exist():
    assert [name for name in conftest.LONGEST if not (TESTS / f"{name}.py").exists()] == []
