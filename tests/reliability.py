"""The tables of docs/reliability.md, from the marks `reported` of tests. `python -m tests.reliability` writes them.

    @pytest.mark.reported("shapes", "pytorch/rl#1243", "a `Batch` with reward (B, T, 1)", "`ValueError`, both shapes")

gives one row: where it was reported ("" where nobody did: tried here), what is done, what happens, the test.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"
KINDS = {
    "shapes": "Shapes, flags and states made by hand",
    "data": "Your own data",
    "names": "Names and paths",
    "settings": "Settings of other tools",
    "machines": "Odd machines",
    "numbers": "Honest numbers",
    "messages": "Messages",
    "friction": "Everyday friction",
}


class Row(NamedTuple):
    kind: str
    source: str
    when: str
    then: str
    test: str


def rows() -> Iterator[Row]:
    """A row for every mark, in the order of files and lines.

    Raises: ValueError for a mark that is not four strings, the first of them a kind."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.reported":
                    place = f"{path.relative_to(TESTS.parent)}::{node.name}"
                    words = [ast.literal_eval(word) for word in mark.args]
                    if len(words) != 4 or words[0] not in KINDS:
                        raise ValueError(f"{place}: expected reported(kind, source, when, then), kind of {list(KINDS)}")
                    yield Row(*words, place)


def tables() -> str:
    """A heading and a table for every kind."""
    all_rows, lines = list(rows()), []
    for kind, title in KINDS.items():
        lines += [f"### {title}\n", "| reported | when | then | test |", "|---|---|---|---|"]
        for row in all_rows:
            if row.kind == kind:
                file, name = row.test.split("::")
                words = name.removeprefix("test_").replace("_", " ")
                lines.append(f"| {row.source or 'tried here'} | {row.when} | {row.then} | [{words}](../{file}) |")
        lines.append("")
    return "\n".join(lines)


def page() -> str:
    """The page as it is, with the tables of today."""
    begin, end = "<!-- made by python -m tests.reliability -->\n", "<!-- end -->"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}{tables()}{end}", PAGE.read_text(), flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page())
