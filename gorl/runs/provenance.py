"""The provenance of a result: versions, device, git commit."""

import datetime
import os
import pathlib
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

from gorl.version import HOME, __version__

FORMAT = 3
"""Version of the run folder's layout."""

RESULTS = "experiments/results"

PACKAGES = (
    "jax",
    "jaxlib",
    "equinox",
    "optax",
    "mujoco",
    "mujoco-mjx",
    "playground",
    "brax",
    "orbax-checkpoint",
    "gin-config",
    "warp-lang",
    "numpy",
)


def facts(**more: Any) -> dict[str, Any]:
    """Returns the provenance of a result that is computed now, as plain data, with `more` added. Starts the device."""
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
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "cpu": _cpu(),
            "cores": os.cpu_count(),
        },
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **more,
    }


def provenance_differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Returns the differences between two `facts` that may change results: versions, device, XLA flags."""
    before = then.get("versions", {})
    changed = [f"{k} {before.get(k)} -> {v}" for k, v in now["versions"].items() if before.get(k) != v]
    others = ("gorl", "device", "xla_flags")
    return changed + [f"{k} {then.get(k)} -> {now[k]}" for k in others if then.get(k) != now[k]]


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
    """Returns the commit of gorl's checkout and whether it has uncommitted changes, or None if gorl is no checkout.

    New results are no changes: a table's cells are added one after another.
    """

    def git(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(["git", "-C", str(HOME), *arguments], capture_output=True, text=True, timeout=10)

    try:
        if git("ls-files", "--error-unmatch", "__init__.py").returncode:
            return None
        commit = git("rev-parse", "HEAD").stdout.strip()
        changes = git("status", "--porcelain", "-uno", "--", ":(top)", f":(top,exclude){RESULTS}").stdout.strip()
        return {"commit": commit or None, "dirty": bool(changes)}
    except (OSError, subprocess.TimeoutExpired):
        return None
