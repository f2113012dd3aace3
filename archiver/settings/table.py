"""A table of all keys of the settings, made from their declarations."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from archiver.settings import Settings
from archiver.settings.account import Account
from archiver.settings.key import WEB, Key

PREFIX = "ARCHIVER_"
ACCOUNTS = "accounts"
TEXT = "one line of printable text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key of the file and the environment."""

    section: str
    """Empty for a key at the top of the file."""
    name: str
    kind: Any
    """The type of its value; for an optional one, without None."""
    default: Any
    """None when there is none."""
    key: Key
    names_file: bool = False
    """Whether it is the path of a file that holds the value of the preceding key."""

    @property
    def full_name(self) -> str:
        """Its name in the file, with the section."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def environ(self) -> str:
        """Its name in the environment."""
        return self.key.environ or PREFIX + self.full_name.upper().replace(".", "_")

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.key.schemes == WEB:
            return "an http:// or https:// URL of a host, without user, query and fragment"
        if self.key.schemes:
            return (
                f"a URL such as {self.key.schemes[0]}://user@host:5432/database, "
                "with special characters in a name or a password percent-encoded (@ as %40); "
                "for several servers, no host there, but ?host=one,two&port=5432,5432 at the end"
            )
        if self.key.is_address:
            return "host:port, as 127.0.0.1:9471 or [::1]:9471"
        if get_origin(self.kind) is Literal:
            return "one of " + ", ".join(get_args(self.kind))
        if get_origin(self.kind) is tuple:
            return "patterns of organization/flow, as a list or separated by commas"
        words = ("at least", self.key.least), ("at most", self.key.most)
        bounds = [f"{word} {bound:.15g}" for word, bound in words if math.isfinite(bound)]
        names = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}
        return ", ".join([names.get(self.kind, TEXT), *bounds])


def _required(kind: Any) -> Any:
    """*kind* without None, if it is optional."""
    options = [one for one in get_args(kind) if one is not NoneType]
    return options[0] if NoneType in get_args(kind) else kind


def settings_of(kind: type[Any], section: str = "") -> tuple[Setting, ...]:
    """The keys that the dataclass *kind* declares."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        setting
        for one in fields(kind)
        for note in getattr(hints[one.name], "__metadata__", ())
        for setting in _with_file(
            Setting(
                section=section,
                name=one.name,
                kind=_required(hints[one.name].__origin__),
                default=None if one.default is MISSING else one.default,
                key=note,
            )
        )
    )


def _with_file(setting: Setting) -> tuple[Setting, ...]:
    """*setting*; also the one for the path of a file with its value, if that is allowed."""
    if not setting.key.credential:
        return (setting,)
    path = f"/etc/archiver/{setting.key.credential}"
    key = Key(
        doc=f"instead of {setting.name}: the file that holds it",
        example=f'"{path}"',
    )
    name = f"{setting.name}_file"
    return setting, replace(setting, name=name, kind=Path, default=None, key=key, names_file=True)


_KINDS = get_type_hints(Settings)
SECTIONS: Mapping[str, type[Any]] = {
    one.name: _KINDS[one.name] for one in fields(Settings) if is_dataclass(_KINDS[one.name])
}
TOP = settings_of(Settings)
ACCOUNT = settings_of(Account, ACCOUNTS)
"""The keys of each of ``[[accounts]]``."""
FIRST = tuple(replace(setting, section="") for setting in ACCOUNT if setting.name != "name")
"""The keys of an account at the top of the file: for the only one, or defaults for all."""
SETTINGS = (
    *TOP,
    *FIRST,
    *(it for name, kind in SECTIONS.items() for it in settings_of(kind, name)),
)
"""All keys that can be set in the environment."""
