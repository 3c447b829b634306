"""The files and bindings that were read, and where every binding was made."""

import dataclasses
import re
from typing import Any

from gorl.config.tables import Key

COMMAND_LINE = "command line"
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
"""Characters that messages escape, because a terminal would obey them or end the line."""
INVISIBLE = re.compile(
    r"[\xa0\xad\u034f\u061c\u115f\u1160\u1680\u180e\u2000-\u200f\u202a-\u202f\u205f-\u206f\u3000\ufeff]"
)
"""Characters that look like a space, or like nothing, and so make two names that look the same differ."""
_LONGEST = 300


def printable(text: str) -> str:
    """Returns a text as messages quote it: shortened, with control characters escaped."""
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return UNPRINTABLE.sub(lambda m: m[0].encode("unicode_escape").decode(), short)


def shortened(text: str, longest: int = 80) -> str:
    """Returns a text with its middle left out if it is long."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


@dataclasses.dataclass(frozen=True)
class Origin:
    """The place of a binding. `line` is 0 for the command line, whose `text` is the binding itself."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else f"{COMMAND_LINE} `{printable(self.text)}`"

    @property
    def quoted(self) -> str:
        """The place with the text of its line."""
        return f"{self.file}:{self.line}: `{printable(self.text)}`" if self.line and self.text else str(self)


@dataclasses.dataclass(frozen=True)
class Change:
    """A binding and what it replaces: its `old` value (bound at `before`), or a less specific scope's (`inherited`).

    `within`: the files that include each other down to the one that has it, the named one first; () if it is typed.
    """

    key: Key
    new: Any
    origin: Origin
    old: Any = None
    before: Origin | None = None
    inherited: Key | None = None
    within: tuple[str, ...] = ()


@dataclasses.dataclass
class Source:
    """The files and bindings of a configuration.

    `origins`: the origin of every current binding. `texts`: the text of every file, by path. `named`: the files that
    were requested. `includes`: the files that each file includes. `shipped`: the files that come with gorl.
    `reads`: how often any file was read.
    """

    origins: dict[Key, Origin] = dataclasses.field(default_factory=dict)
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    changes: list[Change] = dataclasses.field(default_factory=list)
    named: list[str] = dataclasses.field(default_factory=list)
    includes: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    shipped: set[str] = dataclasses.field(default_factory=set)
    reads: int = 0
