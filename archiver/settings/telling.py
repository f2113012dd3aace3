"""Shows settings: an example of all of them, or those in effect and their origins; never a secret.

Both are made from the declarations, so they can neither name a setting that does not exist nor
leave one out.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from archiver.settings.key import POSTGRES
from archiver.settings.reading import DEFAULT, Gift, gather
from archiver.settings.table import (
    ACCOUNT,
    ACCOUNTS,
    FIRST,
    SECTIONS,
    TEXT,
    TOP,
    Setting,
    settings_of,
)
from archiver.settings.urls import masked

MASK = "***"
WIDTH = 88
HEAD = """\
Settings of the archiver. Each is shown with an example value, commented out; what is not
given has its default. The environment wins over this file. Where a key has a twin that ends in
_file, the secret may be in a file of its own; the systemd credential that is named comes last. A
relative path begins in the directory of this file; in the environment, in the current directory.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """A setting in effect, ready to be shown."""

    name: str
    environ: str
    value: Any
    """A JSON value; a secret is masked."""
    source: str


def example() -> str:
    """A TOML file of all settings, each explained and commented out, with an example value."""
    lines = [*_comment(HEAD.replace("\n", " "))]
    for setting in (*TOP, *FIRST):
        lines += ["", *_entry(setting)]
    for name, kind in SECTIONS.items():
        lines += ["", "", *_comment(f"{kind.__doc__}"), f"[{name}]"]
        for setting in settings_of(kind, name):
            lines += ["", *_entry(setting)]
    lines += ["", "", *_comment(
        "Several accounts of one service: one such section each. What stands at the top holds for "
        "those that do not say otherwise; a token must then stand in each, or come as systemd's "
        "credential token-<name>."
    ), f"#[[{ACCOUNTS}]]"]  # fmt: skip
    for setting in ACCOUNT:
        if not setting.names_file:
            lines.append(f"#{setting.name} = {setting.key.example}")
    return "\n".join(lines) + "\n"


def effective(
    table: Mapping[str, Any], environ: Mapping[str, str], *, directory: Path = Path()
) -> list[Effective]:
    """Every setting in effect, as `archiver.settings.reading.read_settings` would read it.

    Raises:
        SettingRefused: a key is not valid; it names the first.
    """
    gifts = gather(table, environ, directory)
    found = [*_each(TOP, gifts.top)]
    first = [setting for setting in FIRST if setting.name != "token" or not gifts.accounts]
    found += _each(first, gifts.first)
    for given in gifts.accounts:
        name = f"{ACCOUNTS}.{given['name'].value}"
        merged = {**gifts.first, **given}
        own = [setting for setting in ACCOUNT if setting.name != "name"]
        found += [
            Effective(
                name=f"{name}.{one.name.rpartition('.')[2]}",
                environ="",
                value=one.value,
                source=one.source,
            )
            for one in _each(own, merged)
        ]
    for section, kind in SECTIONS.items():
        found += _each(settings_of(kind, section), gifts.sections[section])
    return found


def _each(settings: Sequence[Setting], gift: Gift) -> Iterator[Effective]:
    for setting in settings:
        if setting.names_file:
            continue
        given = gift.get(setting.name)
        yield Effective(
            name=setting.full_name,
            environ=setting.environ,
            value=_shown(setting, given.value if given else setting.default),
            source=given.source if given else DEFAULT,
        )


def _shown(setting: Setting, value: Any) -> Any:
    if value is None:
        return None
    if setting.key.secret:
        return MASK
    if setting.key.schemes == POSTGRES:
        return masked(value, MASK)
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _entry(setting: Setting) -> Iterator[str]:
    doc = setting.key.doc[0].upper() + setting.key.doc[1:]
    yield from _comment(f"{doc}.")
    if not setting.names_file:
        yield from _comment(". ".join(_facts(setting)) + ".")
    yield from _comment(f"Environment: {setting.environ}.")
    yield f"#{setting.name} = {setting.key.example}"


def _facts(setting: Setting) -> Iterator[str]:
    if setting.default is not None:
        yield f"Default: {_toml(setting.default)}"
    else:
        yield f"Default: {STATE if setting.name == 'data_dir' else 'none'}"
    is_url = bool(setting.key.schemes)
    if not is_url and setting.expected not in {TEXT, "a path", "true or false"}:
        yield f"Expected: {setting.expected}"
    if setting.key.unit:
        yield f"Unit: {setting.key.unit}"
    if setting.key.credential:
        yield f"Credential: {setting.key.credential}"


STATE = "$STATE_DIRECTORY, $XDG_STATE_HOME/archiver or ~/.local/state/archiver"


def _comment(text: str) -> Iterator[str]:
    for line in wrap(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"


def _toml(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str)
