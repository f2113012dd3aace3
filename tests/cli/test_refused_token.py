"""A token that Flowdock refuses: every command says whose it is, and where to put another one."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from archiver.ingest.contact import LockedOut
from archiver.simulator.faults import Fault
from archiver.simulator.server import Simulator
from tests.cli.conftest import Run, leading_to

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture
async def flowdock() -> AsyncIterator[Simulator]:
    async with Simulator.start(flows=2, history=50, listing_delay_seconds=0) as simulator:
        yield simulator


@pytest.fixture
def settings(flowdock: Simulator, database_url: str) -> dict[str, str]:
    return {**leading_to(flowdock, database_url), "ARCHIVER_INGEST_SETTLING_SECONDS": "0.1"}


@pytest.mark.parametrize(
    ("command", "status", "with_another"),
    [("run", 2, False), ("check", 1, True), ("backfill", 2, True), ("verify", 2, True)],
)
async def test_of_accounts_the_one_is_named_and_whence_its_token_comes(
    archiver: Run,
    flowdock: Simulator,
    settings: dict[str, str],
    tmp_path: Path,
    command: str,
    status: int,
    with_another: bool,
) -> None:
    (tmp_path / "tok").write_text("s3cret-marker")
    config = tmp_path / "archiver.toml"
    club = '[[accounts]]\nname = "club"\ntoken_file = "tok"\n'
    work = f'[[accounts]]\nname = "work"\ntoken = "{flowdock.token}"\n'
    config.write_text(work + club if with_another else club)
    told = await asyncio.to_thread(partial(archiver, "--config", str(config), command, **settings))
    assert told.returncode == status
    refused = (
        "Flowdock refused the token of account club (401), "
        f"which comes from {tmp_path}/tok (accounts.token_file): "
        "put a valid personal API token there"
    )
    assert f"{refused}\n" in told.stdout + told.stderr
    assert "ARCHIVER_TOKEN" not in told.stdout + told.stderr
    assert "marker" not in told.stdout + told.stderr


@pytest.mark.parametrize("command", ["backfill", "verify"])
async def test_a_token_that_is_refused_later_is_told_in_the_same_words(
    archiver: Run, flowdock: Simulator, settings: dict[str, str], command: str
) -> None:
    flowdock.faults.add(Fault(kind="status", on="rest", path="*/messages", status=401, times=0))
    told = await asyncio.to_thread(
        partial(archiver, command, ARCHIVER_TOKEN=flowdock.token, **settings)
    )
    assert flowdock.faults.fired["status"] > 0
    assert told.returncode == 2
    assert told.stderr.endswith(
        "archiver: error: Flowdock refused the token of account default (401), "
        "which comes from ARCHIVER_TOKEN: put a valid personal API token there\n"
    )


def test_each_account_that_is_locked_out_is_named() -> None:
    told = str(LockedOut({"work": "its token in [[accounts]]", "club": "credential token-club"}))
    assert told.count("Flowdock refused the token of account ") == 2
    assert "account club (401), which comes from credential token-club: put" in told
    assert "account work (401), which comes from its token in [[accounts]]: put" in told
