"""The commands and options that the README and the docs tell people to type exist."""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")]),
]
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
FENCE = re.compile(r"^```(sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN_COMMANDS = set(re.findall(r"^@command\ndef (\w+)", (ROOT / "run").read_text(), re.MULTILINE))


def typed(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of ours in the blocks of *text* marked sh or console.

    In a console block, what follows ``$`` is typed and the rest is answered.
    """
    for kind, block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").split("\n"):
            if kind == "console" and not line.startswith("$ "):
                continue
            tokens = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;()<>")
            tokens.commenters = "#"
            words: list[str] = []
            for token in [*tokens, ";"]:
                if set(token) <= set("|&;()"):
                    if words and words[0] in {"./run", "archiver"}:
                        yield words
                    words = []
                elif words or not re.match(r"\w+=", token):
                    words.append(token)


def problem(words: list[str], main: click.Command) -> str | None:
    """Tell what is wrong with a command: a name or an option that does not exist."""
    program, *rest = words
    if program == "./run":
        if not rest:
            return None
        if rest[0] not in RUN_COMMANDS:
            return f"./run has no {rest[0]}"
        if not isinstance(main, click.Group) or rest[0] not in main.list_commands(
            click.Context(main)
        ):
            return None
    command = main
    words_left = iter(rest)
    for word in words_left:
        if word == "--":
            break
        if word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            known = options(command)
            if name not in known:
                return f"{command.name} has no {name}"
            if known[name] and not equals:
                next(words_left, None)
        elif isinstance(command, click.Group):
            found = command.get_command(click.Context(command), word)
            if found is None:
                return f"{command.name} has no {word}"
            command = found
    return None


def options(command: click.Command) -> dict[str, bool]:
    """Return the names of the options of *command*, each with whether a value follows."""
    found = {"--help": False}
    for param in command.params:
        if isinstance(param, click.Option):
            takes_value = not (param.is_flag or param.count)
            found |= dict.fromkeys(param.opts + param.secondary_opts, takes_value)
    return found


def test_every_command_that_the_documents_name_exists() -> None:
    problems = [
        f"{path.name}: {shlex.join(words)}: {wrong}"
        for path in DOCUMENTS
        for words in typed(path.read_text())
        if (wrong := problem(words, importlib.import_module("archiver.cli.main").cli))
    ]
    assert problems == []


def test_every_row_stands_in_a_table_with_a_head() -> None:
    lost = [
        f"{path.name}: {rows[0]}"
        for path in DOCUMENTS
        for rows in (found.split("\n") for found in TABLE.findall(path.read_text()))
        if not re.fullmatch(r"(\| ?-+ ?)+\|", rows[1])
    ]
    assert lost == []


def test_commands_are_found_in_blocks_alone() -> None:
    text = """
`archiver inline` is not one.

```sh
./run demo --seed 7   # a comment
TOKEN=x archiver daemon \\
  --once && echo done | archiver search 'two words' > out.txt
```

```console
$ archiver status
archiver answers this
```

```python
archiver = 1
```
"""
    assert list(typed(text)) == [
        ["./run", "demo", "--seed", "7"],
        ["archiver", "daemon", "--once"],
        ["archiver", "search", "two words", ">", "out.txt"],
        ["archiver", "status"],
    ]


def test_what_does_not_exist_is_told() -> None:
    export = click.Command("export", params=[click.Option(["--format", "-f"])])
    main = click.Group("archiver", {"export": export}, params=[click.Option(["--config"])])
    assert problem(["archiver", "export", "--format=csv", "acme/main"], main) is None
    assert problem(["archiver", "export", "-f", "csv", "--help"], main) is None
    assert problem(["archiver", "export", "--frmat=csv"], main) == "export has no --frmat"
    assert problem(["archiver", "--config", "my.toml", "export"], main) is None
    assert problem(["archiver", "exprt"], main) == "archiver has no exprt"
    assert problem(["./run", "test", "-k", "anything"], main) is None
    assert problem(["./run", "tset"], main) == "./run has no tset"
