"""Adds, finds and masks the passwords in the URLs of databases."""

from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus, urlsplit

from archiver.store.url_options import is_plain

URL_SECRETS = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key"})
"""The options of libpq that are secret."""


def with_password(url: str, password: str) -> str:
    """*url* with *password* as an option, which works even if the URL names no user or host."""
    mark = "&" if urlsplit(url).query else "?"
    return f"{url}{mark}password={quote(password, safe='')}"


def password_of(url: str) -> str | None:
    """The password in *url*, as an option or next to the user; None if there is none."""
    parts = urlsplit(url)
    return dict(parse_qsl(parts.query)).get("password") or parts.password or None


def secrets_of(url: str) -> frozenset[str]:
    """The secrets in *url*, which no output may contain, in every spelling."""
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
    """*url* with *mask* in place of each password, and of each option that may hold a secret."""
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
