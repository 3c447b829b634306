import pytest


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """A compilation cache that the tests of this folder share."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def cache(compiled, tmp_path, monkeypatch):
    """A cache folder of the test's own, in which programs are found that other tests have compiled."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "xla").symlink_to(compiled)
    monkeypatch.setenv("GORL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GORL_AIM_REPO", str(tmp_path))
    return tmp_path / "cache"
