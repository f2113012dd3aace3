"""Compare the units with each other, their documentation and, if it is here, systemd itself."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from archiver.settings.table import ACCOUNT, SECTIONS, settings_of
from tests.systemd import needs
from tests.systemd.blocks import README, as_one_shell, sections

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
DAEMON = UNITS / "archiver.service"
VERIFY = UNITS / "archiver-verify.service"
SERVICES = sorted(UNITS.glob("*.service"))
LINE = re.compile(r"^([A-Za-z]+)=(.*)$", re.MULTILINE)

KEYS = {
    "Unit": "After Description Documentation StartLimitIntervalSec Wants",
    "Service": (
        "CapabilityBoundingSet DevicePolicy DynamicUser Environment ExecReload ExecStart "
        "KeyringMode LimitCORE LoadCredential LockPersonality MemoryDenyWriteExecute MemoryMax "
        "Nice NoNewPrivileges OOMPolicy PrivateDevices PrivateMounts PrivateTmp PrivateUsers "
        "ProtectClock ProtectControlGroups ProtectHome ProtectHostname ProtectKernelLogs "
        "ProtectKernelModules ProtectKernelTunables ProtectProc ProtectSystem RemoveIPC Restart "
        "RestartSec RestrictAddressFamilies RestrictNamespaces RestrictRealtime RestrictSUIDSGID "
        "StateDirectory StateDirectoryMode SyslogIdentifier SystemCallArchitectures "
        "SystemCallErrorNumber SystemCallFilter TasksMax TimeoutStartSec TimeoutStopSec Type UMask "
        "User WatchdogSec"
    ),
    "Timer": "FixedRandomDelay OnCalendar Persistent RandomizedDelaySec",
    "Install": "WantedBy",
}
"""The keys in use that systemd 252 knows: it would ignore a key that it does not know."""


def parts(path: Path) -> dict[str, list[tuple[str, str]]]:
    """The sections of a unit, each with its keys and values."""
    found = re.split(r"^\[(\w+)\]$", path.read_text(), flags=re.MULTILINE)[1:]
    return {name: LINE.findall(text) for name, text in zip(found[::2], found[1::2], strict=True)}


@pytest.mark.parametrize("unit", sorted(UNITS.glob("*[re]r")), ids=lambda path: path.name)
def test_each_key_is_one_that_the_oldest_systemd_knows(unit: Path) -> None:
    for section, lines in parts(unit).items():
        assert {key for key, _ in lines} <= set(KEYS[section].split())


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_little_is_exposed(unit: Path, tmp_path: Path) -> None:
    whole = tmp_path / unit.name.replace("@", "@club")
    shutil.copy(unit, whole)
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", whole],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, ""), told.stdout[-300:]


def test_an_instance_differs_in_its_names_alone() -> None:
    for one in (DAEMON, VERIFY):
        instance = one.with_name(one.name.replace(".", "@."))
        text = "\n".join(f"{key}={value}" for key, value in parts(instance)["Service"])
        plain = text.replace("/%i.toml", "/archiver.toml").replace("-%i", "")
        assert LINE.findall(plain) == parts(one)["Service"]


def test_the_verification_has_the_rights_of_the_daemon() -> None:
    def rights(unit: Path) -> list[tuple[str, str]]:
        lines = parts(unit)["Service"]
        return lines[lines.index(("Environment", "ARCHIVER_CONFIG=/etc/archiver/archiver.toml")) :]

    assert rights(DAEMON) == rights(VERIFY)


def test_large_files_lie_on_a_disk_whoever_fetches_them() -> None:
    (place,) = (line for key, line in parts(DAEMON)["Service"] if line.startswith("TMPDIR="))
    assert f" --setenv={place} " in (UNITS / "archiver").read_text()


def test_credentials_are_those_that_settings_take() -> None:
    keys = [*ACCOUNT, *settings_of(SECTIONS["database"], "database")]
    known = {setting.key.credential for setting in keys if setting.key.credential}
    given = [value for key, value in parts(DAEMON)["Service"] if key == "LoadCredential"]
    assert {value.partition(":")[0] for value in given} == known


def test_the_timer_starts_what_has_its_name() -> None:
    for timer in UNITS.glob("*.timer"):
        assert timer.with_suffix(".service") in SERVICES


@pytest.mark.parametrize("unit", [*SERVICES, UNITS / "archiver"], ids=lambda path: path.name)
def test_each_path_is_told_where_it_is_installed(unit: Path) -> None:
    text = README.read_text()
    for place in re.findall(r"/(?:etc|opt|usr|var)/\w+", unit.read_text()):
        assert f"`{place}" in text, place


@pytest.mark.parametrize(
    ("command", "url"),
    [("migrate", "owner-url"), ("erase", "owner-url"), ("status", "database-url")],
)
def test_the_command_is_the_owner_where_only_the_owner_may(
    command: str, url: str, tmp_path: Path
) -> None:
    told = tmp_path / "systemd-run"
    told.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    told.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    arguments = subprocess.run(
        [UNITS / "archiver", command], capture_output=True, text=True, check=True, env=environ
    ).stdout.splitlines()
    assert f"--property=LoadCredential=database-url:archiver.{url}" in arguments
    assert arguments[-1] == command


def test_the_text_installs_this_release() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"VERSION={version}\n" in sections(README.read_text())["The program"][0]


def test_blocks_are_typed_as_they_stand_and_hand_their_variables_on() -> None:
    text = "## One\n```sh\nNAME='a b'\n```\n```ini\nno\n```\n### Two\n```sh\necho \"$NAME\"\n```\n"
    found = sections(text)
    assert found == {"One": ["NAME='a b'"], "Two": ['echo "$NAME"']}
    assert "NAME='a b'\n" in next(as_one_shell(found["One"]))


def test_all_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "SYSTEM_PATH", "/nowhere")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    with pytest.raises(
        needs.NotInstalled, match=r"apt-get install .* mmdebstrap systemd-container"
    ):
        needs.require_tools()
