"""Judges gorl's response to a broken configuration: a clear refusal, an acceptance with an effect, or a defect of gorl.

Whether a binding has an effect is judged independently of gorl's check: the configuration is resolved again with
another value in its place (`gorl.config.resolve`), and must come out different.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import signal
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

from experiments.faults.mutations import Case, Mutant
from gorl import config
from gorl.config import resolve, tables
from gorl.config.checks import STUDY
from gorl.config.sources import COMMAND_LINE, Source
from gorl.errors import GorlError
from gorl.studies.plan import make_plan

# Words that need knowledge of the internals of gin, Python or JAX.
JARGON = (
    "In call to configurable", "malformed node", "<ast", "Failed to parse", "gin.macro", "No configurable",
    "bindings string", "denylist", "<class", "Traceback", "0x7", "EOF", "ExceptionProxy", "None: ", "ShapeDtypeStruct",
    "Traced<", "codec can't", "NoneType",
)  # fmt: skip
LONGEST = 3000  # characters of a message, without its quotations
_END = re.compile(r"[.?!)]$")
_PROBE = "a value that no file can have"


class Hang(BaseException):
    """Raised when a check takes too long. It is not an Exception, so no `except Exception` can catch it."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A judgment. `outcome` is 'refused', 'accepted', 'accepted with a note', or 'defect', which `text` describes."""

    outcome: str
    text: str = ""


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def place(case: Case, folder: pathlib.Path) -> None:
    """Writes the user's files to `folder`."""
    for name, text in case.texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)


def begun(case: Case) -> Any:
    """Builds a configuration, as `gorl check` and the start of `gorl train` or `gorl sweep` do before compiling."""
    if case.study:
        make_plan(case.files, case.bindings)
    configuration = config.build(case.files, case.bindings)
    experiment = configuration.experiment
    for step in experiment.planned_phases():
        experiment.units(step)
    experiment.env_steps()
    for alone in {experiment.seeds[0], experiment.seeds[-1]}:
        _ = configuration.for_seed(alone).config, configuration.for_seed(alone).operative, configuration.parameters()
    return configuration


def judge(mutant: Mutant, folder: pathlib.Path, *, seconds: float, again: bool = False) -> Verdict:
    """Judges one mutant in `folder`, which must be the working directory.

    `again` also traces the start of its phases, and reads back the configuration that it would save.
    """
    place(mutant.case, folder)
    try:
        with limit(seconds), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", DeprecationWarning)  # Brax raises some when it is imported
            configuration = begun(mutant.case)
            found = _accepted(mutant, configuration)
            return found or (_again(configuration, folder) if again else None) or _fitting(mutant, configuration)
    except Hang:
        return Verdict("defect", f"hangs: not done after {seconds} seconds")
    except GorlError as err:
        return _refused(mutant, err)
    except Exception as err:
        return Verdict("defect", f"{type(err).__name__}: {err}\n{''.join(traceback.format_tb(err.__traceback__)[-3:])}")
    finally:
        place(mutant.original, folder)


def _refused(mutant: Mutant, err: GorlError) -> Verdict:
    message = str(err)
    said = re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", "", message)
    if mutant.expected == "same":
        return Verdict("defect", f"refused, though it says the same: {message}")
    unclear = [word for word in JARGON if word in said]
    if unclear or not _END.search(message) or len(said) > LONGEST or re.search(r"[\x00-\x08\x0b-\x1f\x7f]", message):
        return Verdict(
            "defect",
            f"not a clear message ({', '.join(unclear) or 'its end, length or characters'}): {message[:1000]!r}",
        )
    if re.search(r"has no effect|nothing uses %", message) and not mutant.case.study and not _some_dead():
        return Verdict("defect", f"refused as without effect, but every binding has one: {message}")
    return Verdict("refused", message)


def _accepted(mutant: Mutant, configuration: Any) -> Verdict | None:
    """Returns a defect if a user's binding has no effect and is neither refused nor, in a file, noted."""
    source: Source = configuration.source
    noted = {
        f"{m[1]}:{n}"
        for note in configuration.notes
        for m in [re.match(r"(.*?):([\d, ]+): ", note)]
        if m
        for n in m[2].split(", ")
    }
    for key in dead(configuration.tables, source):
        origin = source.origins[key]
        if key[1] != STUDY and str(origin) not in noted:
            return Verdict("defect", f"silently accepted: {tables.show_key(key)} ({origin}) reaches nothing")
    return None


def _fitting(mutant: Mutant, configuration: Any) -> Verdict:
    if mutant.expected == "refused" or (mutant.expected == "refused or noted" and not configuration.notes):
        return Verdict("defect", "accepted, though a binding reaches nothing")
    if mutant.expected == "same":
        place(mutant.original, pathlib.Path.cwd())
        if _tree(mutant.original.files, mutant.original.bindings, tuple(mutant.original.texts.items())) != repr(
            configuration.tree
        ):
            return Verdict("defect", "does not build what it did, though it says the same")
    return Verdict("accepted with a note" if configuration.notes else "accepted")


@functools.cache
def _tree(files: tuple[str, ...], bindings: tuple[str, ...], texts: tuple) -> str:
    """Returns the tree that an original, whose files are in the working directory, builds."""
    del texts
    return repr(config.build(files, bindings).tree)


def _again(configuration: Any, folder: pathlib.Path) -> Verdict | None:
    """Traces the start of every phase, and returns a defect if the saved configuration builds another experiment."""
    experiment = configuration.experiment
    if experiment.task.environment.describe()["library"] == "gorl":  # a toy, whose model is cheap to build
        experiment.template(len(list(experiment.planned_phases())), False)
    for text in (configuration.config, configuration.operative):
        (folder / "saved.gin").write_text(text, encoding="utf-8")
        if repr(config.build(["saved.gin"]).tree) != repr(configuration.tree) and text is configuration.config:
            return Verdict("defect", "its saved configuration builds something else")
    return None


def dead(now: tables.GinSnapshot, source: Source) -> list[tables.Key]:
    """Returns the bindings in the user's files and on the command line that do not reach the experiment."""
    return unreached(
        now,
        [
            key
            for key, origin in source.origins.items()
            if origin.file == COMMAND_LINE or origin.file not in source.shipped
        ],
    )


def unreached(now: tables.GinSnapshot, keys: list[tables.Key]) -> list[tables.Key]:
    """Returns the bindings whose value appears nowhere in the resolved experiment.

    Plain values are probed together. A value with references is probed alone, since replacing it also removes the
    objects that it refers to.
    """
    plain = [key for key in keys if not tables.references(now.bound[key[:2]][key[2]])]
    return [key for group in (plain, *([key] for key in keys if key not in plain)) for key in _absent(now, group)]


def _absent(now: tables.GinSnapshot, keys: list[tables.Key]) -> list[tables.Key]:
    bound = {where: dict(values) for where, values in now.bound.items()}
    probes = {key: f"<{_PROBE} {i}>" for i, key in enumerate(keys)}
    for key, probe in probes.items():
        bound[key[:2]][key[2]] = probe
    tree = repr(resolve.resolved_tree(dataclasses.replace(now, bound=bound), "gorl.Experiment"))
    return [key for key, probe in probes.items() if probe not in tree]


def _some_dead() -> bool:
    """Whether a binding that was read last does not reach the experiment. A refusal leaves no Configuration to ask."""
    return bool(unreached(tables.GinSnapshot.take(), [key for key, _ in tables.bindings()]))


@contextlib.contextmanager
def working_in(folder: pathlib.Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
