"""docs/faults.md promises nothing without a test of that name."""

import ast
import pathlib
import re

TESTS = pathlib.Path(__file__).parents[1]


def test_every_row_names_tests_that_exist():
    text = (TESTS.parent / "docs" / "faults.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| What can")]
    assert len(rows) > 20
    for row in rows:
        assert len(re.split(r"(?<!\\) \| ", row)) == 4, row  # what goes wrong, what gorl does, what you do, the test
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            [path] = TESTS.rglob(file)
            functions = {n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)}
            assert test in functions, (file, test)
