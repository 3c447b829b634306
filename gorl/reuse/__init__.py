"""Results of phases, stored under a hash of all that they depend on, so that runs which share a prefix compute it once."""

import os
from typing import TYPE_CHECKING

from gorl.compilation import cache_folder
from gorl.errors import ConfigError
from gorl.reuse.store import DEFAULT_LIMIT, PhaseStore

if TYPE_CHECKING:
    from gorl.config import Configuration
    from gorl.reuse.results import Reuse


def store() -> PhaseStore:
    """In `phases`, in gorl's cache folder; $GORL_CACHE_GB gibibytes at most (20)."""
    text = os.environ.get("GORL_CACHE_GB")
    try:
        limit = DEFAULT_LIMIT if text is None else int(float(text) * 1024**3)
    except ValueError:
        raise ConfigError(f"GORL_CACHE_GB = {text!r}: it is a number of gibibytes, such as 20.") from None
    return PhaseStore(cache_folder() / "phases", limit)


def reuse_of(configuration: "Configuration") -> "Reuse":
    """The stored phases of a configuration's run."""
    from gorl.reuse.identity import identities
    from gorl.reuse.results import Reuse

    return Reuse(store(), identities(configuration))
