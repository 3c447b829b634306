"""Whether the numbers of a run that ended are results."""

import math
import pathlib

from gorl.runs.record import read_entries
from gorl.runs.summary import FINALS

UNSOUND = "unsound"
"""The status of a run that came to its end without a result. Its exit code is 4."""

_FEW = 10
"""Episodes of training that may break before they are compared with those that ended."""


def unsoundness(record: pathlib.Path) -> str | None:
    """Returns why the record of a run that came to its end holds no result, or None if it does.

    It holds none if no evaluation had a finite return, if a final return is not finite, or if most episodes broke, of
    evaluations or of training. An episode breaks at a step that is not finite (`invalid_steps`, `diverged_episodes`).
    """
    evaluations, finite, final = 0, 0, {}
    evaluated = broken = trained = invalid = 0.0
    for entry in read_entries(record):
        metrics = entry.metrics
        if entry.subset == "eval" or entry.subset in FINALS:
            evaluations += 1
            finite += math.isfinite(metrics.get("return", math.nan))
            evaluated += metrics.get("episodes", 0.0)
            broken += metrics.get("diverged_episodes", 0.0) if "episodes" in metrics else 0.0
            if entry.subset in FINALS:
                final[entry.subset] = metrics.get("return", math.nan)
        elif "invalid_steps" in metrics:
            trained += metrics.get("episodes", 0.0)
            invalid += metrics["invalid_steps"]
    if evaluations and not finite:
        return f"none of its {evaluations} evaluations has a finite return"
    if lost := [FINALS[subset] for subset, value in final.items() if not math.isfinite(value)]:
        return f"its final return is not finite (of the policy: {', '.join(lost)})"
    if 2.0 * broken > evaluated:
        return f"{broken:,.0f} of its {evaluated:,.0f} episodes of evaluation broke"
    if invalid > max(trained, _FEW):
        return f"{invalid:,.0f} of its {trained + invalid:,.0f} episodes of training broke"
    return None
