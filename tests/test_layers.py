"""The house stays a house: imports of every kind form no circle and never climb to a higher layer."""

import ast
import pathlib

from gorl.version import HOME

LAYERS = (
    ("version", "errors"),
    ("runtime",),
    ("fields",),
    ("state",),
    ("optimizers",),
    ("networks",),
    ("generative",),
    ("policies",),
    ("decoders",),
    ("objectives",),
    ("environments",),
    ("acting",),
    ("algorithms",),
    ("phases",),
    ("runs",),
    ("tracking",),
    ("pictures",),
    ("experiment",),
    ("config",),
    ("reuse",),
    ("training",),
    ("analysis",),
    ("studies",),
    ("registry", "cli"),
)
"""Packages and loose modules of gorl, lowest first. A module imports its own package and lower layers."""

LARGEST_MODULE = 350
MOST_LOOSE_MODULES = 7


def modules() -> dict[str, pathlib.Path]:
    """Returns every module of gorl by its dotted name."""
    found = {}
    for path in HOME.rglob("*.py"):
        parts = ("gorl", *path.relative_to(HOME).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: pathlib.Path, known: dict[str, pathlib.Path]) -> set[str]:
    """Returns the modules of gorl that a module imports: at its top, in functions, and for type checkers alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {module if module in known else node.module for module in whole}
    return {module for module in found if module in known} - {name}


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(name, path, known) for name, path in known.items()}


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Returns the modules of a circle in order, or nothing."""
    done: set[str] = set()

    def visit(name: str, chain: list[str]) -> list[str]:
        if name in chain:
            return [*chain[chain.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges[name]):
            if found := visit(other, [*chain, name]):
                return found
        done.add(name)
        return []

    for name in sorted(edges):
        if found := visit(name, []):
            return found
    return []


def layer(module: str) -> int:
    """Returns the number of a module's layer; the package gorl itself, which offers its functions, is the highest."""
    if module == "gorl":
        return len(LAYERS)
    room = module.split(".")[1]
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_imports_form_no_circle():
    assert circle(graph()) == []


def test_the_search_finds_a_circle():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_every_module_has_a_layer():
    rooms = {module.split(".")[1] for module in modules() if module != "gorl"}
    assert rooms == {room for rooms in LAYERS for room in rooms}


def test_no_import_climbs_to_a_higher_layer():
    """Rooms of one layer do not import each other either."""
    climbs = [
        (name, other)
        for name, others in graph().items()
        for other in others
        if room(name) != room(other) and layer(other) >= layer(name)
    ]
    assert climbs == []


def test_few_modules_are_loose_and_none_is_long():
    loose = [path.name for path in HOME.glob("*.py") if path.name != "__init__.py"]
    assert len(loose) <= MOST_LOOSE_MODULES, loose
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: count for name, count in lengths.items() if count > LARGEST_MODULE} == {}
