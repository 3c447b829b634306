"""Packages export the public names that docs/extending.md lists, and the shipped example uses no others."""

import ast
import importlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLE = ROOT / "experiments" / "extending" / "my_parts.py"


def listed() -> dict[str, set[str]]:
    """Returns the names by package, from the list under 'The public packages'."""
    section = (ROOT / "docs" / "extending.md").read_text().partition("## The public packages")[2].partition("\n## ")[0]
    items = re.findall(r"^- `(gorl\.\w+)`:((?:.*\n)(?:  .*\n)*)", section, re.MULTILINE)
    return {package: set(re.findall(r"`(\w+)`", names)) for package, names in items}


def test_there_is_a_list():
    assert len(listed()) >= 10 and {"AbstractDecoder", "IdentityDecoder"} <= listed()["gorl.decoders"]


@pytest.mark.parametrize("package", sorted(listed()))
def test_every_listed_name_is_exported(package):
    module = importlib.import_module(package)
    assert {name for name in listed()[package] if not hasattr(module, name)} == set()


def test_the_example_imports_public_names_alone():
    imports = [n for n in ast.walk(ast.parse(EXAMPLE.read_text())) if isinstance(n, ast.ImportFrom)]
    ours = {(n.module, alias.name) for n in imports if n.module.startswith("gorl") for alias in n.names}
    assert ours and {(m, name) for m, name in ours if name not in listed().get(m, ())} == set()
