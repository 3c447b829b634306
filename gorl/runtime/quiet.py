"""Keeps third-party libraries from printing to the console."""

import logging
import os
import sys
import warnings

from gorl.runtime.streams import printable


def before_imports(debug: bool) -> None:
    """Silences logs and warnings, unless `debug`. Call it before JAX, MuJoCo or Warp is imported."""
    if debug:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    warnings.filterwarnings("ignore")
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    gorl = logging.getLogger("gorl")
    gorl.setLevel(logging.WARNING)
    gorl.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("gorl: %(message)s"))
    gorl.handlers = [handler]


class _Formatter(logging.Formatter):
    """A formatter of messages, which may quote anybody's files, for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def quiet_warp() -> None:
    """Stops Warp, if it is imported, from printing a banner and every kernel that it compiles."""
    if "warp" in sys.modules:
        sys.modules["warp"].config.quiet = True
