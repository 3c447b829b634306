"""Random edits of texts: tokens, characters, numbers, lines."""

import random
import re
from collections.abc import Callable

TRIES = 200
TOKEN = re.compile(r"[\w.]+|[^\w\s]")
CHARACTERS = "=.,:/@%#'\"()[]{}_ \t\n-+*0aZé🙂‘’\u00a0\u2028\x00\x0c\x1b\r\\$\ud800"
NUMBER = re.compile(r"(?<![\w.'%@/])-?\d[\d_]*(?:\.\d+)?(?:e-?\d+)?(?![\w.'])")


def code(text: str) -> list[tuple[int, int]]:
    """Returns the spans of the lines' code, without comments."""
    spans, at = [], 0
    for line in text.splitlines(keepends=True):
        code = line.partition("#")[0].rstrip()
        if code:
            spans.append((at, at + len(code)))
        at += len(line)
    return spans


def replaced(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def position(rng: random.Random, text: str) -> int | None:
    spans = code(text)
    return rng.randrange(*rng.choice(spans)) if spans else None


def a_match(rng: random.Random, pattern: re.Pattern | str, text: str) -> re.Match | None:
    found = [m for s, e in code(text) for m in re.compile(pattern).finditer(text, s, e)]
    return rng.choice(found) if found else None


def edit_match(
    pattern: re.Pattern | str, new: Callable[[random.Random, re.Match], str]
) -> Callable[[random.Random, str], str | None]:
    def edit(rng: random.Random, text: str) -> str | None:
        match = a_match(rng, pattern, text)
        return match and replaced(text, *match.span(), new(rng, match))

    return edit


def edit_position(new: Callable[[random.Random, str, int], str]) -> Callable[[random.Random, str], str | None]:
    def edit(rng: random.Random, text: str) -> str | None:
        at = position(rng, text)
        return None if at is None else new(rng, text, at)

    return edit


def edit_lines(
    new: Callable[[random.Random, list[str], int], list[str]],
) -> Callable[[random.Random, str], str | None]:
    """Makes an edit `new(rng, lines, i)` of a random line that has code."""

    def edit(rng: random.Random, text: str) -> str | None:
        lines = text.splitlines(keepends=True)
        with_code = [i for i, line in enumerate(lines) if line.partition("#")[0].strip()]
        return "".join(new(rng, lines, rng.choice(with_code))) if with_code else None

    return edit


def swap_tokens(rng: random.Random, text: str) -> str | None:
    found = [m.span() for s, e in code(text) for m in TOKEN.finditer(text, s, e)]
    if len(found) < 2:
        return None
    (a, b), (c, d) = sorted(rng.sample(found, 2))
    return text[:a] + text[c:d] + text[b:c] + text[a:b] + text[d:]


def swap_references(rng: random.Random, text: str) -> str | None:
    found = [m.span() for s, e in code(text) for m in re.compile(r"[@%][\w./]+(?:\(\))?").finditer(text, s, e)]
    if len(found) < 2:
        return None
    (a, b), (c, d) = sorted(rng.sample(found, 2))
    return text[:a] + text[c:d] + text[b:c] + text[a:b] + text[d:]


def misspelt(rng: random.Random, word: str) -> str:
    i = rng.randrange(len(word))
    return rng.choice(
        (
            word[:i] + word[i + 1 :],
            word[:i] + word[i] + word[i:],
            word[:i] + rng.choice("abcxyzABCXYZ") + word[i + 1 :],
            word.swapcase(),
        )
    )


def swapped_lines(rng: random.Random, lines: list[str], i: int) -> list[str]:
    j = rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return lines
