"""Transcripts for people, and what importers of Slack's exports read."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from archiver.domain.model import FlowId
from archiver.export.messages import Message
from archiver.export.slack_objects import as_channel, as_users, channels_of, stamp
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store import directory
from archiver.store.connection import Engine
from archiver.store.engine import transaction
from tests.export.conftest import JULY, Export, content, exporter
from tests.ingest.arriving import NOW, frame, running, streamed


def test_a_transcript_keeps_each_message_in_its_lines(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "out", "text")
    told = (tmp_path / "out/acme/main/2019-06.txt").read_text()
    lines = told.split("\n")
    assert lines[0] == "acme/main 2019-06 (times are UTC)"
    assert "== 2019-06-01 ==" in lines
    assert "[00:00:00] ann<i>: <script>alert(1)</script> & \"quotes\" 'and' `ticks`" in lines
    assert '[00:00:00] ann<i>: back\\slash \\n "," ;\ttab' in lines
    assert lines[lines.index('[00:00:00] ann<i>: back\\slash \\n "," ;\ttab') + 1] == (
        "    and a line,"
    )
    assert "[00:00:00] ann<i>: edited <b>" not in lines
    assert "[00:00:00] ann<i> (edited): edited <b>" in lines
    assert "[00:00:00] ann<i> (deleted 2020-01-01 00:00):" in lines
    # No text can look like the beginning of another message.
    starts = [line for line in lines if line.startswith("[")]
    assert len(starts) == 7


def test_chat_is_no_markup_in_markdown(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "out", "markdown")
    told = (tmp_path / "out/acme/main/2019-06.md").read_text()
    assert told.startswith("# acme/main 2019\\-06\n\nTimes are UTC.\n\n## 2019-06-01\n\n- **ann")
    assert not re.search(r"(?<!\\)<", told)
    assert "\\<script\\>alert\\(1\\)" in told
    items = [line for line in told.split("\n") if line.startswith("- **")]
    assert len(items) == 7


def test_slack_exports_hold_channels_people_and_days(export: Export, tmp_path: Path) -> None:
    manifest = export(tmp_path / "out.zip", "slack")
    with zipfile.ZipFile(tmp_path / "out.zip") as packed:
        read: dict[str, Any] = {name: json.loads(packed.read(name)) for name in packed.namelist()}
    assert manifest.left_out == [
        "2 of the rows: messages that are deleted, have no time, or whose text is not known"
    ]
    assert sum(len(told) for name, told in read.items() if "/" in name) == manifest.rows - 2
    assert [one["name"] for one in read["channels.json"]] == ["main", "sp-ace"]
    assert read["dms.json"][0] | {"created": 0} == {
        "id": "D1X2",
        "created": 0,
        "members": ["U1", "U2"],
    }
    assert {one["id"]: one["profile"]["email"] for one in read["users.json"]} == {
        "U1": "ann@example.com",
        "U2": "",
    }
    days = {name for name in read if name.startswith("main/")}
    assert days == {"main/2019-06-01.json", "main/2019-07-02.json", "main/2020-01-01.json"}
    messages = [message for day in sorted(days) for message in read[day]]
    stamps = [message["ts"] for message in messages]
    assert len(set(stamps)) == len(stamps)
    assert all(re.fullmatch(r"\d{10}\.\d{6}", stamp) for stamp in stamps)
    texts = [message["text"] for message in messages]
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; \"quotes\" 'and' `ticks`" in texts
    assert "soon deleted" not in texts
    by_text = {message["text"]: message for message in messages}
    answer, question = by_text["an answer"], by_text["with a thread"]
    assert answer["thread_ts"] == question["thread_ts"]
    first = min((answer, question), key=lambda one: one["client_msg_id"])
    assert first["reply_count"] == 1
    other = answer if first is question else question
    assert other["parent_user_id"] == first["user"] != other["user"]
    assert first["replies"] == [{"user": other["user"], "ts": other["ts"]}]
    assert question["reactions"] == [{"name": "+1", "users": ["U1"], "count": 1}]
    assert by_text["edited &lt;b&gt;"]["edited"]["user"] == "U1"
    (file,) = by_text['a"&lt;b&gt;.png']["files"]
    assert (file["name"], file["mimetype"], file["size"]) == ('a"<b>.png', "image/png", 5)


@pytest.mark.parametrize(
    ("flows", "channels"),
    [
        (["acme/main", "b/Main", "private/1/2", "x/日本"], ["main", "main-2", "D1X2", "flow"]),
        (["a/main", "a/main-2", "b/main"], ["main", "main-2", "main-3"]),
        (["a/main", "b/main", "c/main-2"], ["main", "main-2", "main-2-2"]),
        (["private/1/203", "private/102/3"], ["D1X203", "D102X3"]),
        ([f"a/{'x' * 90}", f"b/{'x' * 91}"], ["x" * 75, f"{'x' * 75}-2"]),
    ],
)
def test_no_two_flows_become_one_channel(flows: list[str], channels: list[str]) -> None:
    assert channels_of(flows) == dict(zip(flows, channels, strict=True))


def test_channels_have_ids_of_their_own_however_alike_those_of_their_flows() -> None:
    known = {"path": "a/b", "name": "b", "disabled": False, "first_seen_at": "2024-01-01T00:00:00Z"}
    flow_ids = ["acme:main-team", "acme:mainteam", "acme:MainTeam", "acmem:ainteam", "日本", "東京"]
    ids = [as_channel("b", known | {"flow_id": one}, [])["id"] for one in flow_ids]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("C[0-9A-Z]+", one) for one in ids)


def test_whoever_was_heard_is_among_the_users_by_a_name_of_their_own() -> None:
    listed = {"name": None, "email": None, "disabled": False, "last_seen_at": None}
    nicks = {"1": "Ann", "2": "ann!", "3": "日本"}
    people = [listed | {"user_id": id_, "nick": nick} for id_, nick in nicks.items()]
    users = {one["id"]: one for one in as_users(people, ["0", "1", "77"])}
    assert {id_: one["name"] for id_, one in users.items()} == {
        "U1": "ann", "U2": "ann-2", "U3": "user-3", "U77": "user-77"
    }  # fmt: skip
    assert [one["deleted"] for one in users.values()] == [False, False, False, True]
    assert users["U3"]["profile"]["display_name"] == "日本"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("2019-06-01T00:00:00.5+00:00", "1559347200.500003"),
        ("1970-01-01T00:00:00.001+00:00", "0.001003"),
        ("1969-12-31T23:59:59.999+00:00", "-0.000997"),
        ("1969-12-31T23:59:57.75+00:00", "-2.249997"),
    ],
)
def test_a_stamp_is_the_time_to_the_millisecond(sent: str, told: str) -> None:
    fields = dict.fromkeys(Message.__struct_fields__)
    message = Message(**fields | {"id": 2003, "sent": sent, "event": "message"})  # type: ignore[arg-type]
    assert stamp(message, {}) == told
    assert stamp(message, {2003: 4}) == f"{told[:-1]}{6 if told.startswith('-') else 4}"


async def key_of_flow(engine: Engine) -> int:
    async with transaction(engine) as tx:
        return (await directory.name_flows(tx, [FlowId("f")], now=NOW))[FlowId("f")]


def test_messages_of_different_microseconds_have_stamps_of_their_own(
    database_url: str, tmp_path: Path
) -> None:
    """A time in text may be more precise than those of Slack's channels."""
    sent = [f"2024-05-31T12:00:00.{microseconds:06}Z" for microseconds in (100, 499, 500, 999)]
    with running(database_url) as (run, engine):
        key = run(key_of_flow(engine))
        crowd = [frame(number * 1000, sent=at) for number, at in enumerate(sent, start=1)]
        run(apply(engine, Batch(now=NOW, arrivals=[streamed(one, key) for one in crowd])))
    exporter(database_url)(tmp_path / "out", "slack", flows=("f",))
    (day,) = (tmp_path / "out" / "f").iterdir()
    stamps = [message["ts"] for message in json.loads(day.read_text())]
    assert stamps == [f"1717156800.00000{place}" for place in range(4)]


def test_messages_of_one_millisecond_have_stamps_of_their_own(
    database_url: str, tmp_path: Path
) -> None:
    thread: dict[str, Any] = {"thread_id": "t", "thread": {"id": "t", "title": "crowd"}}
    crowd = [frame(id_, content=str(id_), sent=JULY, **thread) for id_ in (7, 8, 1007, 2007, 1008)]

    def stamps(out: str, *frames: bytes) -> dict[str, str]:
        with running(database_url) as (run, engine):
            key = run(key_of_flow(engine))
            run(apply(engine, Batch(now=NOW, arrivals=[streamed(one, key) for one in frames])))
        exporter(database_url)(tmp_path / out, "slack", flows=("f",))
        (day,) = (tmp_path / out / "f").iterdir()
        told = json.loads(day.read_text())
        stamps = {message["text"]: message["ts"] for message in told}
        assert len(set(stamps.values())) == len(stamps) == len(told)
        replies = [reply["ts"] for reply in told[0]["replies"]]
        assert replies == [message["ts"] for message in told[1:]]
        assert told[0]["latest_reply"] == replies[-1]
        return stamps

    few, all_ = stamps("few", *crowd[:3]), stamps("all", *crowd)
    assert few.items() <= all_.items()
    assert {text: at[-3:] for text, at in all_.items()} == {
        "7": "007", "8": "008", "1007": "009", "1008": "010", "2007": "011"
    }  # fmt: skip


def test_the_same_archive_makes_the_same_bytes(export: Export, tmp_path: Path) -> None:
    for style in ("slack", "text", "markdown"):
        export(tmp_path / f"{style}-one", style)
        export(tmp_path / f"{style}-two", style)
        assert content(tmp_path / f"{style}-one") == content(tmp_path / f"{style}-two")
