"""The way from gorl to a terminal. Names, paths and messages may come from anybody's files, so they are only shown."""

from typing import TYPE_CHECKING, Any

import typer

from gorl.runtime.streams import one_line, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def echo(text: object = "", *, err: bool = False) -> None:
    """Prints text and a line feed, with control characters as codes."""
    typer.echo(printable(str(text)), err=err)


def console(**settings: Any) -> "Console":
    """Returns a console that takes no markup, and prints control characters of texts as codes."""
    from rich.console import Console
    from rich.segment import Segment

    class Terminal(Console):
        def render_str(self, text: str, **named: Any) -> "Text":
            return super().render_str(printable(text), **named)

        def render(self, *arguments: Any, **named: Any) -> Any:
            for segment in super().render(*arguments, **named):
                yield segment if segment.control else Segment(printable(segment.text), segment.style)

    return Terminal(markup=False, highlight=False, emoji=False, **settings)


def plain(text: object) -> "Text":
    """Returns a text on one line, for a cell of a table."""
    from rich.text import Text

    return Text(one_line(text))
