"""What was read, and where every binding was made."""

import dataclasses
import re
from typing import Any

from gorl.config.tables import Key

COMMAND_LINE = "command line"
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
"""Characters that a message does not repeat as they are: a terminal would obey them, or end the line."""
_LONGEST = 300


def printable(text: str) -> str:
    """As a message quotes it."""
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return UNPRINTABLE.sub(lambda m: m[0].encode("unicode_escape").decode(), short)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a binding was made. `line` is 0 for the command line, whose `text` is the binding itself."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else f"{COMMAND_LINE} `{printable(self.text)}`"

    @property
    def quoted(self) -> str:
        """With the text of the line."""
        return f"{self.file}:{self.line}: `{printable(self.text)}`" if self.line and self.text else str(self)


@dataclasses.dataclass(frozen=True)
class Change:
    """A binding, and what held before: its own `old` value (at `before`), or that of a less specific scope, `inherited`."""

    key: Key
    new: Any
    origin: Origin
    old: Any = None
    before: Origin | None = None
    inherited: Key | None = None


@dataclasses.dataclass
class Source:
    """`origins`: of the bindings that hold. `texts`: of every file, by path. `named`: the files as they were asked for.
    `includes`: what each file includes. `shipped`: the files that come with gorl."""

    origins: dict[Key, Origin] = dataclasses.field(default_factory=dict)
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    changes: list[Change] = dataclasses.field(default_factory=list)
    named: list[str] = dataclasses.field(default_factory=list)
    includes: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    shipped: set[str] = dataclasses.field(default_factory=set)
