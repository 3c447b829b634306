"""What tests and benchmarks of bad input share lies with the benchmarks."""

import sys

import jaxtyping
import pytest

from gorl.config.files import shipped

sys.path.append(str(shipped().parent / "experiments" / "benchmarks"))


@pytest.fixture(autouse=True)
def as_the_user_sees_it():
    """Without the run-time type checks of the tests, which would answer some mistakes first, in their own words."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
