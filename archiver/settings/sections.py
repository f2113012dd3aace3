"""The sections of the settings, each with its keys."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from archiver.settings.key import POSTGRES, Key
from archiver.settings.urls import with_password


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where the archive is kept."""

    url: Annotated[
        str | None,
        Key(
            doc="the PostgreSQL server; without it, a private one runs in data_dir",
            example='"postgresql://archiver@db.example.com/archive?sslmode=verify-full"',
            schemes=POSTGRES,
            credential="database-url",
        ),
    ] = field(default=None, repr=False)
    password: Annotated[
        str | None,
        Key(
            doc="the password of the URL's user, if the URL does not hold it",
            example='"correct-horse-battery"',
            secret=True,
            credential="database-password",
        ),
    ] = field(default=None, repr=False)
    pool_size: Annotated[
        int,
        Key(
            doc="maximum number of connections to the server; sharing flows takes one more",
            unit="connections",
            example="5",
            least=2,
            most=100,
        ),
    ] = 5
    postgres_bin: Annotated[
        Path | None,
        Key(
            doc="where the private server's initdb and postgres are",
            example='"/usr/lib/postgresql/17/bin"',
            environ="ARCHIVER_POSTGRES_BIN",
        ),
    ] = None

    @property
    def full_url(self) -> str | None:
        """The URL with the password."""
        if self.url is None or self.password is None:
            return self.url
        return with_password(self.url, self.password)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """How streams are followed."""

    format: Annotated[
        Literal["event-stream", "json"], Key(doc="the format to ask for", example='"event-stream"')
    ] = "event-stream"
    silence_seconds: Annotated[
        float,
        Key(
            doc="a stream that is silent for so long counts as cut, and is opened again",
            unit="seconds",
            example="90",
            least=1,
            most=3600,
        ),
    ] = 90.0
    request_line_bytes: Annotated[
        int,
        Key(
            doc="maximum length of a request line; flows that do not fit get another connection",
            unit="bytes",
            example="4096",
            least=256,
            most=65536,
        ),
    ] = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """How events are written to the database."""

    settling_seconds: Annotated[
        float,
        Key(
            doc="ids younger than this are not yet claimed to be complete, since events may be "
            "out of order",
            unit="seconds",
            example="3",
            least=0,
            # Nothing is claimed earlier, and connections that end earlier claim nothing at all.
            most=600,
        ),
    ] = 3.0
    batch_events: Annotated[
        int,
        Key(
            doc="maximum number of events in one transaction",
            unit="events",
            example="4000",
            least=1,
            most=100_000,
        ),
    ] = 4000
    linger_seconds: Annotated[
        float,
        Key(
            doc="how long a batch may wait to fill under load; with little traffic it does not",
            unit="seconds",
            example="0.01",
            least=0,
            most=60,
        ),
    ] = 0.01
    buffer_bytes: Annotated[
        int,
        Key(
            doc="how much to keep in memory while the database is away; then reading stops",
            unit="bytes",
            example="33554432",
            least=65536,
            most=2**33,
        ),
    ] = 33_554_432


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillSettings:
    """How gaps are filled."""

    requests_per_second: Annotated[
        float,
        Key(
            doc="maximum rate of requests to each host, for all flows and accounts together",
            unit="requests a second",
            example="10",
            least=0.001,
            most=10_000,
        ),
    ] = 10.0
    concurrency: Annotated[
        int,
        Key(
            doc="maximum number of requests to each host at a time; besides these, up to four "
            "files of each account may be fetched",
            unit="requests",
            example="4",
            least=1,
            most=256,
        ),
    ] = 4
    head_seconds: Annotated[
        float,
        Key(
            doc="how often to ask for each flow's newest message",
            unit="seconds",
            example="45",
            least=1,
            most=86_400,
        ),
    ] = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """How messages are listed again that may have changed unseen."""

    requests_per_second: Annotated[
        float,
        Key(
            doc="maximum rate of requests for what is listed again",
            unit="requests a second",
            example="2",
            least=0.001,
            most=10_000,
        ),
    ] = 2.0
    cycle_days: Annotated[
        float,
        Key(
            doc="how often, in quiet times, to list everything again",
            unit="days",
            example="30",
            least=0,
            most=36_500,
        ),
    ] = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySettings:
    """How flows and people are listed."""

    refresh_seconds: Annotated[
        float,
        Key(
            doc="how often to list flows and people",
            unit="seconds",
            example="300",
            least=1,
            most=86_400,
        ),
    ] = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalsSettings:
    """How long presence, typing and the like are kept."""

    retention_days: Annotated[
        float,
        Key(
            doc="how long to keep them, by this machine's clock and the database's; 0 keeps none",
            unit="days",
            example="30",
            least=0,
            most=36_500,
        ),
    ] = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSettings:
    """Whether the contents of files are archived, not only what messages say of them."""

    enabled: Annotated[
        bool,
        Key(doc="fetch the files that messages name into the database", example="true"),
    ] = True
    largest_bytes: Annotated[
        int,
        Key(
            doc="larger files are not fetched; archiver files lists them",
            unit="bytes",
            example="268435456",
            least=1,
            most=1024**4,
        ),
    ] = 256 * 1024**2


Language = Literal[
    "simple", "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish",
    "french", "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian",
    "lithuanian", "nepali", "norwegian", "portuguese", "romanian", "russian", "serbian", "spanish",
    "swedish", "tamil", "turkish", "yiddish",
]  # fmt: skip
"""The languages of which every PostgreSQL knows the forms of words; ``simple`` has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How messages are made searchable."""

    language: Annotated[
        Language,
        Key(
            doc="the language whose words are found in all their forms; after a change, all "
            "messages are made searchable again, in the background",
            example='"german"',
        ),
    ] = "english"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingSettings:
    """How several daemons on one archive share the flows."""

    enabled: Annotated[
        bool,
        Key(
            doc="capture a share of the flows, and take over that of a daemon that falls silent; "
            "if false, capture all flows that are wanted",
            example="true",
        ),
    ] = True
    lease_seconds: Annotated[
        float,
        Key(
            doc="a daemon that is silent for so long loses its share to the others",
            unit="seconds",
            example="15",
            least=1,
            most=3600,
        ),
    ] = 15.0
    name: Annotated[
        str | None,
        Key(
            doc="the name of this daemon, as in archiver status; without it, host:process",
            example='"left"',
        ),
    ] = None
    processes: Annotated[
        int,
        Key(
            doc="how many processes the daemon has; one uses at most one core. Each captures a "
            "share of the flows, with an equal part of buffer_bytes, requests_per_second and "
            "concurrency; the metrics of each further one are at the next port",
            unit="processes",
            example="2",
            least=1,
            most=32,
        ),
    ] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsSettings:
    """What is logged, and how."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Key(doc="the lowest level that is logged", example='"info"', environ="ARCHIVER_LOG_LEVEL"),
    ] = "info"
    format: Annotated[
        Literal["console", "json"],
        Key(
            doc="the format: console for people, json for machines",
            example='"console"',
            environ="ARCHIVER_LOG_FORMAT",
        ),
    ] = "console"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """What the daemon reports over HTTP: /metrics, /healthz and /readyz."""

    listen: Annotated[
        str | None,
        Key(
            doc="where to listen; without it, nothing does. No password protects what is "
            "reported: names of flows and accounts, hosts and counts, never what was said",
            example='"127.0.0.1:9471"',
            is_address=True,
        ),
    ] = None
    flows: Annotated[
        int,
        Key(
            doc="how many flows have metrics of their own, those furthest behind first; "
            "sums and extremes are over all flows",
            unit="flows",
            example="500",
            least=0,
            most=100_000,
        ),
    ] = 500
    heads_seconds: Annotated[
        float,
        Key(
            doc="not ready if for so long no flow's newest message was found in the archive; must "
            "be more than backfill.head_seconds",
            unit="seconds",
            example="300",
            least=1,
            most=86_400,
        ),
    ] = 300.0
