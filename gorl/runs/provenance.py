"""The provenance of a result: versions, device, git commit."""

import datetime
import os
import pathlib
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

from gorl.runtime import devices
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


FLAGS = (
    "jax_enable_x64",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_threefry_gpu_kernel_lowering",
    "jax_random_seed_offset",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
    "jax_explicit_x64_dtypes",
    "jax_enable_custom_prng",
    "jax_high_dynamic_range_gumbel",
    "jax_softmax_custom_jvp",
    "jax_allow_f16_reductions",
    "jax_use_direct_linearize",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_optimization_level",
    "jax_exec_time_optimization_effort",
)
"""JAX's settings on which a number may depend."""

VARIABLES = ("NVIDIA_TF32_OVERRIDE", "TF_CUDNN_DETERMINISTIC", "CUBLAS_WORKSPACE_CONFIG", "LIBTPU_INIT_ARGS")
"""Environment variables of the libraries below JAX on which a number may depend. XLA_FLAGS is apart."""


def facts(**more: Any) -> dict[str, Any]:
    """Returns the provenance of a result that is computed now, as plain data, with `more` added. Starts the device."""
    import jax

    devices.start()
    device = jax.devices()[0]
    return {
        "format": FORMAT,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        **software(),
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "cpu": _cpu(),
            "cores": os.cpu_count(),
        },
        **more,
    }


def software() -> dict[str, Any]:
    """Returns the part of `facts` that is known without a device: versions, commits and flags."""
    return {
        "gorl": __version__,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "git": _git(),
        "user_git": _user_git(),
        "flags": flags(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def flags() -> dict[str, str]:
    """Returns the settings of JAX, and of what is below it, on which a number may depend."""
    import jax

    known = {name: str(jax.config.values[name]) for name in FLAGS if name in jax.config.values}
    return known | {name: os.environ[name] for name in VARIABLES if name in os.environ}


def provenance_differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Returns the differences between the facts of a run when it began and now that may change results.

    They are of versions, the device, flags, commits, plugins and the environment. What was not recorded then is not
    compared.
    """
    single = ("gorl", "python", "device", "xla_flags")
    changed = [f"{k} {then[k]} -> {now[k]}" for k in single if _differs(k, then, now)]
    for part in ("versions", "flags"):
        before, after = then.get(part, {}), now.get(part, {})
        names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
        changed += [f"{name} {before.get(name)} -> {after.get(name)}" for name in names if before]
    for part, what in (("git", "gorl's commit"), ("user_git", "your repository's commit")):
        if _differs(part, then, now) and _same_root(then[part], now[part]):
            changed.append(f"{what} {_commit(then[part])} -> {_commit(now[part])}")
    for plugin, files in now.get("plugin_files", {}).items():
        before = then.get("plugin_files", {}).get(plugin, files)
        names = [name for name in dict.fromkeys([*before, *files]) if before.get(name) != files.get(name)]
        changed += [f"the plugin {plugin} has changed ({', '.join(names)})"] if names else []
    before, after = (known.get("environment", {}).get("model_sha256") for known in (then, now))
    if before and after and before != after:
        changed.append(f"the content of the environment's model {before[:12]} -> {after[:12]}")
    return changed


def _differs(name: str, then: dict[str, Any], now: dict[str, Any]) -> bool:
    return name in then and name in now and then[name] != now[name]


def _same_root(before: dict[str, Any] | None, after: dict[str, Any] | None) -> bool:
    return (before or {}).get("root") == (after or {}).get("root")


def _commit(git: dict[str, Any] | None) -> str:
    if not git:
        return "(none)"
    return f"{str(git.get('commit'))[:10]}{' with uncommitted changes' if git.get('dirty') else ''}"


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
    if _run_git(HOME, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return _commit_of(HOME, f":(top,exclude){RESULTS}")


def _user_git() -> dict[str, Any] | None:
    """Returns the same of the repository around the working directory with its root; None without one, or in gorl's."""
    here = pathlib.Path.cwd()
    root = _run_git(here, "rev-parse", "--show-toplevel")
    if root is None or HOME.is_relative_to(root):
        return None
    return {"root": root, **_commit_of(here)}


def _commit_of(folder: pathlib.Path, *but: str) -> dict[str, Any]:
    changes = _run_git(folder, "status", "--porcelain", "-uno", "--", ":(top)", *but)
    return {"commit": _run_git(folder, "rev-parse", "HEAD") or None, "dirty": bool(changes)}


def _run_git(folder: pathlib.Path, *arguments: str) -> str | None:
    """Returns git's output, or None if it fails."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout.strip()
