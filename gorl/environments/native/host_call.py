"""NumPy functions inside compiled programs.

XLA calls them through its foreign function interface, whose C structures are read here with ctypes (jaxlib's
include/xla/ffi/api/c_api.h, API 0.x: only fields are ever added). Unlike `jax.pure_callback`, this passes XLA's own
buffers, involves no JAX array that could wait for the thread it runs on, and names the function, so that the persistent
cache may hold the program.
"""

import atexit
import contextlib
import ctypes
import math
import threading
import time
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_void_p

import jax
import numpy as np
from jaxtyping import Array, Float

Function = Callable[[np.ndarray, np.ndarray], None]  # (input [B, N], output to be filled [B, M]) float32

_API = (0, 3)
_METADATA, _FLOAT32, _INTERNAL = 1, 11, 13
_EXECUTE = 3

_registered: dict[str, tuple] = {}  # name -> objects that must live as long as XLA may call the function
_lock = threading.Lock()
_closing = False


class _Extension(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("type", c_int), ("next", c_void_p)]


class _Version(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("extension", c_void_p), ("major", c_int), ("minor", c_int)]


class _Metadata(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("version", _Version), ("traits", c_uint32)]


class _MetadataExtension(ctypes.Structure):
    _fields_ = [("base", _Extension), ("metadata", POINTER(_Metadata))]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("extension", c_void_p),
        ("dtype", c_int),
        ("data", c_void_p),
        ("rank", c_int64),
        ("dims", POINTER(c_int64)),
    ]


class _Buffers(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("extension", c_void_p),
        ("count", c_int64),
        ("types", c_void_p),
        ("items", POINTER(POINTER(_Buffer))),
    ]


class _ErrorArguments(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("extension", c_void_p), ("message", c_char_p), ("code", c_int)]


class _Api(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("extension", c_void_p),
        ("version", _Version),
        ("internal", c_void_p),
        ("error", ctypes.CFUNCTYPE(c_void_p, POINTER(_ErrorArguments))),
    ]


class _Frame(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("extension", POINTER(_Extension)),
        ("api", POINTER(_Api)),
        ("context", c_void_p),
        ("stage", c_int),
        ("arguments", _Buffers),
        ("results", _Buffers),
    ]


_Handler = ctypes.CFUNCTYPE(c_void_p, POINTER(_Frame))


def register(name: str, function: Function) -> None:
    """Registers `function` with XLA in this process. A name must mean the same function in every process."""
    with _lock:
        if name not in _registered:
            handler = _Handler(_make_handler(function))
            _registered[name] = (handler, function)  # kept alive before XLA can call it
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(ctypes.cast(handler, c_void_p).value), platform="cpu")


def call(name: str, x: Float[Array, " N"], size: int) -> Float[Array, " M"]:
    """Calls the function registered as `name` on one row. Under `vmap`, nested or not, it receives all rows at once."""
    out = jax.ShapeDtypeStruct((size,), np.float32)
    return jax.ffi.ffi_call(name, out, vmap_method="broadcast_all")(x)


@atexit.register
def _stop_calls() -> None:
    """Waits for running programs at exit, and makes their next call an error.

    A program must not call Python while the interpreter shuts down.
    """
    global _closing
    _closing = True
    if _registered:
        for array in jax.live_arrays():
            with contextlib.suppress(Exception):
                array.block_until_ready()
        time.sleep(0.02)  # for a program without a live result


def _make_handler(function: Function) -> Callable:
    def handle(frame: "ctypes._Pointer[_Frame]") -> int | None:
        frame = frame.contents
        try:
            if frame.extension and frame.extension.contents.type == _METADATA:
                metadata = ctypes.cast(frame.extension, POINTER(_MetadataExtension)).contents.metadata.contents
                metadata.version.major, metadata.version.minor = _API
                metadata.traits = 0
            elif frame.stage == _EXECUTE and _closing:
                raise SystemExit("the interpreter ends")
            elif frame.stage == _EXECUTE:
                function(_array(frame.arguments), _array(frame.results))
            return None
        except BaseException as err:  # no exception may reach XLA
            message = f"{type(err).__name__}: {err}".encode()
            arguments = _ErrorArguments(ctypes.sizeof(_ErrorArguments), None, message, _INTERNAL)
            return frame.api.contents.error(ctypes.byref(arguments))

    return handle


def _array(buffers: _Buffers) -> np.ndarray:
    """Returns the first buffer as an array [B, N], without a copy."""
    buffer = buffers.items[0].contents
    if buffer.dtype != _FLOAT32:
        raise TypeError(f"expected an array of float32, not of XLA's type {buffer.dtype}")
    shape = buffer.dims[: buffer.rank]
    rows, columns = math.prod(shape[:-1]), shape[-1]
    if rows * columns == 0:
        return np.zeros((rows, columns), np.float32)
    memory = (ctypes.c_float * (rows * columns)).from_address(buffer.data)
    return np.frombuffer(memory, np.float32).reshape(rows, columns)
