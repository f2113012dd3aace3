"""The options of a database's URL whose values may be shown.

All others are taken for secrets: those that are, and what a typing error makes of their names.
"""

# fmt: off
PLAIN = frozenset({
    "application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname",
    "fallback_application_name", "gssdelegation", "gssencmode", "gsslib", "host", "hostaddr",
    "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname",
    "load_balance_hosts", "max_protocol_version", "min_protocol_version", "passfile", "port",
    "require_auth", "requirepeer", "service", "servicefile", "ssl_max_protocol_version",
    "ssl_min_protocol_version", "sslcert", "sslcertmode", "sslcrl", "sslcrldir", "sslkey",
    "sslmode", "sslnegotiation", "sslrootcert", "sslsni", "target_session_attrs",
    "tcp_user_timeout", "user",
})
# fmt: on
"""Those of libpq that hold no secret."""


def is_plain(name: str, value: str) -> bool:
    """Tell whether *value* may be shown; one with another option in it, by mistake, may not."""
    return name in PLAIN and "=" not in value
