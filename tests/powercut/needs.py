"""Find the programs and the kernel that a power cut needs: some packages of Debian."""

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

BOOT = Path("/boot")
MODULES = Path("/lib/modules")

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOADER = b"/lib64/ld-linux"
"""What a program contains if it is not statically linked."""

PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "nbdkit": "nbdkit",
    "mke2fs": "e2fsprogs",
    "setpriv": "util-linux",
    "busybox": "busybox-static",
}
"""The packages of Debian that contain these programs."""

KERNEL = "linux-image-cloud-amd64"
"""The smallest of Debian's kernels; any other of them will do."""


class NotInstalled(Exception):
    """Something is missing; the message says how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The programs, by their names, and the kernel that the virtual machine boots."""

    programs: dict[str, str]
    kernel: Path
    modules: Path


def find_tools() -> Tools:
    """Find the programs and the kernel.

    Raises:
        NotInstalled: packages are missing, or the machine is of the wrong kind.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise NotInstalled(f"this needs Linux on x86_64, and here is {platform.platform()}")
    found = {name: shutil.which(name, path=SYSTEM_PATH) for name in PROGRAMS}
    if found["busybox"] and LOADER in Path(found["busybox"]).read_bytes():
        found["busybox"] = None  # the other package, with a busybox that is not static
    missing = [PROGRAMS[name] for name, path in found.items() if path is None]
    kernel = find_kernel(BOOT, MODULES)
    if kernel is None:
        missing.append(KERNEL)
    if kernel is None or missing:
        raise NotInstalled(
            f"a virtual machine is needed, and this is missing: {', '.join(missing)} (a kernel "
            f"counts if {BOOT} and {MODULES} have it, and it can be read). On Debian:\n"
            f"  apt-get install --no-install-recommends {' '.join(missing)}"
        )
    return Tools(
        programs={name: path for name, path in found.items() if path},
        kernel=kernel,
        modules=modules_of(kernel, MODULES),
    )


def find_kernel(boot: Path, modules: Path) -> Path | None:
    """The newest kernel that can be read and has modules; None if there is none."""
    for kernel in sorted(boot.glob("vmlinuz-*"), key=lambda path: -path.stat().st_mtime):
        try:
            with kernel.open("rb"):
                index = modules_of(kernel, modules) / "modules.dep"
                if "virtio" in index.read_text():
                    return kernel
        except OSError:
            continue
    return None


def modules_of(kernel: Path, modules: Path) -> Path:
    """The directory of the modules of *kernel*."""
    return modules / kernel.name.removeprefix("vmlinuz-")
