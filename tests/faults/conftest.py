import jaxtyping
import pytest

from tests.support import toy_runs


@pytest.fixture(autouse=True)
def as_the_user_sees_it():
    """Without the run-time type checks of the tests, which would answer some mistakes first, in their own words."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("sound") / "run"
    toy_runs.begin(folder)
    assert toy_runs.go_on(folder).status == "finished"
    return folder


@pytest.fixture(scope="session")
def crashed(tmp_path_factory, sound):
    """The same, ended by a crash in its second stage, while the decoder is fitted. Copy it before touching it."""
    folder = tmp_path_factory.mktemp("crashed") / "run"
    toy_runs.begin(folder)
    with pytest.raises(toy_runs.Crash):
        toy_runs.go_on(folder, units=11)
    return folder
