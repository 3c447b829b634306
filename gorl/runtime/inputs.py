"""Files that a configuration names: where they are found, and what they are made of."""

import contextlib
import contextvars
import dataclasses
import hashlib
import os
import pathlib
import types
from collections.abc import Iterator, Mapping, Sequence
from xml.etree import ElementTree

_FOLDERS = ("meshdir", "texturedir", "assetdir")
"""Attributes of MJCF's <compiler> that name folders of other files."""

_kept: contextvars.ContextVar[Mapping[str, pathlib.Path]] = contextvars.ContextVar(
    "kept", default=types.MappingProxyType({})
)
_beside: contextvars.ContextVar[Sequence[pathlib.Path]] = contextvars.ContextVar("beside", default=())


named: set[pathlib.Path] = set()
"""Every file of every `InputFile` of this process."""


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file that a configuration names, such as a MuJoCo model.

    `name` is the path as it is written there. `path` is the file that was found, or where it was looked for. `sha256`
    is a hash of its content and of the content of every file that it names (`parts`), and is empty without a file.
    Equal objects have equal content, so a program that was compiled for one content is not used for another.
    """

    name: str
    path: str
    sha256: str

    @classmethod
    def find(cls, name: str) -> "InputFile":
        """Finds a file: the copy that a run's folder keeps, one below the working directory, one beside a gin file."""
        if isinstance(name, InputFile):  # an environment is copied with other settings
            return name
        written = pathlib.Path(name).expanduser()
        places = [pathlib.Path.cwd() / written, *(folder / written for folder in _beside.get())]
        path = _kept.get().get(name) or next((p for p in places if p.is_file()), places[0])
        path = pathlib.Path(os.path.abspath(path))
        if not path.is_file():
            return cls(name, str(path), "")
        named.update(found := parts(path))
        return cls(name, str(path), content_hash(found))

    @property
    def is_there(self) -> bool:
        """Whether the file was found."""
        return bool(self.sha256)

    def parts(self) -> tuple[pathlib.Path, ...]:
        """Returns the file and all files that it names, by their absolute paths."""
        return parts(pathlib.Path(self.path))

    def __str__(self) -> str:
        return self.name


@contextlib.contextmanager
def looking_in(kept: Mapping[str, pathlib.Path], beside: Sequence[pathlib.Path]) -> Iterator[None]:
    """Context manager in which files are found in a run's folder, by their names, and beside these folders."""
    tokens = _kept.set({**kept}), _beside.set(tuple(beside))
    try:
        yield
    finally:
        _kept.reset(tokens[0])
        _beside.reset(tokens[1])


def current_places() -> tuple[Mapping[str, pathlib.Path], Sequence[pathlib.Path]]:
    """Returns the arguments of the innermost `looking_in`."""
    return _kept.get(), _beside.get()


def parts(path: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """Returns a file and the files that it names at any depth, sorted: of MJCF, its includes, meshes and textures.

    A text in an attribute of an XML file names a file if there is one, in the folder of the first file, in the folders
    of its <compiler>, or beside the file that names it.
    """
    first, found, waiting = path.parent, {path}, [path]
    folders = [first]
    texts: dict[pathlib.Path, list[str]] = {}
    while waiting:
        current = waiting.pop()
        if current.suffix.lower() not in (".xml", ".mjcf", ".urdf"):
            continue
        names, more = _attributes(current)
        texts[current] = names
        folders += [first / folder for folder in more if first / folder not in folders]
        for owner, known in texts.items():  # a folder that was named late holds for all
            for name in known:
                other = next((f / name for f in [*folders, owner.parent] if _is_file(f / name)), None)
                other = other and pathlib.Path(os.path.abspath(other))
                if other is not None and other not in found:
                    found.add(other)
                    waiting.append(other)
    return tuple(sorted(found))


def _attributes(path: pathlib.Path) -> tuple[list[str], list[str]]:
    """Returns the texts of all attributes of an XML file that may name files, and the folders of its <compiler>."""
    try:
        elements = list(ElementTree.parse(path).iter())
    except (OSError, ElementTree.ParseError, ValueError):  # MuJoCo will say what is wrong with it
        return [], []
    texts = [value for element in elements for name, value in element.attrib.items() if name.startswith("file")]
    texts += [e.attrib[name] for e in elements for name in ("filename",) if name in e.attrib]
    folders = [e.attrib[name] for e in elements if e.tag == "compiler" for name in _FOLDERS if name in e.attrib]
    return texts, folders


def _is_file(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def content_hash(paths: Sequence[pathlib.Path]) -> str:
    """Returns a hash of files: of their contents, and of their places relative to each other."""
    common = pathlib.Path(os.path.commonpath([path.parent for path in paths]))
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(common)}\0{file_hash(path)}\n".encode())
    return digest.hexdigest()


def file_hash(path: pathlib.Path) -> str:
    """Returns a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
