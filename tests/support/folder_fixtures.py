"""A run's folder that a test may damage."""

import pathlib
import shutil

import pytest

from gorl.training import trainer
from tests.support import bad_folders


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return bad_folders.make(tmp_path_factory.mktemp("sound") / "run")


@pytest.fixture
def folder(sound, tmp_path, monkeypatch):
    """A copy, in the working directory; what would train does nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GORL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trainer.Trainer, "run", lambda self: None)
    return pathlib.Path(shutil.copytree(sound, tmp_path / "run"))
