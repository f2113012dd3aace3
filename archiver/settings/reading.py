"""Reads settings from a TOML table, the environment, and files that hold secrets.

The environment takes precedence over the file; an empty variable counts as unset. A secret may be
in a file of its own, named by ``<key>_file`` or ``<VARIABLE>_FILE``; systemd's credentials
(LoadCredential=) come last. What is unknown, of the wrong type or out of range is refused by name.

A relative path in the file is relative to the file's directory; one in the environment, to the
current directory.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archiver.settings import Settings
from archiver.settings.account import Account
from archiver.settings.files import credential_of, read_secret
from archiver.settings.key import SettingRefused
from archiver.settings.processes import refuse_processes
from archiver.settings.refusing import refuse_unknown_keys, refuse_unknown_variables
from archiver.settings.table import ACCOUNT, ACCOUNTS, FIRST, SECTIONS, TOP, Setting, settings_of
from archiver.settings.urls import password_of
from archiver.settings.values import checked, parse

FILE = "file"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class SetValue:
    """A value that was set, and where it comes from."""

    value: Any
    source: str
    """`FILE`, `DEFAULT`, or a description for people."""
    is_from_variable: bool = False
    """Whether a variable gives it, or names the file that does."""


Gift = Mapping[str, SetValue]
"""The values that are set for some settings, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetValues:
    """All values that are set."""

    top: Gift
    first: Gift
    """The values of an account at the top of the file: for the only one, or defaults for all."""
    accounts: tuple[Gift, ...]
    sections: Mapping[str, Gift]


def read_settings(
    table: Mapping[str, Any], environ: Mapping[str, str], *, directory: Path = Path()
) -> Settings:
    """The settings in *table*, the content of a TOML file in *directory*, and in *environ*.

    Raises:
        SettingRefused: a key is not valid, or two contradict each other; it names the first.
    """
    gifts = gather(table, environ, directory)
    settings = Settings(
        **_values(gifts.top),
        accounts=_accounts(gifts),
        **{name: kind(**_values(gifts.sections[name])) for name, kind in SECTIONS.items()},
    )
    refuse_processes(settings)
    _refuse_late_heads(settings)
    return settings


def gather(table: Mapping[str, Any], environ: Mapping[str, str], directory: Path) -> SetValues:
    """The checked values in *table*, from a file in *directory*, and in *environ*.

    Raises:
        SettingRefused: a key is not valid; it names the first.
    """
    refuse_unknown_variables(environ)
    refuse_unknown_keys(table)
    top = _given(TOP, table, environ, directory)
    sections = {
        name: _given(settings_of(kind, name), table.get(name, {}), environ, directory)
        for name, kind in SECTIONS.items()
    }
    sections["database"] = _with_one_password(sections["database"])
    return SetValues(
        top=top if "data_dir" in top else {"data_dir": _state_dir(environ)} | top,
        first=_given(FIRST, table, environ, directory),
        accounts=tuple(_each_account(table, environ, directory)),
        sections=sections,
    )


def _each_account(
    table: Mapping[str, Any], environ: Mapping[str, str], directory: Path
) -> Iterator[Gift]:
    for number, entry in enumerate(table.get(ACCOUNTS, ()), start=1):
        given = dict(_given(ACCOUNT, entry, {}, directory))
        if "name" not in given:
            raise SettingRefused(f"accounts.name is missing in account {number} of the file")
        handed = credential_of(f"token-{given['name'].value}", environ)
        if "token" not in given and handed:
            given["token"] = _of_credential(_TOKEN, handed)
        if "token" not in given:
            raise SettingRefused(
                f"accounts.token is missing in account {number} of the file; "
                f"give it, or token_file, or systemd's credential token-{given['name'].value}"
            )
        yield given


def _accounts(gifts: SetValues) -> tuple[Account, ...]:
    first = gifts.first
    if not gifts.accounts:
        only = {"name": SetValue("default", DEFAULT), **first}
        return (_account(only, in_file="token in the settings file"),) if "token" in first else ()
    if "token" in first:
        raise SettingRefused(
            "a token is given at the top (token or ARCHIVER_TOKEN, their files, or systemd's "
            "credential token) as well as [[accounts]]: "
            "give each account its own token, and none at the top"
        )
    found: dict[str, Account] = {}
    for given in gifts.accounts:
        account = _account({**first, **given}, in_file="its token in [[accounts]]")
        if account.name in found:
            raise SettingRefused(
                f"two accounts have the accounts.name {account.name!r}: names must differ"
            )
        found[account.name] = account
    _refuse_two_services(found.values())
    return tuple(found.values())


def _refuse_two_services(accounts: Iterable[Account]) -> None:
    """Refuse accounts of different services, whose ids of people and messages would collide."""
    first, *others = accounts
    for other in others:
        if other.api_url != first.api_url:
            raise SettingRefused(
                f"accounts.api_url of {other.name!r} is another service than that of "
                f"{first.name!r}, and their people and messages would be mixed up: give each "
                "service an archive of its own"
            )


def _account(gift: Gift, *, in_file: str) -> Account:
    """The account that *gift* describes; *in_file* says where a token in the file is set."""
    source = gift["token"].source
    return Account(**_values(gift), whence=in_file if source == FILE else source)


def _given(
    settings: Iterable[Setting],
    table: Mapping[str, Any],
    environ: Mapping[str, str],
    directory: Path,
) -> dict[str, SetValue]:
    """The checked values of *settings*, by name; for a secret in a file, the secret itself."""
    found: dict[str, SetValue] = {}
    secret: Setting | None = None
    for setting in settings:
        given = _plainly(setting, table, environ, directory)
        if not setting.names_file:
            secret = setting
            if given:
                found[setting.name] = given
        elif secret:
            taken = _of_two(secret, found.get(secret.name), setting, given)
            handed = credential_of(secret.key.credential, environ)
            if taken is None and handed:
                taken = _of_credential(secret, handed)
            if taken:
                found[secret.name] = taken
    return found


def _plainly(
    setting: Setting, table: Mapping[str, Any], environ: Mapping[str, str], directory: Path
) -> SetValue | None:
    """The value of *setting* from the environment, or else from the file; paths are absolute."""
    if text := environ.get(setting.environ):
        value = checked(setting, parse(setting, text), source=setting.environ)
        given = SetValue(value, setting.environ, is_from_variable=True)
    elif setting.name in table:
        given = SetValue(checked(setting, table[setting.name], source=setting.full_name), FILE)
    else:
        return None
    if isinstance(given.value, Path):
        origin = Path() if given.is_from_variable else directory
        path = origin / _below_home(given.value, environ)
        return replace(given, value=path.absolute())
    return given


def _of_two(
    secret: Setting, given: SetValue | None, file: Setting, path: SetValue | None
) -> SetValue | None:
    """The value of *secret*, which is set directly, by the path of a file, or not at all."""
    if path is None or (given and given.is_from_variable and not path.is_from_variable):
        return given
    name = file.environ if path.is_from_variable else file.full_name
    if given and given.is_from_variable == path.is_from_variable:
        directly = secret.environ if given.is_from_variable else secret.full_name
        raise SettingRefused(f"{directly} and {name} are both given: give one")
    read = _from_file(secret, path.value, f"{path.value} ({name})", named=name)
    return replace(read, is_from_variable=path.is_from_variable)


def _of_credential(secret: Setting, path: Path) -> SetValue:
    name = f"credential {path.name}"
    return _from_file(secret, path, name, named=name)


def _from_file(secret: Setting, path: Path, source: str, *, named: str) -> SetValue:
    read = read_secret(path, named=named)
    return SetValue(checked(secret, read, source=f"{path} ({named})"), source)


def _with_one_password(database: Gift) -> dict[str, SetValue]:
    """*database*, without its password if a URL that ranks higher holds another one.

    Raises:
        SettingRefused: there is a password without a URL, or besides one that holds a password.
    """
    found = dict(database)
    if "password" not in found:
        return found
    if "url" not in found:
        raise SettingRefused(
            "database.password is given without database.url (ARCHIVER_DATABASE_URL): give both, "
            "or leave the password out to use a private server"
        )
    url, password = found["url"], found["password"]
    if password_of(url.value) is None:
        return found
    if url.is_from_variable and not password.is_from_variable:
        del found["password"]
        return found
    places = [
        f"database.{name} in the file" if one.source == FILE else one.source
        for name, one in (("url", url), ("password", password))
    ]
    raise SettingRefused(
        f"{places[0]} holds a password, but {places[1]} gives another one: give only one of them"
    )


def _refuse_late_heads(settings: Settings) -> None:
    """Refuse to count as not ready before any flow's newest message is asked for again."""
    asked, ready = settings.backfill.head_seconds, settings.metrics.heads_seconds
    if ready <= asked:
        raise SettingRefused(
            f"metrics.heads_seconds is {ready:g}, but backfill.head_seconds is {asked:g}, so it "
            "would be not ready between two requests: set metrics.heads_seconds to more than that"
        )


def _values(gift: Gift) -> dict[str, Any]:
    return {name: given.value for name, given in gift.items()}


def _state_dir(environ: Mapping[str, str]) -> SetValue:
    """The default directory for state: systemd's, or else the user's."""
    # systemd.exec(5): several directories are separated by colons.
    if given := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return SetValue(Path(given), "STATE_DIRECTORY")
    state = environ.get("XDG_STATE_HOME", "")
    # XDG Base Directory Specification: a relative path must be ignored.
    if state.startswith("/"):
        return SetValue(Path(state, "archiver"), "XDG_STATE_HOME")
    return SetValue(_below_home(Path("~/.local/state/archiver"), environ), DEFAULT)


def _below_home(path: Path, environ: Mapping[str, str]) -> Path:
    """*path* with a leading ``~`` replaced by the home directory.

    Raises:
        SettingRefused: nobody says which directory that is.
    """
    if path.parts[:1] != ("~",):
        return path
    try:
        return Path(environ.get("HOME") or Path.home(), *path.parts[1:])
    except RuntimeError as error:
        raise SettingRefused(
            f"{path} cannot be found: this user has no home directory; set HOME, or name an "
            "absolute path (for the data: ARCHIVER_DATA_DIR)"
        ) from error


_TOKEN = next(setting for setting in ACCOUNT if setting.name == "token")
