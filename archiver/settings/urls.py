"""URLs of databases: their passwords put in, found, and hidden."""

from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus, urlsplit

from archiver.store.url_options import is_plain

URL_SECRETS = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key"})
"""Options of libpq that are secret."""


def with_password(url: str, password: str) -> str:
    """*url* with *password* as an option: a URL need not name a user, or a host, to put it by."""
    mark = "&" if urlsplit(url).query else "?"
    return f"{url}{mark}password={quote(password, safe='')}"


def password_of(url: str) -> str | None:
    """The password of the user of *url*, wherever it stands there; None when it holds none."""
    parts = urlsplit(url)
    return dict(parse_qsl(parts.query)).get("password") or parts.password or None


def secrets_of(url: str) -> frozenset[str]:
    """What of *url* no output may hold, in every spelling."""
    return frozenset(
        spelled
        for value in _passwords(url)
        for spelled in (
            value,
            unquote(value),
            quote(value),
            quote(value, safe=""),
            quote_plus(value),
        )
    )


def masked(url: str, mask: str) -> str:
    """*url* with each of its passwords exchanged for *mask*, and all else that may be one."""
    place, _, query = url.partition("?")
    if password := urlsplit(url).password:
        place = place.replace(f":{password}@", f":{mask}@", 1)
    options = [_masked(option, mask) for option in query.split("&") if option]
    return f"{place}?{'&'.join(options)}" if options else place


def _masked(option: str, mask: str) -> str:
    name, mark, value = option.partition("=")
    if not mark:
        return mask
    return option if is_plain(unquote_plus(name), unquote_plus(value)) else f"{name}={mask}"


def _passwords(url: str) -> list[str]:
    parts = urlsplit(url)
    options = [value for name, value in parse_qsl(parts.query) if name in URL_SECRETS]
    return [*options, *([parts.password] if parts.password else [])]
