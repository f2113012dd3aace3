"""Distributes flows over connections, by the length of the request line; pure.

A stream's request names its flows in the query, and the server refuses a request head longer than
8 KiB. So flows are distributed over shards, with one connection each. A flow stays on its shard as
long as both exist: joining or leaving a flow must not break the connections of others.
"""

from collections.abc import Iterable, Sequence
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

MAX_LINE_BYTES = 4096
"""The limit for a request line: half of what the server takes as a head, for headers need room."""


class Shard(Struct, frozen=True, kw_only=True):
    """The flows of one connection, by path, and whether it brings private messages too."""

    flows: tuple[str, ...] = ()
    private: bool = False


def query_of(shard: Shard) -> str:
    """Return the query that requests *shard*, percent-encoded (streaming documentation)."""
    parts = []
    if shard.flows:
        parts.append("filter=" + quote(",".join(shard.flows), safe=""))
    if shard.private:
        parts.append("user=1")
    return "&".join(parts)


def line_bytes(shard: Shard) -> int:
    """Return the length of the request line that requests *shard*."""
    return len(f"GET /flows?{query_of(shard)} HTTP/1.1\r\n")


def assign(
    paths: Iterable[str],
    kept: Sequence[Shard] = (),
    *,
    private: bool,
    limit_bytes: int = MAX_LINE_BYTES,
) -> list[Shard]:
    """Assign *paths* to shards whose request lines fit *limit_bytes*, with few changes to *kept*.

    Every path is on one shard. Private messages, if wanted, are on exactly one: every connection
    that requests them brings all of them. A path too long for any line gets a shard of its own.
    """
    wanted = set(paths)
    shards = []
    for shard in kept:
        flows = tuple(path for path in dict.fromkeys(shard.flows) if path in wanted)
        remaining = _shortened(replace(shard, flows=flows), limit_bytes)
        wanted.difference_update(remaining.flows)
        shards.append(remaining)
    shards = _with_private(shards, private=private)
    sizes = [line_bytes(shard) for shard in shards]
    for path in sorted(wanted):
        size = len("&filter=" + quote("," + path, safe=""))
        at = next((at for at, used in enumerate(sizes) if used + size <= limit_bytes), len(shards))
        if at == len(shards):
            shards.append(Shard())
            sizes.append(0)
        shards[at] = replace(shards[at], flows=(*shards[at].flows, path))
        sizes[at] = line_bytes(shards[at])
    return shards


def halve(shard: Shard) -> tuple[Shard, Shard]:
    """Split *shard* in two, since the server refuses its request as too long."""
    middle = len(shard.flows) // 2
    return replace(shard, flows=shard.flows[:middle]), Shard(flows=shard.flows[middle:])


def _shortened(shard: Shard, limit_bytes: int) -> Shard:
    """Return *shard* with as many of its flows as the limit allows, but at least one."""
    while len(shard.flows) > 1 and line_bytes(shard) > limit_bytes:
        shard = replace(shard, flows=shard.flows[:-1])
    return shard


def _with_private(shards: list[Shard], *, private: bool) -> list[Shard]:
    """Return *shards* with private messages on one: the first that has them, else the first."""
    if private and not shards:
        return [Shard(private=True)]
    first = next((at for at, shard in enumerate(shards) if shard.private), 0)
    placed = (replace(s, private=private and at == first) for at, s in enumerate(shards))
    return [shard for shard in placed if shard.flows or shard.private]
