"""Shared by the tests of configurations."""

import copy

import pytest
from gin import config as gin_config, selector_map

import gorl.registry  # noqa: F401  gorl's own names belong to every test
from gorl.config import files


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
