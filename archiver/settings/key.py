"""The metadata of a setting besides its name, type and default."""

import math
from dataclasses import dataclass

from archiver.errors import ArchiverError

WEB = ("http", "https")
# libpq accepts the first two spellings; the third is SQLAlchemy's.
POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")


class SettingRefused(ArchiverError):
    """A setting is missing, unknown, of the wrong type, or out of range; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """The annotation of a field of the settings."""

    doc: str
    example: str
    """As it would be written in the file."""
    environ: str = ""
    """The environment variable; ARCHIVER_<SECTION>_<KEY> if empty."""
    unit: str = ""
    """For a number: what it counts."""
    least: float = -math.inf
    most: float = math.inf
    schemes: tuple[str, ...] = ()
    """For a URL: the schemes that it may have."""
    is_address: bool = False
    """Whether it is a host and a port to listen on."""
    secret: bool = False
    credential: str = ""
    """The name of its systemd credential (LoadCredential=). The value of such a key may also be in
    a file, whose path is set as <key>_file or <VARIABLE>_FILE."""
