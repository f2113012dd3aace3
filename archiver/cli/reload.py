"""SIGHUP: read again which flows are wanted and what is logged, while the daemon goes on."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

from archiver.cli.configuration import LoadSettings, configure_logs
from archiver.errors import ArchiverError
from archiver.observing.systemd import Notifier
from archiver.settings import Settings
from archiver.works import Works

log = logging.getLogger(__name__)

TAKEN = frozenset({"flows", "private"})
"""The settings of an account that take effect at once."""


async def reload_on_signal(
    told: asyncio.Event, load: LoadSettings, works: Works, notifier: Notifier
) -> NoReturn:
    """Read the settings again each time that *told* is set, and apply them.

    If they are refused, that is logged, and the earlier ones stay in effect.
    """
    while True:
        await told.wait()
        told.clear()
        notifier.reloading()
        try:
            settings = load.read()
            settings.require_accounts()
        except ArchiverError as refusal:
            about = {"reason": refusal}
            log.error("new settings are not valid: the old ones stay in effect", extra=about)  # noqa: TRY400
        else:
            _take(settings, works)
        notifier.reloaded()


def _take(settings: Settings, works: Works) -> None:
    before = works.settings
    configure_logs(settings.logs, secrets=settings.secrets() | before.secrets())
    works.replan(settings)
    log.info("settings reloaded")
    if waiting := list(waiting_for_restart(before, settings)):
        log.warning(
            "some changed settings take effect only after a restart", extra={"settings": waiting}
        )


def waiting_for_restart(before: Settings, after: Settings) -> Iterator[str]:
    """The names of the settings that differ and do not take effect at once."""
    old = {account.name: account for account in before.accounts}
    new = {account.name: account for account in after.accounts}
    yield from (f"accounts.{name}" for name in sorted(old.keys() ^ new.keys()))
    for name in sorted(old.keys() & new.keys()):
        for key in _differing(old[name], new[name]):
            if key not in TAKEN:
                yield f"accounts.{name}.{key}"
    for section in fields(Settings):
        one, other = getattr(before, section.name), getattr(after, section.name)
        if section.name in {"accounts", "logs"} or one == other:
            continue
        if is_dataclass(one):
            yield from (f"{section.name}.{key}" for key in _differing(one, other))
        else:
            yield section.name


def _differing(one: Any, other: Any) -> Iterator[str]:
    for field in fields(one):
        if field.compare and getattr(one, field.name) != getattr(other, field.name):
            yield field.name
