"""XLA's persistent compilation cache, and how long tracing and compiling took."""

import collections
import contextlib
import functools
import gc
import os
import pathlib
import stat
import tempfile

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
"""Number of memory mappings of this process above which its programs are released.

Linux allows 65,530, and XLA ends the process there. Every compiled program has several mappings, a run has thousands.
"""


def cache_folder() -> pathlib.Path:
    """Returns $GORL_CACHE, or the folder gorl in the user's cache folder if that is not set.

    A user without a home has a folder in the machine's temporary one, which nobody else may write in.
    """
    if base := os.environ.get("GORL_CACHE"):
        return pathlib.Path(os.path.expanduser(base))
    if base := os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(base) / "gorl"
    try:
        return pathlib.Path.home() / ".cache" / "gorl"
    except RuntimeError:
        return _temporary_folder()


@functools.cache
def _temporary_folder() -> pathlib.Path:
    """Returns a folder of this user alone. Programs are loaded from it, so another's is not taken."""
    path = pathlib.Path(tempfile.gettempdir()) / f"gorl-{os.getuid()}"
    with contextlib.suppress(OSError):
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077:
            return path
    return pathlib.Path(tempfile.mkdtemp(prefix="gorl-"))


def use_persistent_cache() -> None:
    """Stores compiled programs on disk, where later processes find them.

    They are in xla/ in `cache_folder()`, or where JAX's own variable JAX_COMPILATION_CACHE_DIR says.
    """
    global _listening
    folder = pathlib.Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or cache_folder() / "xla")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if not _listening:
        jax.monitoring.register_event_duration_secs_listener(_add_seconds)
        _listening = True


def release_programs() -> None:
    """Releases all compiled programs of this process if they have too many memory mappings.

    Call it between runs. Programs that are needed again are loaded from the cache on disk.
    """
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()


def _add_seconds(event: str, seconds: float, **_: object) -> None:
    if event in _EVENTS:
        _SECONDS[_EVENTS[event]] += seconds


def totals() -> dict[str, float]:
    """Returns the seconds this process has spent tracing, lowering, and compiling or loading programs."""
    return {name: round(value, 3) for name, value in _SECONDS.items()}
