import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, so that it finds no stored phases of another."""
    monkeypatch.setenv("GORL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GORL_AIM_REPO", str(tmp_path))
    return tmp_path / "cache"
