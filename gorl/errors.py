"""Errors that a user can act on. Their text says what is wrong, where, and the fix; the command line prints just that."""


class GorlError(Exception):
    """Base class of every error whose message is meant for the user."""


class ConfigError(GorlError, ValueError):
    """A configuration that cannot be read, or that would not do what it says."""


class RunError(GorlError, RuntimeError):
    """A run folder or a running experiment in a state that gorl cannot go on from."""


def did_you_mean(word: str, words, *, cutoff: float = 0.6) -> str:
    """' Did you mean A or B?', or '' where nothing is close (case is ignored)."""
    import difflib

    by_lower = {w.lower(): w for w in sorted(set(words))}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=3, cutoff=cutoff)
    return f" Did you mean {' or '.join(by_lower[c] for c in close)}?" if close else ""
