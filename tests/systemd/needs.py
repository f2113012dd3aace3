"""What a container with systemd needs of the machine that it is tried on."""

import os
import platform
import shutil

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "ip": "iproute2",
    "tar": "tar",
}
"""Which package has which program."""


class NotInstalled(Exception):
    """Something is missing; the message says how to get it."""


def require_tools() -> None:
    """Make sure that all is there.

    Raises:
        NotInstalled: with the packages that are missing, or what else is.
    """
    if platform.system() != "Linux":
        raise NotInstalled(f"this needs Linux, and here is {platform.platform()}")
    missing = sorted(
        {
            package
            for program, package in PROGRAMS.items()
            if shutil.which(program, path=SYSTEM_PATH) is None
        }
    )
    if missing:
        raise NotInstalled(
            f"a container is needed, and this is missing: {', '.join(missing)}. On Debian:\n"
            f"  apt-get install --no-install-recommends {' '.join(missing)}"
        )
    if os.geteuid() != 0:
        raise NotInstalled("a container with systemd needs root: sudo ./run systemd")
