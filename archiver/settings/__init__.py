"""Settings: frozen values, each declared in one place.

Each key is declared by the field of a dataclass: its name, type, default, range and meaning.
`archiver.settings.reading` reads, refuses and explains keys by these declarations alone. The keys
of an account are declared in `archiver.settings.account`, those of the sections of the file in
`archiver.settings.sections`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from archiver.settings.account import Account
from archiver.settings.key import Key, SettingRefused
from archiver.settings.sections import (
    AuditSettings,
    BackfillSettings,
    DatabaseSettings,
    DirectorySettings,
    FilesSettings,
    IngestSettings,
    LogsSettings,
    MetricsSettings,
    SearchSettings,
    SharingSettings,
    SignalsSettings,
    StreamSettings,
)
from archiver.settings.urls import secrets_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one process."""

    data_dir: Annotated[
        Path,
        Key(doc="where the private database is kept", example='"/var/lib/archiver"'),
    ]
    accounts: tuple[Account, ...] = ()
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    stream: StreamSettings = field(default_factory=StreamSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    backfill: BackfillSettings = field(default_factory=BackfillSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    directory: DirectorySettings = field(default_factory=DirectorySettings)
    files: FilesSettings = field(default_factory=FilesSettings)
    signals: SignalsSettings = field(default_factory=SignalsSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    sharing: SharingSettings = field(default_factory=SharingSettings)
    logs: LogsSettings = field(default_factory=LogsSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)

    def require_accounts(self) -> tuple[Account, ...]:
        """The accounts to archive.

        Raises:
            SettingRefused: there are none.
        """
        if not self.accounts:
            raise SettingRefused(
                "no account is configured: set ARCHIVER_TOKEN to a personal API token "
                "(flowdock.com/account/tokens)"
            )
        return self.accounts

    def wants(self, path: str) -> bool:
        """Tell whether any account archives the flow or private conversation *path*."""
        return any(account.wants(path) for account in self.accounts)

    def excluded(self, paths: Iterable[str]) -> list[str]:
        """Those of *paths* that no account archives; empty when no account is set."""
        return [path for path in paths if self.accounts and not self.wants(path)]

    def secrets(self) -> frozenset[str]:
        """All values that no output may contain."""
        found = {account.token for account in self.accounts}
        if self.database.full_url:
            found |= secrets_of(self.database.full_url)
        return frozenset(found)
