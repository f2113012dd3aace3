"""Check for what a container with systemd needs on this machine."""

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
"""The packages that contain these programs."""


class NotInstalled(Exception):
    """Something is missing; the message says how to get it."""


def require_tools() -> None:
    """Make sure that everything needed is there.

    Raises:
        NotInstalled: packages or something else is missing; the message says what.
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
