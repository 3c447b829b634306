"""Commands and files of users, shipped ones and ones of their own, that mutants are made of."""

import dataclasses
import pathlib

from gorl.config.files import runnable_files, shipped

EXPERIMENTS = shipped().parent / "experiments"


TOY = ("Task.environment = @Slider()",)


PARTS = ("parts/small.gin", "parts/debug.gin", "parts/small_flow.gin", "parts/small_sac.gin")


@dataclasses.dataclass(frozen=True)
class Case:
    """A user's files and command line.

    `texts` maps the names of the user's files to their bytes. `files` and `bindings` are the typed words. `study` is
    whether the command is `gorl sweep`.
    """

    texts: dict[str, bytes]
    files: tuple[str, ...]
    bindings: tuple[str, ...] = ()
    study: bool = False


def _own(*files: str, bindings: tuple[str, ...] = (), study: bool = False) -> Case:
    """Returns a case whose files are copies of shipped ones."""
    texts = {pathlib.Path(f).name if pathlib.Path(f).is_absolute() else f: _shipped_text(f) for f in files}
    return Case(texts, tuple(texts), bindings, study)


def _shipped_text(name: str) -> bytes:
    return (shipped() / name).read_bytes()


def cases() -> list[Case]:
    """Returns typical commands: methods alone, with a task and sizes, with a preset or control; and studies."""
    tasks = [f"parts/tasks/{p.name}" for p in sorted((shipped() / "parts/tasks").glob("*.gin"))]
    changes = [
        f"{folder}/{p.name}" for folder in ("controls", "presets") for p in sorted((shipped() / folder).glob("*.gin"))
    ]
    found = []
    for i, method in enumerate(runnable_files(shipped())):
        sizes = next(p for p in (*PARTS[2:], PARTS[i % 2]) if p == PARTS[i % 2] or p[12:-4] in method)
        found += [
            _own(method),
            _own(method, tasks[i % len(tasks)], sizes),
            _own(method, "parts/debug.gin", bindings=TOY),
        ]
    for i, change in enumerate(changes):
        found.append(_own("gorl_diffusion.gin" if i % 2 else "gorl_fm.gin", change, "parts/debug.gin", bindings=TOY))
    studies = [
        EXPERIMENTS / name for name in runnable_files(EXPERIMENTS) if b"Study." in (EXPERIMENTS / name).read_bytes()
    ]
    return found * 6 + [_own(str(p), study=True) for p in studies]  # studies only once: each takes seconds
