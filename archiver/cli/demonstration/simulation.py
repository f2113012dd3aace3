"""A client of the simulator's control endpoints."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from archiver.errors import ArchiverError

PATIENCE = aiohttp.ClientTimeout(total=60)


class Simulation:
    """A running simulator, by its address."""

    def __init__(self, session: aiohttp.ClientSession, api_url: str) -> None:
        self._session = session
        self._url = f"{api_url}/_simulator"

    async def streams(self) -> int:
        """How many of its streams are open."""
        return int((await self._ask("GET", "stats"))["connections"])

    async def truth(self) -> list[Mapping[str, Any]]:
        """Every record of what is true now."""
        async with self._session.get(f"{self._url}/truth") as answer:
            answer.raise_for_status()
            return [json.loads(line) for line in (await answer.read()).split(b"\n") if line]

    async def refuse_streams(self, *, seconds: float) -> None:
        """Drop all streams now, and refuse new ones for so long."""
        await self._ask("POST", "faults", {"kind": "refuse", "on": "stream", "seconds": seconds})

    async def refusals(self) -> int:
        """How often the streams were dropped and refused."""
        told = await self._ask("GET", "faults")
        return int(told["fired"].get("refuse", 0))

    async def stop_traffic(self) -> None:
        """Stop the simulated traffic."""
        await self._ask("POST", "stop_traffic")

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        async with self._session.request(method, f"{self._url}/{path}", json=body) as answer:
            answer.raise_for_status()
            told: dict[str, Any] = await answer.json()
            return told


@asynccontextmanager
async def reach_simulator(api_url: str) -> AsyncIterator[Simulation]:
    """A client of the simulator at *api_url*, while the block lasts.

    Raises:
        ArchiverError: the simulator does not answer.
    """
    try:
        async with aiohttp.ClientSession(timeout=PATIENCE) as session:
            yield Simulation(session, api_url)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ArchiverError(f"the simulator at {api_url} does not answer: {error}") from error
