"""``archiver status --watch``: read the archive again and again, and show it on one screen."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import NoReturn

import aiohttp
from msgspec.structs import replace
from rich.console import Console

from archiver.cli.dashboard import Look, View, draw
from archiver.cli.full_screen import full_screen
from archiver.cli.terminal import has_colours
from archiver.logs import tell_error
from archiver.store.engine import DatabaseError

PATIENCE = aiohttp.ClientTimeout(total=1.0)

Read = Callable[[], Awaitable[Look]]
"""Reads the archive once."""
Count = Callable[[Look], Awaitable[Mapping[str, int]]]
"""Counts, by flow, the events that are new at its head since a look."""


async def watch(
    read: Read, count: Count, *, every_seconds: float, listen: str | None, is_shared: bool
) -> NoReturn:
    """Show what *read* and *count* give, until cancelled.

    With *listen*, the address of the daemon's endpoints, it is shown whether the daemon captures;
    otherwise, if *is_shared*, whether any daemon reports in.
    """
    console = Console(highlight=False, color_system="auto" if has_colours() else None)
    with full_screen(console) as live:
        async for view in views(
            read, count, every_seconds=every_seconds, listen=listen, is_shared=is_shared
        ):
            width, height = console.size
            live.update(draw(view, width=width, height=height), refresh=True)
    raise AssertionError("views end only by being cancelled")


async def views(
    read: Read, count: Count, *, every_seconds: float, listen: str | None, is_shared: bool = True
) -> AsyncIterator[View]:
    """Yield what to show, again and again; while the database is away, what was shown last.

    Raises:
        DatabaseError: the database is away from the beginning.
    """
    last: View | None = None
    async with aiohttp.ClientSession(timeout=PATIENCE) as session:
        while True:
            readiness = await ask_readiness(session, listen) if listen else None
            try:
                new = await count(last.look) if last else {}
                look = await read()
            except DatabaseError as error:
                if last is None:
                    raise
                trouble = f"the database is away: {tell_error(error)}"
                last = replace(last, trouble=trouble, rates={}, readiness=readiness)
            else:
                seconds = (look.at - last.look.at).total_seconds() if last else 1.0
                last = View(
                    look=look,
                    every_seconds=every_seconds,
                    rates={flow: events / max(seconds, 0.001) for flow, events in new.items()},
                    readiness=readiness,
                    is_shared=is_shared,
                )
            yield last
            await asyncio.sleep(every_seconds)


async def ask_readiness(session: aiohttp.ClientSession, listen: str) -> str:
    """Why the daemon whose endpoints are at *listen* does not capture; empty when it does."""
    try:
        async with session.get(f"http://{listen}/readyz") as answer:
            told = await answer.json()
            return "; ".join(map(str, told["why"]))
    except (aiohttp.ClientError, TimeoutError):
        return f"nothing answers at {listen}"
    except (ValueError, KeyError, TypeError):
        return f"something else answers at {listen}"
