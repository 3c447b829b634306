"""Random edits of shipped files and command-line bindings, as users would break them.

A `Case` is a user's command and files. `mutants` yields edited cases. Every edit is one function in `EDITS`, and the
same seed gives the same mutants.
"""

import dataclasses
import itertools
import random
import re
from collections.abc import Callable, Iterator

from experiments.faults.cases import Case as Case, cases as cases
from experiments.faults.edits import (
    CHARACTERS,
    NUMBER,
    TOKEN,
    TRIES,
    edit_lines,
    edit_match,
    edit_position,
    misspelt,
    swap_references,
    swap_tokens,
    swapped_lines,
)
from gorl import registry  # noqa: F401  registers the names that edits draw from
from gorl.config import tables
from gorl.config.files import shipped

COMMON = (
    "OnPolicy", "ImprovePolicy", "FitDecoder", "CollectRollouts", "Experiment", "Stage", "Task", "Clip", "Evaluator",
    "MLP", "Critic", "GaussianPolicy", "RunningNormalizer", "GeneralizedAdvantage", "EntropyBonus", "LatentKL",
    "FlowMatchingDecoder", "Euler", "DiffusionDecoder", "FlowPolicy", "SAC", "AimTracker", "ActionDensity", "Study",
)  # fmt: skip
"""Classes that many runs use."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """An edited case.

    `edited` is the name of the edited file, or 'command line'. `expected` is 'refused', 'refused or noted' or 'same'
    (accepted, and builds the same as the original), or empty if the right outcome is unknown.
    """

    kind: str
    case: Case
    original: Case
    edited: str
    expected: str = ""


def mutants(count: int, seed: int, among: list[Case] | None = None) -> Iterator[Mutant]:
    """Yields `count` edited cases, with every kind of edit in turn and a random case for each.

    A kind is skipped if it applies to none of the cases tried.
    """
    rng, kinds, found = random.Random(seed), itertools.cycle(EDITS), among or cases()
    made = 0
    while made < count:
        kind = next(kinds)
        tries = (EDITS[kind](rng, rng.choice(found), kind) for _ in range(TRIES))
        mutant = next((m for m in tries if m is not None), None)
        if mutant is not None:
            yield mutant
            made += 1


# Edits of text, of bytes, and of the command line.


def _of_text(edit: Callable[[random.Random, str], str | None], expected: str = "") -> Callable[..., Mutant | None]:
    """Makes an edit of a random file's text or of a random command-line binding."""

    def make(rng: random.Random, case: Case, kind: str) -> Mutant | None:
        name, before = rng.choice(
            [*((n, t.decode()) for n, t in case.texts.items()), *(("command line", b) for b in case.bindings)]
        )
        after = edit(rng, before)
        if after is None or after == before or (name == "command line" and expected):
            return None
        if name == "command line":
            changed = dataclasses.replace(case, bindings=tuple(after if b == before else b for b in case.bindings))
        else:
            changed = dataclasses.replace(case, texts={**case.texts, name: after.encode("utf-8", "surrogatepass")})
        return Mutant(kind, changed, case, name, expected)

    return make


def _of_bytes(edit: Callable[[random.Random, bytes], bytes], expected: str = "") -> Callable[..., Mutant | None]:
    def make(rng: random.Random, case: Case, kind: str) -> Mutant | None:
        name = rng.choice(list(case.texts))
        after = edit(rng, case.texts[name])
        return (
            None
            if after == case.texts[name]
            else Mutant(kind, dataclasses.replace(case, texts={**case.texts, name: after}), case, name, expected)
        )

    return make


def _typed(edit: Callable[[random.Random, Case], str | None], expected: str = "") -> Callable[..., Mutant | None]:
    """Makes an edit that adds a binding to the command line."""

    def make(rng: random.Random, case: Case, kind: str) -> Mutant | None:
        binding = edit(rng, case)
        return binding and Mutant(
            kind, dataclasses.replace(case, bindings=(*case.bindings, binding)), case, "command line", expected
        )

    return make


def _appended(edit: Callable[[random.Random, Case], str | None], expected: str = "") -> Callable[..., Mutant | None]:
    """Makes an edit that adds a line at the end of a random file."""

    def make(rng: random.Random, case: Case, kind: str) -> Mutant | None:
        name, line = rng.choice(list(case.texts)), edit(rng, case)
        if line is None:
            return None
        text = case.texts[name].rstrip() + f"\n{line}\n".encode()
        return Mutant(kind, dataclasses.replace(case, texts={**case.texts, name: text}), case, name, expected)

    return make


# Edits of text. Positions are drawn from code, not from comments.

_ODD = (
    "0", "-1", "-7", "1", "2", "3", "10_000_000_000_000_000", "10**9", "1e300", "-1e300", "1e400", "-1e999", "1e999",
    "1e-300", "0.5", "1.0", "-0.0", "nan", "inf", "float('nan')", "'3'", "'abc'", "''", "None", "True", "False", "[]",
    "[1, 2]", "(1,)", "{}", "{'a': 1}", "%SEED", "%NOTHING", "@MLP", "@Clip()", "%jax.nn.silu", "0x10", "1j", "b'1'",
    "07", "1_0__0", "[[[1]]]", "1" * 400, "2147483648", "4294967296", "18446744073709551616",
)  # fmt: skip
_SIZES = (
    "num_envs", "unroll_length", "batch_size", "num_minibatches", "num_epochs", "env_steps", "episode_length", "epochs",
    "draws", "max_samples", "evaluation_interval", "steps", "width", "depth", "frequencies", "min_replay",
    "replay_capacity", "num_seeds", "divergence_limit",
)  # fmt: skip
_BUDGETS = (
    "0", "-1", "1", "2", "3", "7", "13", "97", "10_007", "1_000_003", "2_147_483_647", "10_000_000_000",
    "1_000_000_000_000_000_000", "10_000_000_000_000_000_000_000",
)  # fmt: skip


def _macros(case: Case) -> list[str]:
    return re.findall(r"(?m)^([A-Z][A-Z0-9_]+) *=", "".join(t.decode() for t in case.texts.values()))


def _typed_value(rng: random.Random, case: Case) -> str:
    """Returns a binding of an existing parameter to a value that may be invalid."""
    return f"{_a_parameter(rng)} = {rng.choice(_ODD)}"


def _a_parameter(rng: random.Random) -> str:
    known = [s for s in tables.registered() if tables.bindable_parameters(s)]
    common = [s for s in known if s.removeprefix("gorl.") in COMMON]
    selector = rng.choice(common if rng.random() < 0.7 else known)
    scope = rng.choice(("", "", "", "", "stage0/", "critic/", "policy/", "stage9/"))
    return f"{scope}{tables.show_name(selector)}.{rng.choice(list(tables.bindable_parameters(selector)))}"


def _typed_macro(rng: random.Random, case: Case) -> str | None:
    found = _macros(case)
    return f"{rng.choice(found)} = {rng.choice(_ODD)}" if found else None


def _typed_size(rng: random.Random, case: Case) -> str:
    known = [
        f"{tables.show_name(s)}.{p}"
        for s in tables.registered()
        if s.startswith("gorl.")
        for p in tables.bindable_parameters(s)
        if p in _SIZES
    ]
    return f"{rng.choice(known)} = {rng.choice(_BUDGETS)}"


def _typed_reference(rng: random.Random, case: Case) -> str:
    name = rng.choice([*tables.configurable_names(), *(f"%{c}" for c in tables.constants())])
    value = (
        name if name.startswith("%") else f"@{rng.choice(('', '', 'policy/', 'stage0/'))}{name}{rng.choice(('', '()'))}"
    )
    value = rng.choice((value, value, f"[{value}]", f"[{value}, {value}]", "{'a': " + value + "}"))
    return f"{_a_parameter(rng)} = {value}"


_ENVIRONMENTS = (
    "PlaygroundEnvironment.impl = 'wrap'", "PlaygroundEnvironment.obs_key = 'state'",
    "PlaygroundEnvironment.overrides = {'ctrl_dt': -1}", "PlaygroundEnvironment.overrides = {'nothing': 1}",
    "PlaygroundEnvironment.overrides = {1: 2}", "PlaygroundEnvironment.overrides = [3]",
    "PlaygroundEnvironment.overrides = {'sim_dt': 'x'}", "Task.environment = @BraxEnvironment()",
    "Task.environment = @MJCFEnvironment()", "Task.environment = @Slider", "Task.episode_length = 0",
)  # fmt: skip


def _environment(rng: random.Random, case: Case) -> str:
    name = rng.choice(
        (
            "CheetaRun",
            "cheetahrun",
            "ant",
            "Cheetah Run",
            "",
            "../x",
            "CheetahRun\\x00",
            "PandaPickCube",
            "🙂",
            "x" * 5000,
        )
    )
    return rng.choice(
        (f"ENV = '{name}'", f"PlaygroundEnvironment.name = '{name}'", f"Task.environment = '{name}'", *_ENVIRONMENTS)
    )


def _dead(rng: random.Random, case: Case) -> str:
    """Returns a binding without effect: of an unused macro or scope, or of a parameter that does not exist."""
    word = "".join(rng.choices("QXZJKW", k=7))
    name = rng.choice(COMMON)
    return rng.choice(
        (
            f"{word} = 3",
            f"{word.lower()}/{_a_parameter(rng).split('/')[-1]} = 1",
            f"{name}.{word.lower()} = 3",
            f"{word.title()}.width = 3",
            f"stage0/{word.lower()}/MLP.width = 3",
        )
    )


def _include_dropped(rng: random.Random, text: str) -> str | None:
    return edit_match(r"(?m)^include '[^']+'", lambda rng, m: "")(rng, text)


def _includes_moved(rng: random.Random, text: str) -> str | None:
    lines = text.splitlines(keepends=True)
    includes = [i for i, line in enumerate(lines) if line.startswith("include")]
    if not includes:
        return None
    line = lines.pop(rng.choice(includes))
    lines.insert(rng.randrange(len(lines) + 1), line)
    return "".join(lines)


def _included_other(rng: random.Random, m: re.Match) -> str:
    names = [str(p.relative_to(shipped())) for p in sorted(shipped().rglob("*.gin"))]
    name = rng.choice([*names, "nothing.gin", "", ".", "/", "..", "parts", "x" * 300 + ".gin", "a\\x00b.gin"])
    return f"include '{name}'"


def _other_bytes(rng: random.Random, text: bytes) -> bytes:
    i = rng.randrange(len(text))
    return text[:i] + rng.randbytes(rng.randrange(1, 5)) + text[i + 1 :]


_LONG = (
    f"ENV = '{'x' * 50_000}'\n",
    f"SEED = {'[' * 3000}{']' * 3000}\n",
    f"{'A' * 50_000} = 1\n",
    f"# {'x' * 100_000}\n",
)
_GARBAGE = (b"", b"\n", b"# nothing\n", b"{}", b"\x7fELF", b"<html>")
EDITS: dict[str, Callable[..., Mutant | None]] = {
    "delete a character": _of_text(edit_position(lambda rng, t, i: t[:i] + t[i + 1 :])),
    "duplicate a character": _of_text(edit_position(lambda rng, t, i: t[:i] + t[i] + t[i:])),
    "swap two characters": _of_text(edit_position(lambda rng, t, i: t[:i] + t[i + 1 : i + 2] + t[i] + t[i + 2 :])),
    "insert a character": _of_text(edit_position(lambda rng, t, i: t[:i] + rng.choice(CHARACTERS) + t[i:])),
    "delete a token": _of_text(edit_match(TOKEN, lambda rng, m: "")),
    "duplicate a token": _of_text(edit_match(TOKEN, lambda rng, m: f"{m[0]} {m[0]}")),
    "swap two tokens": _of_text(swap_tokens),
    "insert a token": _of_text(edit_match(TOKEN, lambda rng, m: f"{m[0]} {rng.choice(_ODD)} ")),
    "delete a line": _of_text(edit_lines(lambda rng, lines, i: lines[:i] + lines[i + 1 :])),
    "duplicate a line": _of_text(edit_lines(lambda rng, lines, i: lines[: i + 1] + lines[i:])),
    "swap two lines": _of_text(edit_lines(swapped_lines)),
    "indent a line": _of_text(
        edit_lines(
            lambda rng, lines, i: [*lines[:i], rng.choice((" ", "  ", "\t", "      ")) + lines[i], *lines[i + 1 :]]
        )
    ),
    "cut the text": _of_text(edit_position(lambda rng, t, i: t[:i])),
    "change a number": _of_text(edit_match(NUMBER, lambda rng, m: rng.choice(_ODD))),
    "change a value": _of_text(edit_match(r"(?<== )\S.*", lambda rng, m: rng.choice(_ODD))),
    "misspell a class": _of_text(edit_match(r"(?<![\w'])[A-Z]\w*[a-z]\w+", lambda rng, m: misspelt(rng, m[0]))),
    "misspell a parameter": _of_text(
        edit_match(r"(?<=[.])[a-z]\w+(?= *=)|(?<=  )[a-z]\w+(?= *=)", lambda rng, m: misspelt(rng, m[0]))
    ),
    "misspell a macro": _of_text(
        edit_match(r"%?\b[A-Z][A-Z0-9_]{2,}", lambda rng, m: m[0][0] + misspelt(rng, m[0][1:]))
    ),
    "misspell a scope": _of_text(edit_match(r"\w+(?=/)", lambda rng, m: misspelt(rng, m[0]))),
    "swap two references": _of_text(swap_references),
    "parentheses of a reference": _of_text(
        edit_match(r"@[\w./]+(?:\(\))?", lambda rng, m: m[0][:-2] if m[0].endswith(")") else m[0] + "()")
    ),
    "drop an include": _of_text(_include_dropped),
    "move an include": _of_text(_includes_moved),
    "include something else": _of_text(edit_match(r"include '[^']+'", _included_other)),
    "a bracket or quote": _of_text(
        edit_match(r"[\[\](){}'\"]", lambda rng, m: rng.choice(("", m[0] * 2, *"[](){}'\"")))
    ),
    "BOM": _of_bytes(lambda rng, b: b"\xef\xbb\xbf" + b, "same"),
    "CRLF": _of_bytes(lambda rng, b: b.replace(b"\n", b"\r\n"), "same"),
    "comments and blanks": _of_bytes(
        lambda rng, b: b.replace(b"\n", rng.choice((b"\n\n", b"   \n", b"  # \xc3\xa9\n"))), "same"
    ),
    "CR": _of_bytes(lambda rng, b: b.replace(b"\n", b"\r")),
    "another encoding": _of_bytes(
        lambda rng, b: rng.choice(
            (b.decode().encode("utf-16"), b + b"\n# \xe9\n", b"\xff" + b, b"\x00" + b, b + b"\x00")
        )
    ),
    "bytes": _of_bytes(_other_bytes),
    "a very long line": _of_text(edit_lines(lambda rng, lines, i: [*lines[:i], rng.choice(_LONG), *lines[i:]])),
    "a garbage file": _of_bytes(lambda rng, b: rng.choice((*_GARBAGE, rng.randbytes(200)))),
    "type a value": _typed(_typed_value),
    "type a macro": _typed(_typed_macro),
    "type a size": _typed(_typed_size),
    "type a reference": _typed(_typed_reference),
    "type an environment": _typed(_environment),
    "type a dead binding": _typed(_dead, "refused"),
    "write a dead binding": _appended(_dead, "refused or noted"),
    "write a value": _appended(_typed_value),
    "type nonsense": _typed(lambda rng, case: "".join(rng.choices(CHARACTERS + "SEEDENV", k=rng.randrange(1, 12)))),
}
