"""Are the settings what was meant, and can only the right people read the secrets?"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from archiver.cli.checks.result import Result, ok, warning, wrong
from archiver.settings import Settings
from archiver.settings.account import LOOPBACK
from archiver.settings.reading import DEFAULT, FILE
from archiver.settings.telling import MASK, Effective

OTHERS = 0o077
PRIVATE_MODE = "only its owner should: chmod 600"
SAFE_MODES = frozenset({"verify-full", "verify-ca"})


def check_settings(
    settings: Settings, told: Sequence[Effective], config: Path | None
) -> Iterator[Result]:
    """Check which settings are given, who can read the secrets, and what travels unencrypted."""
    if settings.accounts:
        yield ok("settings", _given(told, config))
    else:
        yield wrong(
            "settings",
            "no account is configured",
            "set ARCHIVER_TOKEN to a personal API token (flowdock.com/account/tokens)",
        )
    yield from _files(told, config)
    for account in settings.accounts:
        for url in account.cleartext_urls():
            yield warning(
                "encryption",
                f"the token of account {account.name} is sent unencrypted to {url}",
                "use https://",
            )
    if settings.database.full_url:
        yield from _database_url(settings.database.full_url)
    if settings.metrics.listen:
        host = urlsplit(f"//{settings.metrics.listen}").hostname
        if host not in LOOPBACK:
            yield warning(
                "metrics",
                f"anyone who reaches {settings.metrics.listen} can read names of flows and counts",
                "listen on 127.0.0.1, or restrict access with a firewall",
            )


def _given(told: Sequence[Effective], config: Path | None) -> str:
    """How many settings are given, and where."""
    sources = [one.source for one in told if one.source != DEFAULT]
    place = f"{sources.count(FILE)} of them in {config}" if config else "all from the environment"
    return f"{len(sources)} given, {place}"


def _files(told: Sequence[Effective], config: Path | None) -> Iterator[Result]:
    """Whether others can read the files that hold secrets."""
    holding = {
        config if one.source == FILE else Path(one.source.rpartition(" (")[0])
        for one in told
        if MASK in str(one.value) and (one.source == FILE or one.source.startswith("/"))
    }
    for path in sorted(filter(None, holding)):
        if path.stat().st_mode & OTHERS:
            yield warning(
                "secrets", f"others can read {path}, which holds a secret", f"{PRIVATE_MODE} {path}"
            )


def _database_url(url: str) -> Iterator[Result]:
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    host = parts.hostname or options.get("host", [""])[0]
    is_here = not host or host.startswith("/") or host in LOOPBACK
    mode = options.get("sslmode", ["prefer"])[0]
    if not is_here and mode not in SAFE_MODES:
        yield warning(
            "encryption",
            f"sslmode={mode} does not verify that {host} is the right server",
            "add sslmode=verify-full to the options of ARCHIVER_DATABASE_URL",
        )
