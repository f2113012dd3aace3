"""What is to be known of a setting beside its name, type and default."""

import math
from dataclasses import dataclass

from archiver.errors import ArchiverError

WEB = ("http", "https")
# The second is libpq's other spelling, the third SQLAlchemy's own.
POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")


class SettingRefused(ArchiverError):
    """A setting is missing, unknown, of the wrong type, or out of range; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a field of the settings is annotated with."""

    doc: str
    example: str
    """As it would stand in the file."""
    environ: str = ""
    """ARCHIVER_<SECTION>_<KEY> unless given."""
    unit: str = ""
    """Of a number: what it counts."""
    least: float = -math.inf
    most: float = math.inf
    schemes: tuple[str, ...] = ()
    """Of a URL: those it may have."""
    is_address: bool = False
    """Whether it is a host and a port to listen on."""
    secret: bool = False
    credential: str = ""
    """The name under which systemd hands it over (LoadCredential=); such a key may also be given by
    the path of a file, as <key>_file and <VARIABLE>_FILE."""
