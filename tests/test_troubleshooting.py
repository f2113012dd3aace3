"""Each message that ``docs/troubleshooting.md`` quotes is one of the program's."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs/troubleshooting.md").read_text()
CELL = re.compile(r"^\| (.*?) \| ", re.MULTILINE)
POSTGRES = {"No space left on device"}
"""Messages of other programs that the archiver passes on."""
COMMAND = re.compile(r"archiver \w+$")


def quoted() -> list[str]:
    """The texts in code marks in the tables' first column that are messages, not commands."""
    found = [text for cell in CELL.findall(DOCUMENT) for text in re.findall(r"`([^`]+)`", cell)]
    return [text for text in found if text not in POSTGRES and not COMMAND.match(text)]


def texts() -> Iterator[str]:
    """All texts of the program except docstrings, with ``…`` where values are filled in."""
    for path in sorted((ROOT / "archiver").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        filled = [node for node in nodes if isinstance(node, ast.JoinedStr)]
        parts = {id(part) for one in filled for part in one.values}
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for one in filled:
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…" for part in one.values
            )
        for node in nodes:
            is_whole = id(node) not in parts | docstrings
            if is_whole and isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


SAID = sorted(set(texts()))


def test_many_messages_are_quoted() -> None:
    assert len(quoted()) >= 50


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_one_of_the_program(message: str) -> None:
    assert any(message.removeprefix("…") in said for said in SAID), message
