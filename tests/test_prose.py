"""Text keeps the rules of CONTRIBUTING.md: lines of 120 columns, docstrings that are sentences, one spelling."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PYTHON = [p for folder in ("gorl", "tests", "experiments") for p in sorted((ROOT / folder).rglob("*.py"))]
MARKDOWN = [*sorted(ROOT.glob("*.md")), *sorted(p for f in ("docs", "experiments") for p in (ROOT / f).rglob("*.md"))]
GIN = [p for folder in ("gin_configs", "experiments") for p in sorted((ROOT / folder).rglob("*.gin"))]

LONGEST = 120
NO_SENTENCE_BEGINS = {"Of", "What", "Those", "Where", "Who", "As", "By", "That", "In"}
"""First words of docstrings that lean on the name of the function."""

BRITISH = re.compile(
    r"\b(?:(?:re|de)?normalis|regularis|optimis|initialis|serialis|parallelis|vectoris|standardis"
    r"|summaris|generalis)\w*"
    r"|\b(?:behaviour|colour|favour|neighbour)\w*|\b(?:cent|met)re\b",
    re.IGNORECASE,
)


def shown(path: pathlib.Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def prose(path: pathlib.Path) -> list[tuple[int, str]]:
    """The numbered lines of a Markdown file without tables, code blocks and lines that are one link."""
    lines, in_code = [], False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        in_code ^= line.startswith("```")
        if not in_code and not line.lstrip().startswith(("|", "![", "    ")):
            lines.append((number, line))
    return lines


def docstrings(path: pathlib.Path) -> list[tuple[int, str]]:
    nodes = ast.walk(ast.parse(path.read_text()))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    found = [(getattr(n, "lineno", 1), ast.get_docstring(n)) for n in nodes if isinstance(n, documented)]
    return [(line, text) for line, text in found if text]


def test_lines_of_prose_are_at_most_120_columns():
    long = [shown(p, n) for p in MARKDOWN for n, line in prose(p) if len(line) > LONGEST]
    assert long == []


def test_lines_of_gin_files_are_at_most_120_columns():
    lines = [(p, n, line) for p in GIN for n, line in enumerate(p.read_text().splitlines(), 1)]
    assert [shown(p, n) for p, n, line in lines if len(line) > LONGEST] == []


def test_docstrings_are_sentences():
    """They begin with a verb or a noun, not with a word that needs the name of the function to be understood."""
    fragments = [
        shown(path, line)
        for path in PYTHON
        if path.is_relative_to(ROOT / "gorl")
        for line, text in docstrings(path)
        if text.split()[0] in NO_SENTENCE_BEGINS
    ]
    assert fragments == []


@pytest.mark.parametrize("word", ["normaliser", "Optimised", "behaviour", "colour", "neighbours", "centre"])
def test_the_search_for_british_words_finds_them(word):
    assert BRITISH.search(f"a {word} there")


def test_spelling_is_american():
    texts = [p for p in (*PYTHON, *MARKDOWN, *GIN) if p != pathlib.Path(__file__)]
    lines = [(p, n, line) for p in texts for n, line in enumerate(p.read_text().splitlines(), 1)]
    assert [shown(p, n) for p, n, line in lines if BRITISH.search(line)] == []
