"""Where the settings of a command come from."""

import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

from archiver import logs
from archiver.cli.terminal import has_colours
from archiver.errors import ArchiverError
from archiver.settings import SettingRefused, Settings
from archiver.settings.reading import read_settings

URL_SECRETS = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key"})
"""Options of libpq that are secret."""

LoadSettings = Callable[[], Settings]
"""`load_settings` of the file that the command line names: the click object of each command."""


def load_settings(config: Path | None) -> Settings:
    """Read the settings and log as they say.

    Raises:
        ArchiverError: the file cannot be read, or a setting cannot be taken.
    """
    settings = _read(config) if config else read_settings({}, os.environ)
    logs.configure(
        level=settings.logs.level,
        format=settings.logs.format,
        stream=sys.stderr,
        colours=has_colours(sys.stderr),
        secrets=_secrets(settings),
    )
    return settings


def _read(config: Path) -> Settings:
    table = _read_file(config)
    try:
        return read_settings(table, os.environ)
    except SettingRefused as exc:
        read_settings({}, os.environ)  # what the environment holds was refused: nothing to add
        raise SettingRefused(f"{config}: {exc}") from exc


def _secrets(settings: Settings) -> frozenset[str]:
    """What no output may hold. Of the database's URL the passwords: its host is to be told."""
    url = settings.database.url
    if not url:
        return settings.secrets()
    options = parse_qsl(urlsplit(url).query)
    return settings.secrets() - {url} | {
        spelled
        for name, value in options
        if name in URL_SECRETS
        for spelled in (value, quote(value), quote_plus(value))
    }


def _read_file(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ArchiverError(f"cannot read the settings in {config}: {exc.strerror}") from exc
    except ValueError as exc:
        raise ArchiverError(f"the settings in {config} are not TOML: {exc}") from exc
