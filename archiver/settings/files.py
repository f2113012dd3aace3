"""Secrets in files of their own: named by a setting, or handed over by systemd."""

from collections.abc import Mapping
from pathlib import Path

from archiver.settings.key import SettingRefused

LONGEST_BYTES = 65_536


def credential_of(name: str, environ: Mapping[str, str]) -> Path | None:
    """The file of systemd's credential *name*; None when it hands over none (systemd.exec(5))."""
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    if not directory or not name or "/" in name:
        return None
    path = Path(directory, name)
    return path if path.is_file() else None


def read_secret(path: Path, *, named: str) -> str:
    """The one line that the file holds, without its end; *named* says by what it was named.

    Raises:
        SettingRefused: it cannot be read, or holds something else.
    """
    told = f"{path} ({named})"
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_BYTES)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise SettingRefused(f"cannot read the secret in {told}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingRefused(f"the secret in {told} is no text") from error
    if not text.strip():
        raise SettingRefused(f"the file {told} is to hold a secret, and is empty")
    return text
