"""Small things about matplotlib, which is imported late: it takes a second."""

import pathlib
from typing import Any

DPI = 80


def figure(width: float, height: float) -> Any:
    """A figure of its own (in inches), outside pyplot's global state and without a window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def save(fig: Any, path: pathlib.Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(fig)
    fig.savefig(path)
