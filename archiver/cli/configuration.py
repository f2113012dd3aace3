"""Where the settings of a command come from."""

import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archiver import logs
from archiver.cli.terminal import has_colours
from archiver.errors import ArchiverError
from archiver.settings import Settings
from archiver.settings.key import SettingRefused
from archiver.settings.processes import of_process
from archiver.settings.reading import read_settings
from archiver.settings.sections import LogsSettings
from archiver.settings.telling import Effective, effective


def configure_logs(settings: LogsSettings, *, secrets: frozenset[str]) -> None:
    """Log to standard error from now on, as *settings* say."""
    logs.configure(
        level=settings.level,
        format=settings.format,
        stream=sys.stderr,
        colours=has_colours(sys.stderr),
        secrets=secrets,
    )


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Reads the settings when it is called; the click object of every command."""

    config: Path | None
    """The file that the command line names."""
    process: int | None = None
    """The number of this process of a daemon, which then gets its part of the limits."""

    def __call__(self) -> Settings:
        """Read the settings, and configure the logs as they say.

        Raises:
            ArchiverError: the file cannot be read, or a setting is refused.
        """
        settings = self.read()
        configure_logs(settings.logs, secrets=settings.secrets())
        return settings

    def read(self) -> Settings:
        """Read the settings, and leave the logs as they are.

        Raises:
            ArchiverError: the file cannot be read, or a setting is refused.
        """
        settings = self._whole()
        return settings if self.process is None else of_process(settings, self.process)

    def _whole(self) -> Settings:
        """What the file and the environment say."""
        table = self._table()
        try:
            return read_settings(table, os.environ, directory=self._directory)
        except SettingRefused as exc:
            if self.config is None:
                raise
            read_settings({}, os.environ)  # raises if the environment, not the file, is to blame
            raise SettingRefused(f"{self.config}: {exc}") from exc

    def tell(self) -> list[Effective]:
        """Every setting in effect, and where it comes from; secrets are masked.

        Raises:
            ArchiverError: the file cannot be read, or a setting is refused.
        """
        self.read()
        return effective(self._table(), os.environ, directory=self._directory)

    @property
    def _directory(self) -> Path:
        """The directory to which paths in the file are relative."""
        return self.config.parent if self.config else Path()

    def _table(self) -> dict[str, Any]:
        if self.config is None:
            return {}
        try:
            # Some editors begin a file with a byte order mark.
            return tomllib.loads(self.config.read_text(encoding="utf-8-sig"))
        except OSError as exc:
            raise ArchiverError(
                f"cannot read the settings in {self.config}: {exc.strerror}"
            ) from exc
        except (ValueError, RecursionError) as exc:
            raise ArchiverError(f"the settings in {self.config} are not TOML: {exc}") from exc
