"""The settings of an account: its token, and which flows to archive."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated
from urllib.parse import urlsplit

from archiver.domain.model import is_private
from archiver.settings.key import WEB, Key

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One Flowdock user whose flows are archived."""

    name: Annotated[str, Key(doc="the account's name in logs and metrics", example='"work"')]
    token: Annotated[
        str,
        Key(
            doc="a personal API token (flowdock.com/account/tokens)",
            example='"0123456789abcdef0123456789abcdef"',
            secret=True,
            credential="token",
        ),
    ] = field(repr=False)
    api_url: Annotated[
        str, Key(doc="the URL of the REST API", example='"https://api.flowdock.com"', schemes=WEB)
    ] = "https://api.flowdock.com"
    stream_url: Annotated[
        str,
        Key(
            doc="the URL of the streaming API", example='"https://stream.flowdock.com"', schemes=WEB
        ),
    ] = "https://stream.flowdock.com"
    flows: Annotated[
        tuple[str, ...],
        Key(
            doc="which flows to archive: patterns of organization/flow, in which * stands for any "
            "letters and ? for one; ! excludes, the last match wins",
            example='["acme/*", "!acme/noise"]',
        ),
    ] = ("*",)
    private: Annotated[bool, Key(doc="archive private conversations too", example="true")] = True
    whence: str = field(default="ARCHIVER_TOKEN", compare=False)
    """Where the token is set, so that errors can say where to correct it."""

    def wants(self, path: str) -> bool:
        """Tell whether the flow or private conversation *path* is to be archived."""
        return self.private if is_private(path) else matches(path, self.flows)

    def idle_patterns(self, paths: Iterable[str]) -> tuple[str, ...]:
        """The patterns that match none of *paths*: they may be mistyped."""
        known = list(paths)
        return tuple(
            pattern
            for pattern in self.flows
            if not any(matches(path, [pattern.removeprefix("!")]) for path in known)
        )

    def cleartext_urls(self) -> tuple[str, ...]:
        """The URLs to which the token would travel unencrypted over a network."""
        parts = [(url, urlsplit(url)) for url in (self.api_url, self.stream_url)]
        return tuple(
            url for url, at in parts if at.scheme == "http" and at.hostname not in LOOPBACK
        )


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Tell whether *path* is among *patterns*: ``!`` excludes, the last match wins.

    ``*`` matches any text and ``?`` one letter; no other character is special, and case does not
    matter. If the first pattern excludes, everything else is included.
    """
    chosen = bool(patterns) and patterns[0].startswith("!")
    for pattern in patterns:
        plain = pattern.removeprefix("!").casefold().replace("[", "[[]")
        if fnmatchcase(path.casefold(), plain):
            chosen = not pattern.startswith("!")
    return chosen
