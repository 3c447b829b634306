"""The version of gorl, and where its package lies."""

import pathlib

__version__ = "0.1.0"

HOME = pathlib.Path(__file__).parent
"""The folder of the package `gorl`."""
