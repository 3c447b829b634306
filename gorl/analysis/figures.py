"""The figures of a report. A method has the same color and marker in all of them. A light and a dark style exist."""

import dataclasses
import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from gorl.analysis.curves import Curve
from gorl.analysis.results import Results
from gorl.analysis.statistics import Estimate, Profile
from gorl.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Style:
    """Colors of a page. `lines` suits color-blind readers (after Okabe and Ito, lightened for dark pages)."""

    surface: str
    ink: str
    muted: str
    grid: str
    lines: tuple[str, ...]


LIGHT = Style(
    "#ffffff",
    "#1a1a1a",
    "#555555",
    "#e4e4e4",
    ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#882255"),
)
DARK = Style(
    "#16181d",
    "#ececec",
    "#a8adb7",
    "#31353d",
    ("#4DA3DB", "#F0803C", "#2FC79B", "#E39CC4", "#F2B632", "#8CCBF2", "#A6A6A6", "#CF6A92"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", ":", "-.")
PANELS_A_ROW = 3
NAME_WIDTH = 30  # characters of a method's name per line
MARKS = 25  # maximum number of markers on a curve
LEAST_SPAN = 0.1  # minimum span of an axis of scores, so that small differences look small
MARK_EVERY = 10  # thresholds between the markers of a profile
_AS_WRITTEN = {"text.parse_math": False}  # the dollar signs of a name begin no formula
TITLES = {"iqm": "IQM", "median": "median", "mean": "mean", "optimality_gap": "optimality gap"}


def draw(results: Results, style: Style) -> dict[str, Any]:
    """Returns matplotlib figures by name: 'curves', 'aggregates' and 'profiles', each if it has data.

    Raises ConfigError without matplotlib.
    """
    try:
        import matplotlib
    except ImportError as err:
        raise ConfigError(
            f"gorl report needs matplotlib, which cannot be imported ({err}): pip install matplotlib."
        ) from err
    looks = {method: _look(i, style) for i, method in enumerate(results.methods)}
    figures = {}
    with matplotlib.rc_context({**_rc_settings(style), **_AS_WRITTEN}):
        if results.curves:
            figures["curves"] = _draw_curves(results.curves, results.settings.x, looks)
        if results.aggregates:
            figures["aggregates"] = _draw_aggregates(results, looks, style)
            figures["profiles"] = _draw_profiles(results.profiles, looks, style)
    return figures


def render_figure(figure: Any, form: str) -> bytes:
    """Returns a figure as the bytes of a 'png' or 'svg' file. Equal figures give equal bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "gorl", **_AS_WRITTEN}):
        figure.savefig(buffer, format=form, dpi=160, metadata={"Date": None} if form == "svg" else {"Software": None})
    return buffer.getvalue()


def _rc_settings(style: Style) -> dict[str, Any]:
    return {
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": style.grid,
        "grid.linewidth": 0.8,
        "legend.frameon": False,
        "figure.facecolor": style.surface,
        "savefig.facecolor": style.surface,
        "axes.facecolor": style.surface,
        "text.color": style.ink,
        "axes.labelcolor": style.muted,
        "axes.edgecolor": style.muted,
        "axes.titlecolor": style.ink,
        "xtick.color": style.muted,
        "ytick.color": style.muted,
        "legend.labelcolor": style.ink,
    }


def _look(index: int, style: Style) -> dict[str, Any]:
    count = len(style.lines)
    cycle = index // count  # colors repeat with other markers and dashes
    return {
        "color": style.lines[index % count],
        "marker": MARKERS[(index + 3 * cycle) % len(MARKERS)],
        "linestyle": DASHES[cycle % len(DASHES)],
    }


def _draw_curves(shown: Sequence[Curve], axis: str, looks: dict[str, dict]) -> Any:
    from matplotlib.figure import Figure

    tasks = sorted({c.task for c in shown})
    columns = min(PANELS_A_ROW, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    size = (7.2, 4.4) if len(tasks) == 1 else (4.1 * columns, 3.2 * rows + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(hspace=0.06)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    divisor, unit = _axis_unit(axis, max(float(c.x[-1]) for c in shown))
    for axes, task in zip(grid, tasks, strict=False):
        for curve in shown:
            if curve.task == task:
                _draw_curve(axes, curve, divisor, looks[curve.method])
        axes.set(title=task, xlabel=unit, ylabel="mean return over seeds")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    for axes in grid[len(tasks) :]:
        axes.remove()
    _draw_legend(figure, [m for m in looks if any(c.method == m for c in shown)], looks, size[0])
    return figure


def _draw_curve(axes: Any, curve: Curve, divisor: float, look: dict[str, Any]) -> None:
    axes.plot(
        curve.x / divisor, curve.mean, linewidth=1.8, markersize=4, markevery=math.ceil(len(curve.x) / MARKS), **look
    )
    axes.fill_between(curve.x / divisor, curve.low, curve.high, color=look["color"], alpha=0.18, linewidth=0)


def _axis_unit(axis: str, largest: float) -> tuple[float, str]:
    if axis == "env_steps":
        units = ((1e6, " (millions)"), (1e3, " (thousands)"))
        divisor, unit = next(((d, u) for d, u in units if largest >= d), (1.0, ""))
        return divisor, f"environment steps{unit}, collection included"
    units = ((3600.0, "hours"), (60.0, "minutes"))
    divisor, unit = next(((d, u) for d, u in units if largest >= 3.0 * d), (1.0, "seconds"))
    return divisor, f"training time ({unit})"


def _draw_aggregates(results: Results, looks: dict[str, dict], style: Style) -> Any:
    from matplotlib.figure import Figure

    methods = list(results.aggregates)
    panels: dict[str, dict[str, Estimate]] = {
        TITLES[name]: {m: results.aggregates[m][name] for m in methods} for name in TITLES
    }
    if results.better:
        panels[f"P(above {textwrap.shorten(str(results.reference), 22, placeholder=' …')})"] = results.better
    figure = Figure(figsize=(2.5 * len(panels) + 1.8, 0.42 * len(methods) + 1.5), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False).ravel()
    for axes, (title, estimates) in zip(grid, panels.items(), strict=True):
        for row, method in enumerate(methods):
            if method in estimates:
                _draw_estimate(axes, row, estimates[method], looks[method])
            else:
                colors = {"color": style.muted, "backgroundcolor": style.surface}
                axes.text(0.5, row, "reference", ha="center", va="center", fontsize=8, **colors)
        better = "lower is better" if title == TITLES["optimality_gap"] else "higher is better"
        axes.set(title=title, xlabel=f"normalized score\n{better}")
        axes.set_xlim(*_widen(LEAST_SPAN, *axes.get_xlim()))
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
    if results.better:
        grid[-1].axvline(0.5, color=style.muted, linewidth=1.0, linestyle=":")
        grid[-1].set(xlabel="probability\n0.5: no difference", xlim=(-0.04, 1.04))
    grid[0].set_yticks(range(len(methods)), ["\n".join(textwrap.wrap(m, NAME_WIDTH)) for m in methods], color=style.ink)
    grid[0].set_ylim(len(methods) - 0.4, -0.6)
    return figure


def _widen(span: float, low: float, high: float) -> tuple[float, float]:
    missing = max(0.0, span - (high - low)) / 2.0
    return low - missing, high + missing


def _draw_estimate(axes: Any, row: int, estimate: Estimate, look: dict[str, Any]) -> None:
    if not math.isnan(estimate.low):
        axes.hlines(row, estimate.low, estimate.high, color=look["color"], linewidth=6, alpha=0.35)
    axes.plot(estimate.value, row, marker=look["marker"], color=look["color"], markersize=6, linestyle="none")


def _draw_profiles(profiles: dict[str, Profile], looks: dict[str, dict], style: Style) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.0 + 0.12 * len(profiles)), layout="constrained")
    axes = figure.subplots()
    for i, (method, profile) in enumerate(profiles.items()):
        marks = (2 * i % MARK_EVERY, MARK_EVERY)  # at different places, because profiles often coincide
        axes.plot(
            profile.thresholds,
            profile.share,
            linewidth=1.8,
            drawstyle="steps-post",
            markevery=marks,
            markersize=4,
            **looks[method],
        )
        band = {"color": looks[method]["color"], "alpha": 0.15, "linewidth": 0, "step": "post"}
        axes.fill_between(profile.thresholds, profile.low, profile.high, **band)
    axes.set(xlabel="normalized score τ", ylabel="share of runs with a score above τ", ylim=(-0.02, 1.04))
    axes.margins(x=0.0)
    _draw_legend(figure, list(profiles), looks, 7.2)
    return figure


def _draw_legend(figure: Any, methods: Sequence[str], looks: dict[str, dict], width: float) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linewidth=1.8, markersize=5, label="\n".join(textwrap.wrap(m, NAME_WIDTH)), **looks[m])
        for m in methods
    ]
    longest = max(min(len(m), NAME_WIDTH) for m in methods)
    columns = max(1, min(len(methods), int(width / (0.075 * longest + 0.6))))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
