"""Poor surroundings: a file system without locks, no home, no such platform, no rendering backend, narrow numbers."""

import errno
import os
import pathlib
import stat
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gorl import runs
from gorl.errors import ConfigError
from gorl.pictures import rendering
from gorl.pictures.base import CannotDraw
from gorl.reuse.store import PhaseStore
from gorl.runs import arrays, files
from gorl.runs.checkpoint import CheckpointStore
from gorl.runs.liveness import final_status
from gorl.runtime import compilation, devices
from gorl.runtime.seeds import add_seed_axis
from tests.support.run_folders import make_run

NARROW = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "int4", "uint4", "float16", "uint8", "bool"]


@pytest.mark.parametrize("kind", NARROW)
def test_numbers_of_every_width_are_saved_bit_by_bit(kind, tmp_path):
    """By checkpoints and by the store of phases."""
    state = {"x": jnp.asarray([0.5, 1.0, 2.0, 0.0]).astype(kind), "y": jnp.ones((), kind), "z": jnp.ones(3)}
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    whole = add_seed_axis(state)
    store = CheckpointStore(tmp_path)
    store.save(1, whole, {}, row=0)
    phases = PhaseStore(tmp_path / "phases")
    phases.add("k" * 64, {}, {"seconds": 1.0, "env_steps": 1}, whole)
    for found, expected in ((store.restore(1, template), state), (phases.state("k" * 64, template, 1), whole)):
        for name in state:
            assert found[name].dtype == expected[name].dtype
            assert np.asarray(found[name]).tobytes() == np.asarray(expected[name]).tobytes()
    store.close()


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_of_every_kind_are_saved(impl):
    key = jax.random.key(3, impl=impl)
    again = arrays.from_stored(arrays.to_stored(key), jax.ShapeDtypeStruct(key.shape, key.dtype))
    assert again.dtype == key.dtype and jnp.array_equal(jax.random.key_data(again), jax.random.key_data(key))


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_without_locks_a_run_trains_with_a_warning(number, tmp_path, monkeypatch, caplog):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "flock", flock)
    run = make_run(tmp_path / "run", status={"status": "running", "pid": os.getpid()}) or tmp_path / "run"
    folder = runs.RunFolder(run)
    folder.lock()
    assert "has no locks" in caplog.text
    assert final_status(run) is None  # its process is there
    folder.set_status("running", pid=2**22 + 1)
    assert final_status(run) == "killed"
    folder.unlock()


def test_without_locks_phases_are_stored(tmp_path, monkeypatch):
    claim = PhaseStore(tmp_path).claim("a")

    def refuse(**_):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(claim._lock, "acquire", refuse)
    with claim:
        assert claim.try_acquire()


def test_other_failures_of_a_lock_are_none_of_a_file_system(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with pytest.raises(OSError, match="broken"), open(tmp_path / "x", "w") as file:
        files.take_lock(file)


def test_a_user_without_a_home_has_a_folder_of_their_own(tmp_path, monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    for name in ("GORL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pathlib.Path, "home", nobody)
    monkeypatch.setattr(compilation.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(compilation.tempfile, "mkdtemp", lambda prefix: str(tmp_path / f"{prefix}own"))
    compilation._temporary_folder.cache_clear()
    folder = compilation.cache_folder()
    assert folder == tmp_path / f"gorl-{os.getuid()}" and stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)  # others could put programs there
    compilation._temporary_folder.cache_clear()
    assert compilation.cache_folder() == tmp_path / "gorl-own"
    compilation._temporary_folder.cache_clear()


def test_a_cache_below_the_home_may_be_written_with_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("GORL_CACHE", "~/programs")
    assert compilation.cache_folder() == pathlib.Path("/home/me/programs")


def test_a_platform_that_is_not_there_is_named(monkeypatch):
    def missing():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", missing)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(ConfigError, match="JAX_PLATFORMS = 'cuda', but it cannot use that here.*unset the variable"):
        devices.start()


SCRIPT = """
import os
from gorl import environments
import mujoco
from mujoco import mjx
assert os.environ["MUJOCO_GL"] == {value!r} and mujoco._enums and mujoco.MjModel
print("imported")
"""


@pytest.mark.parametrize("value", ["nonsense", "egl"])
def test_mujoco_is_imported_whatever_the_rendering_backend(value):
    """`egl` as where libEGL is missing: PyOpenGL is told another platform."""
    env = {**os.environ, "MUJOCO_GL": value, "PYOPENGL_PLATFORM": "osmesa"}
    words = [sys.executable, "-c", SCRIPT.format(value=value)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout == "imported\n", done.stderr


def test_who_draws_says_that_a_backend_is_unknown(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    with pytest.raises(CannotDraw, match="MUJOCO_GL='nonsense' is no rendering backend: it is one of egl, osmesa"):
        rendering.backend()
