"""The options in a database URL whose values may be shown.

All others are treated as secrets, since a misspelt name may be that of a secret.
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
"""The options of libpq that contain no secrets."""


def is_plain(name: str, value: str) -> bool:
    """Tell whether *value* may be shown; not if, by mistake, it contains another option."""
    return name in PLAIN and "=" not in value
