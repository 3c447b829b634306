"""Shared by all tests. Shapes are checked at run time (see pyproject: jaxtyping + beartype)."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Half of the suite's time is XLA's. Both workers and all processes that tests start share what was compiled before.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Programs here run for milliseconds, so they need no optimizing. The emitters of fusions take half of the
# compiler's time, and modules in parts for several threads a tenth.
os.environ["XLA_FLAGS"] = " ".join(
    [
        *os.environ.get("XLA_FLAGS", "").split(),
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
)

import copy
import gc
import logging

import equinox as eqx
import gin
import jax
import pytest
from gin import config as gin_config, selector_map

import gorl.registry  # noqa: F401  gorl's own names belong to every test
from gorl.config import files
from gorl.runtime import compilation
from tests.support.crashes import (
    pytest_handlecrashitem as pytest_handlecrashitem,
    pytest_sessionfinish as pytest_sessionfinish,
)

# Workers take files from the first on (`--dist loadfile --no-loadscope-reorder`): the longest should not begin last.
# Trackers come before them: each of their tests collects garbage, which takes as long as the heap is large.
LONGEST = (
    "faults/test_kills",
    "faults/test_tracker_faults",
    "tracking/test_track_and_browse",
    "tracking/test_aim",
    "studies/test_executors",
    "training/test_two_goals",
    "environments/test_native",
    "faults/test_numerical_faults",
    "algorithms/test_on_policy",
    "algorithms/test_sac",
    "config/test_configs",
)

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get("/".join(item.path.with_suffix("").parts[-2:]), len(places)))


@pytest.fixture
def getkey():
    """A new key at each call, the same ones in every run of a test."""
    keys = iter(jax.random.split(jax.random.key(0), 1000))
    return lambda: next(keys)


@pytest.fixture
def quick_compiles():
    """A program of a few milliseconds takes seconds to optimize."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def caplog(caplog, monkeypatch):
    """pytest's own, which hears gorl even where a command line has kept its messages from the root logger."""
    monkeypatch.setattr(logging.getLogger("gorl"), "propagate", True)
    return caplog


@pytest.fixture(autouse=True)
def fresh_gin():
    """gin's configuration is global: no test sees another's."""
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture(autouse=True)
def few_mappings():
    yield
    compilation.release_programs()


def pytest_sessionstart(session):
    """Keeps the garbage collector from looking at a million objects again and again."""
    del session
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def small_heap():
    """Forgets the programs of a file. What another one needs of them it finds on disk.

    With the programs of a hundred files in memory, a single collection of garbage takes seconds.
    """
    yield
    jax.clear_caches()
    eqx.clear_caches()
    gc.collect()


@pytest.fixture
def own_registry(monkeypatch):
    """What plugins register in this test is forgotten after it."""
    for name in ("_REGISTRY", "_CONSTANTS"):
        fresh = selector_map.SelectorMap()
        for selector, entry in getattr(gin_config, name).items():
            fresh[selector] = entry
        monkeypatch.setattr(gin_config, name, fresh)
    monkeypatch.setattr(gin_config, "_INVERSE_REGISTRY", copy.copy(gin_config._INVERSE_REGISTRY))
    monkeypatch.setattr(files, "_loaded_plugins", dict(files._loaded_plugins))
