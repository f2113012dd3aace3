"""Find the programs that the trials need on this machine."""

import shutil
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NotInstalled(Exception):
    """Something is missing; the message says how to get it."""


def program(name: str, *, package: str) -> Path:
    """The path of the program *name*.

    Raises:
        NotInstalled: the program is missing; the message names its package of Debian.
    """
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        raise NotInstalled(f"{name} is needed: apt-get install --no-install-recommends {package}")
    return Path(found)
