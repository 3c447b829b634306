"""Errors that a user can act on.

Their message says what is wrong, where, and how to fix it. The command line prints only the message.
"""

from collections.abc import Iterable


class GorlError(Exception):
    """Base class of every error whose message is meant for the user."""


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
