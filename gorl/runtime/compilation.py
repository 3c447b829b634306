"""XLA's persistent compilation cache, and how long tracing and compiling took."""

import collections
import gc
import os
import pathlib
from typing import Any

import jax

_SECONDS: collections.Counter[str] = collections.Counter()
_EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace_s",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower_s",
    "/jax/core/compile/backend_compile_duration": "compile_or_load_s",
    "/jax/compilation_cache/cache_retrieval_time_sec": "load_s",
}
_listening = False

MAPPINGS = pathlib.Path("/proc/self/maps")
MOST_MAPPINGS = 20_000
"""Memory mappings of this process beyond which its programs are let go. Linux allows 65,530 and every compiled program has several, a run
thousands; XLA ends the process there."""


def cache_folder() -> pathlib.Path:
    """$GORL_CACHE, else gorl in the user's cache folder."""
    base = os.environ.get("GORL_CACHE")
    return (
        pathlib.Path(base)
        if base
        else pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "gorl"
    )


def use_persistent_cache() -> None:
    """Compiled programs are found again by the next process."""
    global _listening
    folder = cache_folder() / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if not _listening:
        jax.monitoring.register_event_duration_secs_listener(_note)
        _listening = True


def spare_mappings() -> None:
    """Between runs in one process: lets all its programs go if they have many memory mappings. What is needed again comes from the cache on disk."""
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()


def _note(event: str, seconds: float, **_: Any) -> None:
    if event in _EVENTS:
        _SECONDS[_EVENTS[event]] += seconds


def totals() -> dict[str, float]:
    """Seconds of this process spent tracing, lowering, and compiling or loading programs."""
    return {name: round(value, 3) for name, value in _SECONDS.items()}
