"""Links to Aim's pages."""

import base64
import json
import urllib.parse
from typing import Any

_METHOD = ["run.params.hparams.method"]
_STD, _MEAN = 2, 0  # Aim's codes for the band and the line of a group


def encode(value: Any) -> str:
    """Returns Aim's encoding of an object for a URL."""
    text = urllib.parse.quote(json.dumps(value, separators=(",", ":")), safe=";,/?:@&=+$-_.!~*'()#")
    return "O-" + base64.b64encode(text.encode()).decode().replace("=", "").replace("+", "-").replace("/", "_")


def returns_url(base: str, study: str) -> str:
    """Returns the URL of a study's evaluation returns against environment steps.

    Each task has a chart. Each method has a color, with its mean over seeds and its standard deviation.
    """
    query = f"metric.name == 'return' and metric.context.subset == 'eval' and {_is_study(study)}"
    chart = {"aggregationConfig": {"methods": {"area": _STD, "line": _MEAN}, "isApplied": True, "isEnabled": True}}
    return _page(
        base, "metrics", query, {"color": _METHOD, "stroke": [], "chart": ["run.params.hparams.env"]}, chart=chart
    )


def images_url(base: str, study: str) -> str:
    """Returns the URL of a study's pictures, in rows by method, task and seed."""
    rows = [*_METHOD, "run.params.hparams.env", "run.params.hparams.seed", "name"]
    return _page(base, "images", _is_study(study), {"row": rows})


def runs_url(base: str) -> str:
    """Returns the URL of the table of all runs."""
    return f"{base}/runs"


def _is_study(study: str) -> str:
    return f"run.experiment == {study!r}"


def _page(base: str, page: str, query: str, grouping: dict[str, Any], **more: Any) -> str:
    select = {"options": [], "query": "", "advancedMode": True, "advancedQuery": query}
    parts = {"select": select, "grouping": grouping, **more}
    return f"{base}/{page}?" + "&".join(f"{name}={encode(value)}" for name, value in parts.items())
