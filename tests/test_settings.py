"""Settings: what is accepted, where it comes from, and how errors are reported."""

import json
import math
import os
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.errors import ArchiverError
from archiver.settings import Settings
from archiver.settings.account import Account, matches
from archiver.settings.key import SettingRefused
from archiver.settings.processes import of_process
from archiver.settings.reading import read_settings
from archiver.settings.table import ACCOUNT, SECTIONS, SETTINGS
from archiver.settings.telling import effective, example
from archiver.settings.urls import masked

HOME = {"HOME": "/home/ada"}
MARKER = "s3cret-marker"


def test_every_number_has_bounds() -> None:
    numbers = [one for one in SETTINGS if one.kind in {int, float}]
    assert len(numbers) > 10
    for one in numbers:
        assert math.isfinite(one.key.least), one.full_name
        assert math.isfinite(one.key.most), one.full_name


def test_every_key_has_a_name_of_its_own_a_meaning_and_an_example() -> None:
    assert len({one.full_name for one in SETTINGS}) == len(SETTINGS)
    assert len({one.environ for one in SETTINGS}) == len(SETTINGS)
    assert all(one.environ.startswith("ARCHIVER_") for one in SETTINGS)
    assert all(one.key.doc and one.key.example for one in (*SETTINGS, *ACCOUNT))
    declared = sum(len(fields(kind)) for kind in SECTIONS.values())
    assert declared == sum(one.section != "" and not one.names_file for one in SETTINGS)


def test_nothing_given_means_the_defaults() -> None:
    assert read_settings({}, HOME) == Settings(data_dir=Path("/home/ada/.local/state/archiver"))


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: one.full_name)
def test_every_default_is_a_value_that_could_be_given(setting: Any) -> None:
    if setting.default is None:
        return
    value = list(setting.default) if isinstance(setting.default, tuple) else setting.default
    section = {setting.section: {setting.name: value}} if setting.section else {setting.name: value}
    assert read_settings(section, HOME) == read_settings({}, HOME)
    text = ",".join(value) if isinstance(value, list) else str(value)
    assert read_settings({}, {**HOME, setting.environ: text}) == read_settings({}, HOME)


def test_the_environment_wins_over_the_file_and_an_empty_variable_counts_as_unset() -> None:
    table = {"stream": {"silence_seconds": 30, "format": "json"}}
    environ = {"ARCHIVER_STREAM_SILENCE_SECONDS": "45.5", "ARCHIVER_STREAM_FORMAT": ""}
    stream = read_settings(table, environ).stream
    assert (stream.silence_seconds, stream.format) == (45.5, "json")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"STATE_DIRECTORY": "/var/lib/archiver:/other", "XDG_STATE_HOME": "/x"},
            "/var/lib/archiver",
        ),
        ({"XDG_STATE_HOME": "/state"}, "/state/archiver"),
        ({"XDG_STATE_HOME": "relative"}, "/home/ada/.local/state/archiver"),
        ({"ARCHIVER_DATA_DIR": "~/chat", "STATE_DIRECTORY": "/s"}, "/home/ada/chat"),
    ],
)
def test_data_lies_where_the_system_keeps_state(environ: dict[str, str], expected: str) -> None:
    assert read_settings({}, HOME | environ).data_dir == Path(expected)


def test_a_user_without_a_home_is_told_unless_none_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 5)  # an id that no user has
    with pytest.raises(
        SettingRefused, match=r"no home directory; set HOME, or .*ARCHIVER_DATA_DIR"
    ):
        read_settings({}, {})
    with pytest.raises(SettingRefused, match=r"^~/chat cannot be found"):
        read_settings({}, {"ARCHIVER_DATA_DIR": "~/chat"})
    assert read_settings({}, {"ARCHIVER_DATA_DIR": "/data"}).data_dir == Path("/data")


@pytest.mark.parametrize(
    ("table", "environ", "told"),
    [
        ({"stream": {"silence_second": 3}}, {}, "did you mean stream.silence_seconds?"),
        (
            {"silence_seconds": 3},
            {},
            "silence_seconds is not a setting; did you mean stream.silence",
        ),
        ({"strem": {}}, {}, "strem is not a setting; did you mean stream?"),
        (
            {"zzz": 1},
            {},
            "api_url, stream_url, flows, private, database, stream, ingest, ",
        ),
        (
            {"logs": {"zzz": 1}},
            {},
            "logs.zzz is not a setting; the settings are: logs.level, logs.format",
        ),
        ({"accounts": [{"nam": "a"}]}, {}, "did you mean accounts.name?"),
        ({"stream": 3}, {}, "write [stream]"),
        ({"accounts": {"name": "a"}}, {}, "write [[accounts]]"),
        (
            {},
            {"ARCHIVER_TOKENS": "x"},
            "ARCHIVER_TOKENS is not a setting; did you mean ARCHIVER_TOKEN?",
        ),
        (
            {"stream": {"format": "xml"}},
            {},
            "stream.format cannot be 'xml': expected one of event-",
        ),
        ({"stream": {"format": 3}}, {}, "stream.format cannot be 3"),
        ({"stream": {"silence_seconds": "90"}}, {}, "stream.silence_seconds cannot be '90'"),
        (
            {"stream": {"silence_seconds": True}},
            {},
            "cannot be True: expected a number, at least 1",
        ),
        ({"stream": {"silence_seconds": float("inf")}}, {}, "cannot be inf"),
        ({"stream": {"silence_seconds": 10**400}}, {}, "expected a number, at least 1"),
        (
            {"ingest": {"batch_events": 1.5}},
            {},
            "expected a whole number, at least 1, at most 100000",
        ),
        (
            {"ingest": {"settling_seconds": 601}},
            {},
            "ingest.settling_seconds cannot be 601: expected a number, at least 0, at most 600",
        ),
        (
            {"files": {"largest_bytes": 2**41}},
            {},
            "expected a whole number, at least 1, at most 1099511627776",
        ),
        ({}, {"ARCHIVER_INGEST_BATCH_EVENTS": "0"}, "ARCHIVER_INGEST_BATCH_EVENTS cannot be 0"),
        ({}, {"ARCHIVER_STREAM_SILENCE_SECONDS": "nan"}, "cannot be nan"),
        ({}, {"ARCHIVER_PRIVATE": "maybe"}, "cannot be 'maybe': expected true or false"),
        ({"private": 1}, {}, "private cannot be 1: expected true or false"),
        ({"flows": ["acme"]}, {}, "flows cannot be ['acme']: expected patterns"),
        ({"flows": []}, {}, "flows cannot be []"),
        ({"flows": [1]}, {}, "flows cannot be [1]"),
        ({"api_url": "ftp://host"}, {}, "expected an http:// or https:// URL"),
        ({"api_url": "https://"}, {}, "expected an http:// or https:// URL"),
        ({"api_url": "https://host:port"}, {}, "expected an http:// or https:// URL"),
        ({"data_dir": ""}, {}, "data_dir cannot be ''"),
        (
            {},
            {"ARCHIVER_TOKEN": f"{MARKER}\nx"},
            "ARCHIVER_TOKEN is not usable: expected one line of printable text",
        ),
        ({"accounts": [{"name": "a"}]}, {}, "accounts.token is missing in account 1"),
        (
            {"accounts": [{"name": "a", "token": "t"}, {"name": "a", "token": "u"}]},
            {},
            "two accounts have the accounts.name 'a'",
        ),
        (
            {
                "api_url": "https://one.example",
                "accounts": [
                    {"name": "a", "token": "t"},
                    {"name": "b", "token": "u", "api_url": "https://one.example/"},
                    {"name": "c", "token": "v", "api_url": "https://two.example"},
                ],
            },
            {},
            "accounts.api_url of 'c' is another service than that of 'a'",
        ),
        (
            {"backfill": {"head_seconds": 600}},
            {},
            "metrics.heads_seconds is 300, but backfill.head_seconds is 600",
        ),
        (
            {},
            {"ARCHIVER_CONFIG_FILE": "/x"},
            "FILE is not a setting; did you mean ARCHIVER_",
        ),
        ({"accounts": [{"name": "a", "token": "t"}]}, {"ARCHIVER_TOKEN": "u"}, "none at the top"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(
    table: dict[str, Any], environ: dict[str, str], told: str
) -> None:
    with pytest.raises(SettingRefused) as refusal:
        read_settings(table, environ)
    assert isinstance(refusal.value, ArchiverError)
    assert told in str(refusal.value)


@pytest.mark.parametrize("name", ["ARCHIVER_CONFIG", "ARCHIVER_TEST_DATABASE_URL", "OTHER"])
def test_variables_that_are_for_others_are_left_alone(name: str) -> None:
    assert read_settings({}, {**HOME, name: "x"}) == read_settings({}, HOME)


@pytest.mark.parametrize(
    "table",
    [
        {"token": [MARKER]},
        {"token": MARKER + "\n"},
        {"database": {"url": [MARKER]}},
        {"database": {"url": MARKER}},
        {"database": {"url": f"mysql://ada:{MARKER}@host/db"}},
        {"database": {"url": f"postgresql://ada:{MARKER}@host:port/db"}},
        {"database": {"url": f"postgresql://ada:[{MARKER}@host/db"}},
        {"api_url": f"https://ada:{MARKER}@host"},
        {"api_url": f"https://host/?access_token={MARKER}"},
        {"stream_url": f"https://host/flows#{MARKER}"},
        {"token": MARKER, "accounts": [{"name": "a", "token": MARKER}]},
    ],
)
def test_a_refusal_never_tells_a_secret(table: dict[str, Any]) -> None:
    with pytest.raises(SettingRefused) as refusal:
        read_settings(table, {})
    assert MARKER not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:p%23w@host:5432/db?sslmode=require",
        "postgres://host/db",
        "postgresql+psycopg://[::1]/db",
        "postgresql://archiver@/archiver?host=/run/postgresql&port=5432",
    ],
)
def test_a_database_is_named_by_a_url(url: str) -> None:
    assert read_settings({"database": {"url": url}}, HOME).database.url == url


def test_a_token_makes_the_one_account() -> None:
    environ = {"ARCHIVER_TOKEN": MARKER, "ARCHIVER_FLOWS": "acme/*, !acme/noise"}
    (account,) = read_settings({"api_url": "http://localhost:8700/"}, environ).require_accounts()
    assert (account.name, account.token) == ("default", MARKER)
    assert account.flows == ("acme/*", "!acme/noise")
    assert account.api_url == "http://localhost:8700"


def test_accounts_inherit_what_stands_at_the_top() -> None:
    accounts = [{"name": "a", "token": "t1"}, {"name": "b", "token": "t2", "flows": "b/*"}]
    found = read_settings({"flows": ["a/*"], "private": False, "accounts": accounts}, {}).accounts
    assert [(one.name, one.flows, one.private) for one in found] == [
        ("a", ("a/*",), False),
        ("b", ("b/*",), False),
    ]


def test_a_variable_stands_for_the_top_and_an_account_may_say_otherwise() -> None:
    accounts = [{"name": "a", "token": "t1"}, {"name": "b", "token": "t2", "flows": "b/*"}]
    table = {"flows": ["a/*"], "accounts": accounts}
    found = read_settings(table, {**HOME, "ARCHIVER_FLOWS": "c/*"}).accounts
    assert [one.flows for one in found] == [("c/*",), ("b/*",)]


def test_without_an_account_the_message_names_the_setting() -> None:
    with pytest.raises(SettingRefused, match="set ARCHIVER_TOKEN"):
        read_settings({}, HOME).require_accounts()


def test_no_secret_is_in_what_settings_print_and_all_are_among_the_secrets() -> None:
    environ = {
        "ARCHIVER_TOKEN": MARKER,
        "ARCHIVER_DATABASE_URL": "postgresql://ada:p%40ss-marker@host/db",
    }
    settings = read_settings({}, HOME | environ)
    assert "marker" not in repr(settings)
    assert settings.secrets() >= {MARKER, "p%40ss-marker", "p@ss-marker"}
    assert not any("host" in secret for secret in settings.secrets())


def test_a_token_sent_in_clear_is_noticed_but_not_on_this_machine() -> None:
    def account(api: str) -> Account:
        return Account(name="a", token="t", api_url=api, stream_url="https://host")

    assert account("http://chat.example").cleartext_urls() == ("http://chat.example",)
    assert account("http://127.0.0.1:8700").cleartext_urls() == ()
    assert account("https://chat.example").cleartext_urls() == ()


@pytest.mark.parametrize(
    ("patterns", "path", "wanted"),
    [
        (["*"], "acme/main", True),
        (["acme/*"], "acme/main", True),
        (["acme/*"], "other/main", False),
        (["*/main"], "ACME/Main", True),
        (["ACME/*"], "acme/main", True),
        (["acme/*", "!acme/noise"], "acme/noise", False),
        (["!acme/noise", "acme/*"], "acme/noise", True),
        (["!acme/noise"], "acme/main", True),
        (["!acme/noise"], "acme/noise", False),
        (["acme/ma?n"], "acme/main", True),
        (["acme/[a-z]*"], "acme/main", False),
        (["acme/[old]"], "acme/[old]", True),
        ([], "acme/main", False),
    ],
)
def test_the_last_pattern_that_matches_decides(
    patterns: list[str], path: str, wanted: bool
) -> None:
    assert matches(path, patterns) is wanted


@given(st.booleans(), st.lists(st.sampled_from(["*", "!*", "a/*"]), min_size=1))
def test_patterns_of_flows_do_not_decide_on_private_conversations(
    private: bool, patterns: list[str]
) -> None:
    account = Account(name="a", token="t", flows=tuple(patterns), private=private)
    assert account.wants("private/1/2") is private


@pytest.fixture
def handed(tmp_path: Path) -> Path:
    """A directory of credentials like the one that systemd hands to a service."""
    (tmp_path / "token").write_text(f"{MARKER}\n")
    (tmp_path / "token-work").write_text(f"{MARKER}-work")
    (tmp_path / "database-password").write_text("p@ss/marker\n")
    return tmp_path


def test_a_secret_may_stand_in_a_file_that_a_key_or_a_variable_names(handed: Path) -> None:
    path = str(handed / "token")
    for table, environ in (({"token_file": path}, {}), ({}, {"ARCHIVER_TOKEN_FILE": path})):
        assert read_settings(table, HOME | environ).accounts[0].token == MARKER
    entry = {"name": "work", "token_file": str(handed / "token-work")}
    assert read_settings({"accounts": [entry]}, HOME).accounts[0].token == f"{MARKER}-work"


def test_a_relative_path_begins_in_the_file_that_names_it_or_in_the_current_directory(
    handed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    for directory in (handed, Path("..")):
        table = {"token_file": "token", "data_dir": "kept", "database": {"postgres_bin": "bin"}}
        settings = read_settings(table, HOME, directory=directory)
        assert settings.accounts[0].token == MARKER
        assert settings.data_dir.resolve() == handed / "kept"
        assert settings.data_dir.is_absolute()
        assert settings.database.postgres_bin == settings.data_dir.with_name("bin")
        accounts = [{"name": "work", "token_file": "token-work"}]
        found = read_settings({"accounts": accounts}, HOME, directory=directory)
        assert found.accounts[0].token == f"{MARKER}-work"
    environ = {"ARCHIVER_TOKEN_FILE": "../token", "ARCHIVER_DATA_DIR": "kept"}
    settings = read_settings({}, HOME | environ, directory=handed)
    assert settings.accounts[0].token == MARKER
    assert settings.data_dir == elsewhere / "kept"
    assert read_settings({"data_dir": "~/kept"}, HOME, directory=handed).data_dir == Path(
        "/home/ada/kept"
    )


def test_systemd_hands_secrets_over_and_what_is_given_otherwise_wins(handed: Path) -> None:
    environ = {**HOME, "CREDENTIALS_DIRECTORY": str(handed)}
    table: dict[str, Any] = {"database": {"url": "postgresql://ada@host/db?sslmode=require"}}
    settings = read_settings(table, environ)
    assert settings.accounts[0].token == MARKER
    assert settings.database.full_url == (
        "postgresql://ada@host/db?sslmode=require&password=p%40ss%2Fmarker"
    )
    assert {"p@ss/marker", "p%40ss%2Fmarker"} <= settings.secrets()
    assert read_settings(table | {"token": "other"}, environ).accounts[0].token == "other"
    (handed / "token").unlink()
    table["accounts"] = [{"name": "work"}]
    assert read_settings(table, environ).accounts[0].token.endswith("-work")


@pytest.mark.parametrize("variable", ["ARCHIVER_DATABASE_URL", "ARCHIVER_DATABASE_URL_FILE"])
@pytest.mark.parametrize("lower", ["password", "password_file", "credential"])
def test_a_password_in_the_url_of_a_variable_wins_over_one_that_ranks_lower(
    variable: str, lower: str, handed: Path
) -> None:
    owners, writers = "postgresql://owner:hers@host/db", "postgresql://writer@host/db"
    (handed / "url").write_text(owners)
    path = str(handed / "database-password")
    given = {"password": {"password": "p"}, "password_file": {"password_file": path}}
    table = {"database": {"url": writers, **given.get(lower, {})}}
    environ = {variable: owners if variable.endswith("URL") else str(handed / "url")}
    if lower == "credential":
        environ["CREDENTIALS_DIRECTORY"] = str(handed)
    assert read_settings(table, HOME | environ).database.full_url == owners
    if variable.endswith("URL"):
        environ[variable] = "postgresql://owner@host/db"
        url = read_settings(table, HOME | environ).database.full_url
        assert url is not None
        assert url.startswith("postgresql://owner@host/db?password=p")


def test_an_account_knows_whence_its_token_comes(handed: Path) -> None:
    path = str(handed / "token")
    (handed / "database-password").unlink()
    work, club = {"name": "work"}, {"name": "club", "token": "t"}
    credentials = {"CREDENTIALS_DIRECTORY": str(handed)}
    for table, environ, told in (
        ({}, {"ARCHIVER_TOKEN": "t"}, "ARCHIVER_TOKEN"),
        ({}, {"ARCHIVER_TOKEN_FILE": path}, f"{path} (ARCHIVER_TOKEN_FILE)"),
        ({"token": "t"}, {}, "token in the settings file"),
        ({"token_file": path}, {}, f"{path} (token_file)"),
        ({}, credentials, "credential token"),
        ({"accounts": [club]}, {}, "its token in [[accounts]]"),
        ({"accounts": [work | {"token_file": path}]}, {}, f"{path} (accounts.token_file)"),
    ):
        (account,) = read_settings(table, HOME | environ).accounts
        assert account.whence == told
    (handed / "token").unlink()
    (account,) = read_settings({"accounts": [work]}, HOME | credentials).accounts
    assert account.whence == "credential token-work"


@pytest.mark.parametrize(
    ("table", "environ", "told"),
    [
        (
            {"token_file": "/no/such"},
            {},
            "cannot read the secret in /no/such (token_file): No such file",
        ),
        (
            {},
            {"ARCHIVER_DATABASE_URL_FILE": "/no/such"},
            "cannot read the secret in /no/such (ARCHIVER_DATABASE_URL_FILE): No such file",
        ),
        (
            {"accounts": [{"name": "club", "token_file": "/dev/null"}]},
            {},
            "the file /dev/null (accounts.token_file) should hold a secret, but is empty",
        ),
        (
            {"token_file": "/dev/zero"},
            {},
            "the file /dev/zero (token_file) should hold a secret, but has more than 64 KiB",
        ),
        ({"token": "t", "token_file": "/x"}, {}, "token and token_file"),
        (
            {},
            {"ARCHIVER_TOKEN": "t", "ARCHIVER_TOKEN_FILE": "/x"},
            "ARCHIVER_TOKEN and ARCHIVER_TOKEN_FILE",
        ),
        (
            {"database": {"url": "postgresql://a:b@host/db", "password": "c"}},
            {},
            "database.url in the file holds a password, but database.password in the file gives",
        ),
        (
            {"database": {"url": "postgresql://a@host/db?password=b", "password": "c"}},
            {"ARCHIVER_DATABASE_PASSWORD": "d"},
            "database.url in the file holds a password, but ARCHIVER_DATABASE_PASSWORD gives",
        ),
        (
            {},
            {
                "ARCHIVER_DATABASE_URL": "postgresql://a:b@host/db",
                "ARCHIVER_DATABASE_PASSWORD": "c",
            },
            "ARCHIVER_DATABASE_URL holds a password, but ARCHIVER_DATABASE_PASSWORD gives another",
        ),
        (
            {"database": {"password": "c"}},
            {},
            "database.password is given without database.url",
        ),
        (
            {},
            {"ARCHIVER_DATABASE_PASSWORD": "c"},
            "database.password is given without database.url",
        ),
        ({"metrics": {"listen": "9471"}}, {}, "expected host:port"),
        ({"metrics": {"listen": "127.0.0.1"}}, {}, "expected host:port"),
    ],
)
def test_what_is_given_twice_or_nowhere_is_refused(
    table: dict[str, Any], environ: dict[str, str], told: str
) -> None:
    with pytest.raises(SettingRefused, match=re.escape(told)):
        read_settings(table, HOME | environ)


def test_the_environment_names_a_file_and_wins_over_a_token_in_the_settings(handed: Path) -> None:
    environ = {**HOME, "ARCHIVER_TOKEN_FILE": str(handed / "token")}
    assert read_settings({"token": "other"}, environ).accounts[0].token == MARKER
    environ = {**HOME, "ARCHIVER_TOKEN": "other"}
    table = {"token_file": str(handed / "token")}
    assert read_settings(table, environ).accounts[0].token == "other"


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff", b"two\nlines"])
def test_a_file_that_holds_no_secret_is_refused_and_not_quoted(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(SettingRefused, match=re.escape(str(tmp_path))) as refusal:
        read_settings({"token_file": str(tmp_path / "token")}, HOME)
    assert "lines" not in str(refusal.value)


def test_each_process_has_its_part_of_the_limits_and_a_name_and_a_port_of_its_own() -> None:
    table = {
        "ingest": {"buffer_bytes": 9_000_000},
        "backfill": {"requests_per_second": 9, "concurrency": 4},
        "audit": {"requests_per_second": 3},
        "metrics": {"listen": "[::1]:9471"},
        "sharing": {"processes": 3, "name": "ours"},
    }
    whole = read_settings(table, {})
    parts = [of_process(whole, number) for number in (1, 2, 3)]
    assert [part.ingest.buffer_bytes for part in parts] == [3_000_000] * 3
    assert [part.backfill.requests_per_second for part in parts] == [3] * 3
    assert [part.backfill.concurrency for part in parts] == [1] * 3
    assert [part.audit.requests_per_second for part in parts] == [1] * 3
    assert [part.metrics.listen for part in parts] == ["[::1]:9471", "[::1]:9472", "[::1]:9473"]
    assert [part.sharing.name for part in parts] == ["ours", "ours/2", "ours/3"]
    assert {part.database for part in parts} == {whole.database}

    alone = read_settings({"sharing": {"name": "ours"}, "metrics": {"listen": "localhost:0"}}, {})
    assert of_process(alone, 1) == alone
    free = read_settings({"sharing": {"processes": 9}, "metrics": {"listen": "localhost:0"}}, {})
    last = of_process(free, 9)
    assert (last.metrics.listen, last.sharing.name) == ("localhost:0", None)
    assert last.backfill.concurrency == 1


@pytest.mark.parametrize(
    ("section", "given", "named"),
    [
        ("sharing", {"enabled": False}, "sharing.enabled"),
        ("metrics", {"listen": "127.0.0.1:65534"}, "metrics.listen"),
    ],
)
def test_processes_that_could_not_work_beside_each_other_are_refused(
    section: str, given: dict[str, Any], named: str
) -> None:
    for count in (1, 2):
        read_settings({"sharing": {"processes": count}}, {})
    read_settings({section: given}, {})
    table: dict[str, dict[str, Any]] = {"sharing": {"processes": 3}}
    table[section] = table.get(section, {}) | given
    with pytest.raises(SettingRefused, match=named) as refused:
        read_settings(table, {})
    assert "sharing.processes" in str(refused.value)


def test_the_example_tells_every_setting_with_all_that_is_to_be_known() -> None:
    told = example()
    for setting in SETTINGS:
        assert f"#{setting.name} = {setting.key.example}" in told
        assert f"Environment: {setting.environ}." in told
    assert all(line[:1] in {"", "#", "["} for line in told.split("\n"))
    assert tomllib.loads(told) == {name: {} for name in SECTIONS}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: one.full_name)
def test_every_line_of_the_example_can_be_put_to_use(setting: Any, tmp_path: Path) -> None:
    line = f"{setting.name} = {setting.key.example}"
    if setting.names_file:
        secret = next(one for one in SETTINGS if one.environ + "_FILE" == setting.environ)
        (tmp_path / "secret").write_text(tomllib.loads(f"x = {secret.key.example}")["x"])
        line = f"{setting.name} = {json.dumps(str(tmp_path / 'secret'))}"
    section = f"[{setting.section}]\n" if setting.section else ""
    if setting.name.startswith("password"):
        section += 'url = "postgresql://host/db"\n'
    read_settings(tomllib.loads(section + line), HOME)


def test_the_accounts_of_the_example_can_be_put_to_use() -> None:
    _, mark, rest = example().partition("#[[accounts]]")
    table = tomllib.loads((mark + rest).replace("\n#", "\n").removeprefix("#"))
    (account,) = read_settings(table, HOME).accounts
    assert (account.name, account.flows) == ("work", ("acme/*", "!acme/noise"))


def test_the_documentation_is_that_of_the_code() -> None:
    document = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()
    assert f"```toml\n{example()}```" in document, (
        "docs/settings.md is to hold what archiver config --example prints"
    )


def test_each_setting_is_told_with_its_source_and_without_secrets(handed: Path) -> None:
    table = {"database": {"url": "postgresql://ada:p%40ss-marker@host/db"}, "private": False}
    environ = {**HOME, "ARCHIVER_TOKEN_FILE": str(handed / "token"), "ARCHIVER_LOG_LEVEL": "debug"}
    found = {one.name: (one.value, one.source) for one in effective(table, environ)}
    assert found["token"] == ("***", f"{handed / 'token'} (ARCHIVER_TOKEN_FILE)")
    assert found["database.url"] == ("postgresql://ada:***@host/db", "file")
    assert found["private"] == (False, "file")
    assert found["logs.level"] == ("debug", "ARCHIVER_LOG_LEVEL")
    assert found["stream.silence_seconds"] == (90.0, "default")
    assert found.keys() == {one.full_name for one in SETTINGS if not one.names_file}
    assert "marker" not in str(found)


def test_of_several_accounts_each_is_told(handed: Path) -> None:
    accounts = [{"name": "work", "token": MARKER}, {"name": "club", "token": "t", "private": False}]
    found = {
        one.name: one.value for one in effective({"flows": ["a/*"], "accounts": accounts}, HOME)
    }
    assert found["accounts.work.token"] == found["accounts.club.token"] == "***"
    assert found["accounts.club.flows"] == ["a/*"]
    assert (found["accounts.work.private"], found["accounts.club.private"]) == (True, False)
    assert "token" not in found


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql://a:b@host/db", "postgresql://a:***@host/db"),
        ("postgresql://host/db?user=a&password=b%20c", "postgresql://host/db?user=a&password=***"),
        (
            "postgresql://a:b@h/d?sslpassword=c&sslmode=require",
            "postgresql://a:***@h/d?sslpassword=***&sslmode=require",
        ),
        ("postgresql://a@h/d?pasword=b&Password=b", "postgresql://a@h/d?pasword=***&Password=***"),
        ("postgresql://a@h/d?sslmode=x;password=b", "postgresql://a@h/d?sslmode=***"),
        ("postgresql://a@h/d?sslmode=x%26password%3Db", "postgresql://a@h/d?sslmode=***"),
        ("postgresql://a@h/d?b", "postgresql://a@h/d?***"),
        ("postgresql://a@h/d?ssl%6Dode=require", "postgresql://a@h/d?ssl%6Dode=require"),
    ],
)
def test_of_a_url_all_is_masked_but_what_is_known_to_be_no_secret(url: str, shown: str) -> None:
    assert masked(url, "***") == shown
