"""Reads secrets from files that are named by a setting or provided by systemd."""

from collections.abc import Mapping
from pathlib import Path

from archiver.settings.key import SettingRefused

LONGEST_BYTES = 65_536


def credential_of(name: str, environ: Mapping[str, str]) -> Path | None:
    """The file of systemd's credential *name* (systemd.exec(5)); None if there is none."""
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    if not directory or not name or "/" in name:
        return None
    path = Path(directory, name)
    return path if path.is_file() else None


def read_secret(path: Path, *, named: str) -> str:
    """The content of the file without the line end; *named* says which setting names the file.

    Raises:
        SettingRefused: it cannot be read, is not text, is empty, or is longer than any secret.
    """
    told = f"{path} ({named})"
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_BYTES + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise SettingRefused(f"cannot read the secret in {told}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingRefused(f"the secret in {told} is not text") from error
    if len(content) > LONGEST_BYTES:
        raise SettingRefused(f"the file {told} should hold a secret, but has more than 64 KiB")
    if not text.strip():
        raise SettingRefused(f"the file {told} should hold a secret, but is empty")
    return text
