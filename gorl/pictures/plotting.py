"""Helpers for matplotlib, whose import is deferred because it takes a second."""

import pathlib
from typing import Any

DPI = 80


def figure(
    width: float,
    height: float,
    *,
    left: float = 0.7,
    right: float = 0.2,
    bottom: float = 0.55,
    top: float = 0.5,
    between: float = 0.3,
) -> Any:
    """Returns a matplotlib figure outside pyplot's global state and without a window.

    Sizes and margins are in inches. Margins are fixed, because matplotlib takes longer to find them than to draw.
    `between`: the space between two panels, as a fraction of a panel.
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), dpi=DPI)
    fig.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height, wspace=between, hspace=0.12)
    return fig


def save(fig: Any, path: pathlib.Path) -> None:
    """Writes a figure as an image file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(fig)
    fig.savefig(path)
