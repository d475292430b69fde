"""docs/threat-model.md: every claim names tests, and they exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
TABLES, _, UNPROTECTED = PAGE.partition("## Not protected")
ROWS = [
    line.strip("| ").split(" | ")
    for line in TABLES.splitlines()
    if line.startswith("| ") and not line.startswith("| claim")
]
_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def collected_in(path):
    """The names of the functions that pytest collects from a file, outside of classes."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_who_is_meant():
    """Each of the six has a table of its own, and what is not protected follows them."""
    titles = re.findall(r"^## (.*)$", TABLES, re.MULTILINE)
    assert len(titles) == 6
    for word, title in zip(("disk", "user", "Root", "module", "network", "token"), titles, strict=True):
        assert word in title
    assert UNPROTECTED.count("\n- **") >= 5


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:50] for row in ROWS])
def test_each_claim_is_shown(row):
    """It names at least one test, nothing but tests, and pytest collects each under that name."""
    claim, shown = row
    assert claim
    names = _NAME.findall(shown)
    assert names
    assert _NAME.sub("", shown).strip(", ") == ""
    for path, name in names:
        assert re.fullmatch(r"test_\w+\.py", Path(path).name)
        assert name in collected_in(path)
