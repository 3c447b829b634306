"""Where a result comes from: versions, device, git."""

from gorl.version import HOME, __version__
from gorl.runs.files import inside
from importlib import metadata
from typing import Any
import datetime
import os
import pathlib
import platform
import subprocess
import sys


FORMAT = 3


PACKAGES = ("jax", "jaxlib", "equinox", "optax", "mujoco", "mujoco-mjx", "playground", "brax", "orbax-checkpoint", "gin-config", "warp-lang", "numpy")


def facts(**more: Any) -> dict[str, Any]:
    """What to know about where a result comes from."""
    import jax

    device = jax.devices()[0]
    return {
        "format": FORMAT,
        "gorl": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "git": _git(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count(), "cpu": _cpu(), "cores": os.cpu_count()},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **more,
    }


def provenance_differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two `facts`, as far as results depend on it."""
    before = then.get("versions", {})
    changed = [f"{k} {before.get(k)} -> {v}" for k, v in now["versions"].items() if before.get(k) != v]
    return changed + [f"{k} {then.get(k)} -> {now[k]}" for k in ("gorl", "device", "xla_flags") if then.get(k) != now[k]]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _git() -> dict[str, Any] | None:
    """Commit and dirty flag of gorl's own checkout, where it is one."""
    home = HOME
    git = ["git", "-C", str(home)]
    try:
        inside = subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, timeout=10)
        if inside.returncode:
            return None
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10).stdout.strip()
        return {"commit": commit or None, "dirty": bool(dirty)}
    except (OSError, subprocess.TimeoutExpired):
        return None


differences = provenance_differences
