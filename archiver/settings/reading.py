"""Reading settings from a TOML table and the environment.

The environment wins over the file; an empty variable counts as unset. What is unknown, of the wrong
type or out of range is refused by name; the value of a secret is never told.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

from archiver.settings import WEB, Account, SettingRefused, Settings
from archiver.settings.table import (
    ACCOUNT,
    ACCOUNTS,
    FIRST,
    PREFIX,
    SECTIONS,
    SETTINGS,
    TOP,
    Setting,
    settings_of,
)

NO_SETTINGS = ("ARCHIVER_CONFIG", "ARCHIVER_TEST_")
TRUTHS = {"true": True, "yes": True, "on": True, "1": True}
TRUTHS |= {"false": False, "no": False, "off": False, "0": False}

T = TypeVar("T")


def read_settings(table: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings that *table*, a TOML file's content, and *environ* give.

    Raises:
        SettingRefused: the first key that cannot be taken.
    """
    _refuse_unknown_variables(environ)
    _refuse_unknown_keys(table)

    def section(kind: type[T], name: str) -> T:
        return kind(**_given(settings_of(kind, name), table.get(name, {}), environ))

    return Settings(
        data_dir=_given(TOP, table, environ).get("data_dir") or _state_dir(environ),
        accounts=_accounts(table, environ),
        **{name: section(kind, name) for name, kind in SECTIONS.items()},
    )


def _accounts(table: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Account, ...]:
    first = _given(FIRST, table, environ)
    if ACCOUNTS not in table:
        return (Account(name="default", **first),) if "token" in first else ()
    if "token" in first:
        raise SettingRefused(
            "a token is given at the top (token or ARCHIVER_TOKEN) and so are [[accounts]]: "
            "give each account its own token, and none at the top"
        )
    found: dict[str, Account] = {}
    for number, entry in enumerate(table[ACCOUNTS], start=1):
        given = _given(ACCOUNT, entry, {})
        for name in ("name", "token"):
            if name not in given:
                raise SettingRefused(f"accounts.{name} is missing in account {number} of the file")
        account = Account(**{**first, **given})
        if account.name in found:
            raise SettingRefused(f"accounts.name is {account.name!r} twice: names must differ")
        found[account.name] = account
    return tuple(found.values())


def _given(
    settings: Iterable[Setting], table: Mapping[str, Any], environ: Mapping[str, str]
) -> dict[str, Any]:
    """The values that are given for *settings*, checked, by their names."""
    values = {}
    for setting in settings:
        if text := environ.get(setting.environ):
            value = _checked(setting, _parse(setting, text), source=setting.environ)
        elif setting.name in table:
            value = _checked(setting, table[setting.name], source=setting.full_name)
        else:
            continue
        values[setting.name] = _below_home(value, environ) if isinstance(value, Path) else value
    return values


def _parse(setting: Setting, text: str) -> Any:
    """What *text* stands for; *text* itself if it stands for nothing."""
    try:
        if setting.kind is bool:
            return TRUTHS.get(text.strip().lower(), text)
        return setting.kind(text) if setting.kind in {int, float} else text
    except ValueError:
        return text


def _checked(setting: Setting, value: Any, *, source: str) -> Any:
    """*value* as the setting's type; *source* is where it stands, for the refusal."""
    taken = _take(setting, value)
    if taken is None:
        hidden = setting.key.secret or "@" in str(value)
        told = "is not usable" if hidden else f"cannot be {value!r}"
        raise SettingRefused(f"{source} {told}: expected {setting.expected}")
    return taken


def _take(setting: Setting, value: Any) -> Any:
    """*value* as the setting's type; None if it cannot be."""
    kind, key = setting.kind, setting.key
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else None
    if get_origin(kind) is tuple:
        return _patterns(value)
    if kind is float and type(value) is int:
        value = float(value)
    if kind in {int, float}:
        fits = type(value) is kind and math.isfinite(value) and key.least <= value <= key.most
        return value if fits else None
    if kind is bool:
        return value if isinstance(value, bool) else None
    text = value.strip() if isinstance(value, str) and value.isprintable() else ""
    if key.schemes == WEB:
        text = text.rstrip("/")
    if key.schemes:
        return text if _is_url(text, key.schemes) else None
    return (Path(text) if kind is Path else text) if text else None


def _patterns(value: object) -> tuple[str, ...] | None:
    """Patterns of flows, each of which may match something; None if they cannot be."""
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        return None
    found = tuple(pattern for one in listed if (pattern := one.strip()))
    return found if found and all(set(one) & set("/*?[") for one in found) else None


def _is_url(text: str, schemes: Sequence[str]) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    bare = bool(parts.hostname) and not (parts.query or parts.fragment or "@" in parts.netloc)
    return parts.scheme in schemes and port != 0 and (bare or schemes != WEB)


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = [setting.environ for setting in SETTINGS]
    for name in environ:
        if name.startswith(PREFIX) and not name.startswith(NO_SETTINGS) and name not in known:
            raise SettingRefused(f"{name} is no setting{_suggestion(name, known)}")


def _refuse_unknown_keys(table: Mapping[str, Any]) -> None:
    known = [setting.full_name for setting in (*SETTINGS, *ACCOUNT)]
    for name, value in table.items():
        if name in SECTIONS and not isinstance(value, dict):
            raise SettingRefused(f"{name} is a section: write [{name}], and its keys below")
        if name == ACCOUNTS and not _is_list_of_tables(value):
            raise SettingRefused(f"{ACCOUNTS} are sections: write [[{ACCOUNTS}]] above each")
    accounts = [f"{ACCOUNTS}.{name}" for entry in table.get(ACCOUNTS, ()) for name in entry]
    inner = [f"{section}.{name}" for section in SECTIONS for name in table.get(section, ())]
    outer = [name for name in table if name not in SECTIONS and name != ACCOUNTS]
    for name in (*outer, *inner, *accounts):
        if name not in known:
            names = [*known, *SECTIONS, ACCOUNTS]
            raise SettingRefused(f"{name} is no setting{_suggestion(name, names)}")


def _suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that names what may have been meant."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.7)
    by_last_part = {one.rpartition(".")[2]: one for one in names}
    close = close or [
        by_last_part[last]
        for last in get_close_matches(name.rpartition(".")[2], by_last_part, n=1, cutoff=0.8)
    ]
    return f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(names)}"


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _state_dir(environ: Mapping[str, str]) -> Path:
    """Where the system lets us keep state: systemd's directory, else the user's."""
    # systemd.exec(5): several directories are separated by colons.
    if given := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    state = environ.get("XDG_STATE_HOME", "")
    # XDG Base Directory Specification: a relative path is to be ignored.
    if state.startswith("/"):
        return Path(state, "archiver")
    return _below_home(Path("~/.local/state/archiver"), environ)


def _below_home(path: Path, environ: Mapping[str, str]) -> Path:
    """*path* with a leading ``~`` exchanged."""
    if path.parts[:1] != ("~",):
        return path
    return Path(environ.get("HOME") or Path.home(), *path.parts[1:])
