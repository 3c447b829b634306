"""Keeps third-party libraries from printing to the console."""

import logging
import os
import sys
import warnings


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
    handler.setFormatter(logging.Formatter("gorl: %(message)s"))
    gorl.handlers = [handler]


def quiet_warp() -> None:
    """Stops Warp, if it is imported, from printing a banner and every kernel that it compiles."""
    if "warp" in sys.modules:
        sys.modules["warp"].config.quiet = True
