"""Links into Aim's pages."""

import base64
import json
import urllib.parse
from typing import Any


def encode(value: Any) -> str:
    """Aim's encoding of an object in an address."""
    text = urllib.parse.quote(json.dumps(value, separators=(",", ":")), safe=";,/?:@&=+$-_.!~*'()#")
    return "O-" + base64.b64encode(text.encode()).decode().replace("=", "").replace("+", "-").replace("/", "_")


def returns(base: str) -> str:
    """Evaluation returns of all runs against environment steps: mean and band of each configuration."""
    query = "metric.name == 'return' and metric.context.subset == 'eval'"
    select = {"options": [], "query": "", "advancedMode": True, "advancedQuery": query}
    grouping = {"color": ["run.params.study"], "stroke": [], "chart": []}
    chart = {"aggregationConfig": {"methods": {"area": 2, "line": 0}, "isApplied": True, "isEnabled": True}}  # standard deviation, mean
    return f"{base}/metrics?select={encode(select)}&grouping={encode(grouping)}&chart={encode(chart)}"
