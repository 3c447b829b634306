"""A page of headings, texts, tables and pictures, as Markdown and as a self-contained HTML file."""

import base64
import dataclasses
import html
from collections.abc import Sequence

from gorl.runtime.streams import one_line, printable


@dataclasses.dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True)
class Text:
    text: str


@dataclasses.dataclass(frozen=True)
class Listing:
    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Picture:
    name: str
    caption: str


Block = Heading | Text | Listing | Table | Picture

LONG = 36  # characters above which a cell may wrap
_STYLE = """
:root { color-scheme: light dark; --surface: #ffffff; --ink: #1a1a1a; --muted: #555555; --line: #e4e4e4; }
@media (prefers-color-scheme: dark) { :root { --surface: #16181d; --ink: #ececec; --muted: #a8adb7; --line: #31353d; } }
body { background: var(--surface); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; \
max-width: 72rem; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p, ul { max-width: 62rem; } ul { padding-left: 1.2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.35rem 0.9rem 0.35rem 0; \
border-bottom: 1px solid var(--line); }
td { white-space: nowrap; } td.long { white-space: normal; min-width: 16rem; overflow-wrap: anywhere; }
th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; } \
figcaption { color: var(--muted); font-size: 0.9rem; max-width: 62rem; }
"""


def markdown(blocks: Sequence[Block]) -> str:
    """Returns the page as Markdown. Its pictures are files <name>.png."""
    return printable("\n\n".join(_markdown(block) for block in blocks) + "\n")


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Text(text):
            return text
        case Listing(lines):
            return "\n".join(f"- {line}" for line in lines)
        case Table(header, rows):
            lines = [header, ("---",) * len(header), *rows]
            return "\n".join(
                f"| {' | '.join(one_line(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines
            )
        case Picture(name, caption):
            return f"![{caption}]({name}.png)\n\n{caption}"


def html_page(title: str, blocks: Sequence[Block], pictures: dict[str, tuple[bytes, bytes]]) -> str:
    """Returns the page as HTML. `pictures`: an SVG for light pages and one for dark pages, by picture name."""
    body = "\n".join(_html(block, pictures) for block in blocks)
    head = (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape(title)}</title>"
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block, pictures: dict[str, tuple[bytes, bytes]]) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_escape(text)}</h{level}>"
        case Text(text):
            return f"<p>{_escape(text)}</p>"
        case Listing(lines):
            return f"<ul>{''.join(f'<li>{_escape(line)}</li>' for line in lines)}</ul>"
        case Table(header, rows):
            head = "".join(f"<th>{_escape(cell)}</th>" for cell in header)
            body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
            return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'
        case Picture(name, caption):
            light, dark = map(_uri, pictures[name])
            source = f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
            image = f'{source}<img src="{light}" alt="{_escape(caption)}">'
            return f"<figure><picture>{image}</picture><figcaption>{_escape(caption)}</figcaption></figure>"


def _escape(text: str) -> str:
    """Returns a text, which may come from anybody's files, without characters that a page obeys."""
    return html.escape(printable(text))


def _cell(text: str) -> str:
    kind = ' class="long"' if len(text) > LONG else ""
    return f"<td{kind}>{_escape(text)}</td>"


def _uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
