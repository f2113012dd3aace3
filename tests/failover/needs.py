"""What the trials need of the machine that they are made on."""

import shutil
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NotInstalled(Exception):
    """Something is missing; the message says how to get it."""


def program(name: str, *, package: str) -> Path:
    """The program *name*.

    Raises:
        NotInstalled: with the package of Debian that has it.
    """
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        raise NotInstalled(f"{name} is needed: apt-get install --no-install-recommends {package}")
    return Path(found)
