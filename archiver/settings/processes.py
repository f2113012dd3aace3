"""The settings of each process of a daemon: limits apply to all processes together."""

from dataclasses import replace
from urllib.parse import urlsplit

from archiver.settings import Settings
from archiver.settings.key import SettingRefused

MOST_PORT = 65_535


def of_process(settings: Settings, number: int) -> Settings:
    """The settings of the process *number*, counted from 1.

    Each process has an equal part of the limits, but may always send one request at a time; it has
    a port and a name of its own.
    """
    count = settings.sharing.processes
    ingest, backfill, audit = settings.ingest, settings.backfill, settings.audit
    metrics, sharing = settings.metrics, settings.sharing
    return replace(
        settings,
        ingest=replace(ingest, buffer_bytes=ingest.buffer_bytes // count),
        backfill=replace(
            backfill,
            requests_per_second=backfill.requests_per_second / count,
            concurrency=max(1, backfill.concurrency // count),
        ),
        audit=replace(audit, requests_per_second=audit.requests_per_second / count),
        metrics=replace(metrics, listen=metrics.listen and _listening(metrics.listen, number)),
        sharing=replace(sharing, name=sharing.name and _named(sharing.name, number)),
    )


def refuse_processes(settings: Settings) -> None:
    """Refuse more than one process if they would do the same work, or lack ports of their own.

    Raises:
        SettingRefused: there is more than one, and the other settings do not allow that.
    """
    if settings.sharing.processes == 1:
        return
    if not settings.sharing.enabled:
        raise SettingRefused(
            f"sharing.processes is {settings.sharing.processes}, but sharing.enabled is false, so "
            "each process would capture everything: set sharing.enabled to true"
        )
    if settings.metrics.listen:
        port = urlsplit(f"//{settings.metrics.listen}").port or 0
        if port + settings.sharing.processes - 1 > MOST_PORT:
            raise SettingRefused(
                "metrics.listen leaves no ports for the other processes (sharing.processes): "
                "choose a lower port"
            )


def _named(name: str, number: int) -> str:
    return name if number == 1 else f"{name}/{number}"


def _listening(address: str, number: int) -> str:
    """The address of the process *number*; port 0 stands for any free port."""
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + number - 1}" if int(port) else address
