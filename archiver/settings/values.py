"""Converts a setting's value from text or TOML to the setting's type, or refuses it.

A refusal never shows the value of a secret.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from archiver.settings.key import POSTGRES, WEB, SettingRefused
from archiver.settings.table import Setting

TRUTHS = {"true": True, "yes": True, "on": True, "1": True}
TRUTHS |= {"false": False, "no": False, "off": False, "0": False}


def parse(setting: Setting, text: str) -> Any:
    """*text* as a value of the setting's type; *text* itself if it is not one."""
    try:
        if setting.kind is bool:
            return TRUTHS.get(text.strip().lower(), text)
        return setting.kind(text) if setting.kind in {int, float} else text
    except ValueError:
        return text


def checked(setting: Setting, value: Any, *, source: str) -> Any:
    """*value* as the setting's type; *source* says where it is set, for the refusal."""
    taken = _take(setting, value)
    if taken is None:
        key = setting.key
        # Flowdock takes a token as the user of a URL, and as access_token in its query.
        may_hold = set("@?#" if key.schemes else "@") & set(str(value))
        hidden = key.secret or key.schemes == POSTGRES or may_hold
        told = "is not usable" if hidden else f"cannot be {value!r}"
        raise SettingRefused(f"{source} {told}: expected {setting.expected}")
    return taken


def _take(setting: Setting, value: Any) -> Any:
    """*value* as the setting's type; None if it is not valid."""
    kind, key = setting.kind, setting.key
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else None
    if get_origin(kind) is tuple:
        return _patterns(value)
    if kind is float and type(value) is int:
        with suppress(OverflowError):  # if so, it stays an int, which is refused below
            value = float(value)
    if kind in {int, float}:
        fits = type(value) is kind and math.isfinite(value) and key.least <= value <= key.most
        return value if fits else None
    if kind is bool:
        return value if isinstance(value, bool) else None
    text = value.strip() if isinstance(value, str) and value.isprintable() else ""
    return _take_text(setting, text) if text else None


def _take_text(setting: Setting, text: str) -> Any:
    """*text* as the setting's type; None if it is not valid."""
    key = setting.key
    if key.schemes:
        text = text.rstrip("/") if key.schemes == WEB else text
        return text if _is_url(text, key.schemes) else None
    if key.is_address:
        return text if _is_address(text) else None
    return Path(text) if setting.kind is Path else text


def _patterns(value: object) -> tuple[str, ...] | None:
    """Patterns of flows; None if *value* is no such list, or a pattern cannot match any flow."""
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
    if parts.scheme not in schemes or port == 0:
        return False
    if schemes == WEB:
        return bool(parts.hostname) and not (parts.query or parts.fragment or "@" in parts.netloc)
    # The part of a password after such a character would count as the host, which errors show.
    return parts.netloc.count("@") < 2 and "@" not in parts.path and not parts.fragment


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) and port is not None and parts.netloc == text and "@" not in text
