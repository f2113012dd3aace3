"""Refuses unknown settings by name, and suggests what may have been meant."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from archiver.settings.key import SettingRefused
from archiver.settings.table import ACCOUNT, ACCOUNTS, PREFIX, SECTIONS, SETTINGS

FILE = "ARCHIVER_CONFIG"
"""The variable that names the settings file."""
OF_TESTS = "ARCHIVER_TEST_"


def refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    """Refuse a variable that looks like one of our settings but is not."""
    known = [*(setting.environ for setting in SETTINGS), FILE]
    for name in environ:
        if name.startswith(PREFIX) and not name.startswith(OF_TESTS) and name not in known:
            raise SettingRefused(f"{name} is not a setting{_suggestion(name, known, known)}")


def refuse_unknown_keys(table: Mapping[str, Any]) -> None:
    """Refuse an unknown key or section of a TOML file."""
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
            section, _, _ = name.rpartition(".")
            beside = [one for one in names if one.rpartition(".")[0] == section]
            raise SettingRefused(f"{name} is not a setting{_suggestion(name, names, beside)}")


def _suggestion(name: str, names: Sequence[str], beside: Iterable[str]) -> str:
    """The end of an error: which of *names* may be meant, or else all names *beside* it."""
    close = get_close_matches(name, names, n=1, cutoff=0.7)
    by_last_part = {one.rpartition(".")[2]: one for one in names}
    close = close or [
        by_last_part[last]
        for last in get_close_matches(name.rpartition(".")[2], by_last_part, n=1, cutoff=0.8)
    ]
    return f"; did you mean {close[0]}?" if close else f"; the settings are: {', '.join(beside)}"


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)
