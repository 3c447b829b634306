"""Errors that a user can act on.

Their message says what is wrong, where, and how to fix it. The command line prints only the message.
"""

from collections.abc import Iterable

_LONGEST_LINE, _MOST_LINES = 2_000, 60


class GorlError(Exception):
    """Base class of every error whose message is meant for the user. It cuts what a bad value makes long."""

    def __init__(self, message: str = ""):
        super().__init__(_cut(str(message)))


def _cut(message: str) -> str:
    lines = message.split("\n")
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"... and {len(lines) - _MOST_LINES:_} more lines"]
    half = _LONGEST_LINE // 2
    return "\n".join(x if len(x) <= _LONGEST_LINE else f"{x[:half]} ... {x[-half:]}" for x in lines)


class ConfigError(GorlError, ValueError):
    """An invalid configuration: it cannot be read, or it would not do what it says."""


class RunError(GorlError, RuntimeError):
    """A run folder or a running experiment in a state from which gorl cannot continue."""


def did_you_mean(word: str, words: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Returns ' Did you mean A or B?', or '' if none of the words is close. Case is ignored."""
    import difflib

    by_lower = {w.lower(): w for w in sorted(set(words))}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=3, cutoff=cutoff)
    return f" Did you mean {' or '.join(by_lower[c] for c in close)}?" if close else ""
