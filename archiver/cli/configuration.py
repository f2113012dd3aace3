"""Where the settings of a command come from."""

import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from archiver import logs
from archiver.cli.terminal import has_colours
from archiver.errors import ArchiverError
from archiver.settings import Settings
from archiver.settings.reading import read_settings

LoadSettings = Callable[[], Settings]
"""`load_settings` of the file that the command line names: the click object of each command."""


def load_settings(config: Path | None) -> Settings:
    """Read the settings and log as they say.

    Raises:
        ArchiverError: the file cannot be read, or a setting cannot be taken.
    """
    settings = read_settings(_read_file(config) if config else {}, os.environ)
    logs.configure(
        level=settings.logs.level,
        format=settings.logs.format,
        stream=sys.stderr,
        colours=has_colours(sys.stderr),
        secrets=settings.secrets(),
    )
    return settings


def _read_file(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ArchiverError(f"cannot read the settings in {config}: {exc.strerror}") from exc
    except ValueError as exc:
        raise ArchiverError(f"the settings in {config} are not TOML: {exc}") from exc
