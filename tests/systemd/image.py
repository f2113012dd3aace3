"""Make the image of a fresh Debian or Ubuntu with systemd, including what it would download.

The container has no network, so that every run is the same and contacts no real server. Packages
are where apt keeps its downloads, wheels are where pip is told to look. The image is made once and
kept for later runs.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

ROOT = Path(__file__).parents[2]
WHEELS = Path("srv/wheels")
SYSTEM = "apt,systemd,systemd-sysv,dbus"
"""The packages without which a minimal system does not boot; the README's commands install more."""

LATER = ("python3-venv", "ca-certificates", "libnss-systemd", "postgresql", "openssl")
"""The packages that the README's commands install."""

DEBIAN = {"bookworm", "trixie", "forky", "sid"}
"""Any other suite is taken for one of Ubuntu, whose systems also have the component universe."""

INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def wheel(version: str, to: Path, *, migration: str | None = None) -> Path:
    """Build this tree's wheel as *version*; returns its path.

    With *migration*, the release contains one more migration, with that text.
    """
    tree = to / f"tree-{version}"
    for name in ("archiver", "migrations", "deploy"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    project = (ROOT / "pyproject.toml").read_text()
    before, _, after = project.partition('\nversion = "')
    (tree / "pyproject.toml").write_text(
        f'{before}\nversion = "{version}"\n{after.partition(chr(10))[2]}'
    )
    if migration:
        (tree / "migrations" / "versions" / "9999_the_next.py").write_text(migration)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(to)]
    subprocess.run(build, cwd=tree, check=True, capture_output=True)
    shutil.rmtree(tree)
    return to / f"flowdock_archiver-{version}-py3-none-any.whl"


def make(suite: str, cache: Path) -> Path:
    """The path of the system's tar file, which is made unless it is in *cache* already."""
    constraints = "".join(f"{line}\n" for line in _locked())
    made_from = "\0".join([suite, SYSTEM, *LATER, constraints])
    image = cache / f"{suite}-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}.tar"
    if image.exists():
        return image
    cache.mkdir(parents=True, exist_ok=True)
    work = cache / f"{suite}-{os.getpid()}"
    work.mkdir()
    try:
        system = work / "system"
        _bootstrap(suite, system)
        _fetch_wheels(system, work, constraints)
        made = work / "image.tar"
        subprocess.run(["tar", "-C", system, "-cf", made, "."], check=True)
        made.rename(image)
    finally:
        shutil.rmtree(work)
    return image


def _bootstrap(suite: str, system: Path) -> None:
    fetch = f'chroot "$1" env {INSTALL} --download-only {" ".join(LATER)}'
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={SYSTEM}"]
    command += [f"--components={'main' if suite in DEBIAN else 'main,universe'}"]
    command += ["--skip=cleanup/apt", f"--customize-hook={fetch}", "--format=directory"]
    subprocess.run([*command, suite, system], check=True)


def _fetch_wheels(system: Path, work: Path, constraints: str) -> None:
    """Have the system's own pip fetch the archiver's requirements, in a copy of the system."""
    own = wheel("0", work)
    into = system / WHEELS
    into.mkdir(parents=True)
    (work / "constraints").write_text(constraints)
    copy = work / "copy"
    subprocess.run(["cp", "-a", "--reflink=auto", system, copy], check=True)
    shutil.copy(own, copy / "srv")
    shutil.copy(work / "constraints", copy / "srv")
    script = (
        f"{INSTALL} {' '.join(LATER)} >/dev/null && "
        "python3 -m venv /srv/venv && "
        f"/srv/venv/bin/pip download -q -d /{WHEELS} -c /srv/constraints /srv/{own.name}"
    )
    options = [f"--setenv={name}={text}" for name, text in _pip_settings().items()]
    if CERTIFICATES.exists():
        options.append(f"--bind-ro={CERTIFICATES}:/srv/certificates")
    command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--pipe"]
    command += ["--timezone=off"]  # otherwise tzdata cannot be set up, on Ubuntu
    command += ["--directory", str(copy), *options, f"--bind={into}:/{WHEELS}", "sh", "-c", script]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (into / own.name).unlink()
    (system / "etc/pip.conf").write_text(f"[global]\nno-index = true\nfind-links = /{WHEELS}\n")
    shutil.rmtree(copy)


def _pip_settings() -> dict[str, str]:
    """The environment variables that tell this machine's pip how to reach an index."""
    wanted = {
        "PIP_INDEX_URL",
        "PIP_DEFAULT_TIMEOUT",
        "PIP_TRUSTED_HOST",
        "http_proxy",
        "https_proxy",
    }
    found = {name: os.environ[name] for name in wanted if name in os.environ}
    return {**found, "PIP_CERT": "/srv/certificates"} if CERTIFICATES.exists() else found


def _locked() -> list[str]:
    """The requirements of uv.lock, as ./run passes them to pip."""
    loader = SourceFileLoader("run", str(ROOT / "run"))
    spec = importlib.util.spec_from_loader("run", loader)
    assert spec is not None
    run = importlib.util.module_from_spec(spec)
    loader.exec_module(run)
    return list(run.locked())
