"""The blocks of commands in a Markdown text, section by section."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

README = Path(__file__).parents[2] / "deploy" / "README.md"
TITLE = re.compile(r"^#{2,3} (.+)$")
ASSIGNED = re.compile(r"^([A-Z_]+)=", re.MULTILINE)


def sections(text: str) -> Mapping[str, list[str]]:
    """The unchanged blocks marked ``sh`` of each section, by its title."""
    found: dict[str, list[str]] = {}
    title = ""
    block: list[str] | None = None
    for line in text.split("\n"):
        if block is not None:
            if line == "```":
                found.setdefault(title, []).append("\n".join(block))
                block = None
            else:
                block.append(line)
        elif line == "```sh":
            block = []
        elif match := TITLE.match(line):
            title = match[1]
    return found


def as_one_shell(blocks: list[str]) -> Iterator[str]:
    """Each block as a script that passes its variables on to the next, as in a single shell."""
    names = sorted({name for block in blocks for name in ASSIGNED.findall(block)})
    kept = " ".join(f'"${{{name}@A}}"' for name in names)
    for block in blocks:
        yield (
            "[ ! -e /run/typed ] || . /run/typed\n"
            f"{block}\n"
            f"set +u; (umask 077; printf '%s\\n' {kept} > /run/typed)\n"
        )
