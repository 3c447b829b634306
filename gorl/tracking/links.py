"""Links into Aim's pages."""

import base64
import json
import urllib.parse
from typing import Any

_STD, _MEAN = 2, 0  # Aim's numbers for how a group of lines is drawn


def encode(value: Any) -> str:
    """Aim's encoding of an object in an address."""
    text = urllib.parse.quote(json.dumps(value, separators=(",", ":")), safe=";,/?:@&=+$-_.!~*'()#")
    return "O-" + base64.b64encode(text.encode()).decode().replace("=", "").replace("+", "-").replace("/", "_")


def returns(base: str, study: str) -> str:
    """Evaluation returns of a study against environment steps: a colour for each variant, its mean over seeds and its standard deviation."""
    query = f"metric.name == 'return' and metric.context.subset == 'eval' and {_of(study)}"
    chart = {"aggregationConfig": {"methods": {"area": _STD, "line": _MEAN}, "isApplied": True, "isEnabled": True}}
    return _page(
        base, "metrics", query, {"color": ["run.params.hparams.variant"], "stroke": [], "chart": []}, chart=chart
    )


def images(base: str, study: str) -> str:
    """The pictures of a study, in rows by variant and seed."""
    return _page(base, "images", _of(study), {"row": ["run.params.hparams.variant", "run.params.hparams.seed", "name"]})


def runs(base: str) -> str:
    """The table of all runs."""
    return f"{base}/runs"


def _of(study: str) -> str:
    return f"run.experiment == {study!r}"


def _page(base: str, page: str, query: str, grouping: dict[str, Any], **more: Any) -> str:
    select = {"options": [], "query": "", "advancedMode": True, "advancedQuery": query}
    parts = {"select": select, "grouping": grouping, **more}
    return f"{base}/{page}?" + "&".join(f"{name}={encode(value)}" for name, value in parts.items())
