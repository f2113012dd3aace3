"""Archives moved by export and import: the rows are equal, or both archives' if merged."""

import json
import random
import re
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import Phase, find, settings
from msgspec.structs import replace

from archiver.cli.export import EVENTS, _format
from archiver.cli.restoration import is_own, require_journal, restore
from archiver.domain.coverage import Ranges
from archiver.domain.model import Flow, FlowId
from archiver.domain.proportion import OUT_OF_PROPORTION
from archiver.errors import ArchiverError
from archiver.export.writing import write_export
from archiver.ingest import importing
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.erasing import erase
from archiver.ingest.erasing_plan import Wanted
from archiver.store import directory, files
from archiver.store.coverage import Standing
from archiver.store.engine import transaction
from archiver.store.exporting_choice import Selection
from tests.conftest import created, named
from tests.export.conftest import fill
from tests.export.test_files import CONTENTS, PICTURE, attach, keep
from tests.ingest.arriving import (
    NOW,
    Gone,
    Heard,
    edit,
    fail_to_journal,
    frame,
    gone,
    hearsay,
    listed,
    query,
    running,
    streamed,
    together,
)

VIEWS = {
    "flows": "flow_id", "users": "user_id", "messages": "flow, id", "threads": "flow, thread_id",
    "revisions": "flow, message_id, ordinal", "events": "flow, id", "forms": "flow, id, form",
    "attachments": "flow, message_id, position", "coverage": "flow, witness, from_id",
    "gaps": "flow, from_id",
}  # fmt: skip


def shown(url: str) -> dict[str, list[Any]]:
    """What the views of the archive show, row by row."""
    found = {
        view: query(url, f"SELECT row_to_json(v)::text FROM archive.{view} v ORDER BY {order}")
        for view, order in VIEWS.items()
    }
    # A gap is dated from when this archive came to know of it, so dates differ.
    found["gaps"] = query(url, "SELECT flow, from_id, to_id FROM archive.gaps ORDER BY 1, 2")
    rejects = "SELECT received_at, origin, reason, raw FROM archive.rejects ORDER BY raw, origin"
    found["rejects"] = query(url, rejects)
    found["as_of"] = query(url, "SELECT id, as_of, revisions FROM store.messages ORDER BY 1, 2, 3")
    return found


@pytest.fixture
def second_url(
    postgres_url: str, postgres_admin: psycopg.Connection, template_database: str
) -> Iterator[str]:
    with created(postgres_admin, template_database) as name:
        yield named(postgres_url, name)


def export(url: str, to: Path, **chosen: Any) -> None:
    all_ = tuple(path for (path,) in query(url, "SELECT flow FROM archive.flows ORDER BY 1"))
    flows = chosen.pop("flows", all_)
    since = chosen.get("since")
    arguments = {"format": "jsonl", "events": True, "since": since and since.isoformat()}
    with running(url) as (run, engine):
        run(
            write_export(
                engine,
                _format(EVENTS),
                Selection(flows=flows, **chosen),
                to,
                arguments=arguments,
                version="test",
                tell=lambda _: None,
            )
        )


def bring_in(url: str, file: Path, steps: list[str] | None = None) -> Any:
    """Import an export; *steps* collects what is reported meanwhile."""

    def tell(_done: float, where: str) -> None:
        if steps is not None:
            steps.append(where)

    with running(url) as (run, engine):
        return run(restore(engine, file, require_journal(file), lambda _: None, tell))


async def gossip(engine: Any, url: str) -> None:
    """Archive more of all kinds: forms, sightings, imports, a vanished message, random hearsay."""
    ((key,),) = query(url, "SELECT flow_key FROM store.flows WHERE flow_id = 'g'")
    spaced = frame(1, flow="g", content="elsewhere") + b"\n "
    arrivals = [
        streamed(spaced, key),
        listed(spaced, key, as_of=9, at=NOW.replace(day=2)),
        listed(spaced, key, as_of=11, at=NOW.replace(day=3)),
        listed(frame(2, tags=["x"]), key, as_of=3),
        listed(frame(2, tags=["x"]), key, as_of=8, at=NOW.replace(day=3)),
        replace(listed(frame(2, tags=["y"]), key, as_of=7), witness="import"),
        replace(listed(frame(2, tags=["x"]), key, as_of=12), witness="import"),
        listed(frame(2, tags=["y"]), key, as_of=10, at=NOW.replace(day=3)),
        gone(2, key, as_of=20),
        streamed(edit(30, 31, "waits for its message"), key),
    ]
    await apply(engine, Batch(now=NOW.replace(day=4), arrivals=arrivals))
    ((private,),) = query(url, "SELECT flow_key FROM store.flows WHERE flow_id = 'private/1/2'")
    chance = random.Random(5)
    for seed in range(3):
        # Examples are not shrunk: the smallest ones are hardly random any more.
        many = settings(phases=[Phase.generate], database=None, deadline=None)
        heard: list[Heard] = find(
            hearsay(), lambda told: len(told) > 8, settings=many, random=random.Random(seed)
        )
        chance.shuffle(heard)
        # An export puts an absence into the file of its own time, so its form gets another number.
        told = [one for one in heard if not isinstance(one, Gone)]
        await apply(engine, together(told, private))


def test_an_archive_that_was_moved_shows_the_same(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
        run(gossip(engine, database_url))
    export(database_url, tmp_path / "out.zip")
    imported = bring_in(second_url, tmp_path / "out.zip")
    assert imported.taken == len(query(database_url, "SELECT FROM store.journal"))
    assert shown(second_url) == shown(database_url)

    export(second_url, tmp_path / "again")
    manifests = [json.loads((tmp_path / "again" / "manifest.json").read_text())]
    with contents(tmp_path / "out.zip") as read:
        manifests.append(json.loads(read("manifest.json")))
    digests = [{file["path"]: file["sha256"] for file in one["files"]} for one in manifests]
    assert digests[0] == digests[1]
    assert bring_in(second_url, tmp_path / "out.zip").taken == 0
    assert shown(second_url) == shown(database_url)


@contextmanager
def contents(packed: Path) -> Iterator[Any]:

    with zipfile.ZipFile(packed) as source:
        yield source.read


def test_large_events_are_brought_in_few_at_a_time(
    database_url: str, second_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH_BYTES", 10_000)
    large = [frame(id_, content="x" * 9_000 if id_ < 7 else "small") for id_ in range(1, 17)]
    with running(database_url) as (run, engine):
        run(fill(engine))
        ((key,),) = query(database_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'g'")
        arrivals = [streamed(one, key) for one in large]
        run(apply(engine, Batch(now=NOW, arrivals=arrivals)))
    export(database_url, tmp_path / "out")
    bring_in(second_url, tmp_path / "out")
    together = "SELECT sum(length(payload::text)), count(*) FROM store.journal GROUP BY xmin::text"
    sizes = query(second_url, together)
    assert max(size for size, _ in sizes) < 20_000
    assert max(count for _, count in sizes) >= 10


def test_two_archives_become_one(database_url: str, second_url: str, tmp_path: Path) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
    with running(second_url) as (run, engine):
        run(fill(engine))
        ((key,),) = query(second_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")
        more = [streamed(edit(60, 1, "only here"), key), streamed(frame(61), key)]
        run(apply(engine, Batch(now=NOW, arrivals=more)))
    export(second_url, tmp_path / "out")
    assert bring_in(database_url, tmp_path / "out").taken == 2
    here, there = shown(database_url), shown(second_url)
    assert here == there


def test_of_two_flows_of_one_path_the_same_goes_by_it(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    async def see(engine: Any, *ids: str) -> None:
        for day, id_ in enumerate(ids, start=1):
            async with transaction(engine) as tx:
                listed = [Flow(id=FlowId(id_), path="acme/main")]
                await directory.see_flows(tx, listed, now=NOW.replace(day=day))

    paths = "SELECT flow_id, flow FROM archive.flows ORDER BY 1"
    with running(database_url) as (run, engine):
        run(see(engine, "a", "c", "b"))
    there = [("a", "acme/main@a"), ("b", "acme/main"), ("c", "acme/main@c")]
    assert query(database_url, paths) == there
    export(database_url, tmp_path / "out")
    bring_in(second_url, tmp_path / "out")
    assert query(second_url, paths) == there

    here = [("a", "acme/main"), ("b", "acme/main@b"), ("c", "acme/main@c")]
    with psycopg.connect(second_url, autocommit=True) as db:
        for flow_id, path in here:
            db.execute(
                "UPDATE store.flows SET path = %s, last_seen_at = %s WHERE flow_id = %s",
                [path, NOW.replace(year=2000), flow_id],
            )
    bring_in(second_url, tmp_path / "out")
    assert query(second_url, paths) == here


def part_of_a_journal(url: str, to: Path) -> Path:
    with running(url) as (run, engine):
        run(fill(engine))
    export(url, to, since=NOW.replace(year=2019))
    return to


def test_part_of_a_journal_proves_nothing(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    bring_in(second_url, part_of_a_journal(database_url, tmp_path / "out"))
    assert query(second_url, "SELECT * FROM archive.coverage") == []


def test_what_part_of_a_journal_brings_in_may_be_gone_by_now(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    bring_in(second_url, part_of_a_journal(database_url, tmp_path / "out"))
    held = (
        "SELECT l.flow_key, epoch, max(id) FROM store.ledger l JOIN store.journal USING (flow_key)"
    )
    with running(second_url) as (run, engine):
        for key, epoch, newest in query(second_url, f"{held} GROUP BY 1, 2"):
            gain = Standing(listed=Ranges(((1, newest),)), due=newest, epoch=epoch)
            run(apply(engine, Batch(now=NOW, gains={key: gain})))
    assert query(second_url, "SELECT * FROM archive.doubts") == []
    bring_in(second_url, tmp_path / "out")
    doubts = query(second_url, "SELECT DISTINCT flow FROM archive.doubts")
    assert {flow for (flow,) in doubts} == claimed(second_url) != set()


FAR = 5 * 10**9


def claimed(url: str) -> set[str]:
    """The flows of which the archive at *url* claims any range."""
    return {flow for (flow,) in query(url, "SELECT DISTINCT flow FROM archive.coverage")}


def test_no_more_is_believed_of_an_archive_than_of_anybody(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    """Neither ids nor positions of listings are believed that are out of proportion."""
    with running(database_url) as (run, engine):
        run(fill(engine))
        ((key,),) = query(database_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")
        shown_by_far = listed(frame(62, tags=["a"]), key, as_of=FAR)
        odd = [streamed(frame(61), key), shown_by_far, streamed(frame(FAR), key)]
        run(apply(engine, Batch(now=NOW, arrivals=odd)))
    export(database_url, tmp_path / "out")
    assert bring_in(second_url, tmp_path / "out").rejected == 2
    assert query(second_url, "SELECT max(id), max(as_of) FROM store.journal") == [(61, 61)]
    reasons = "SELECT reason FROM archive.rejects WHERE strpos(reason, 'impossibly') > 0"
    assert query(second_url, reasons) == [(OUT_OF_PROPORTION,)] * 2


@pytest.mark.parametrize("gain", [Standing(streamed=Ranges(((50, FAR),))), Standing(due=FAR)])
def test_no_claim_is_believed_that_goes_far_beyond_the_events(
    database_url: str, second_url: str, tmp_path: Path, gain: Standing
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
        ((key,),) = query(database_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")
        run(apply(engine, Batch(now=NOW, gains={key: gain})))
    export(database_url, tmp_path / "out")
    assert bring_in(second_url, tmp_path / "out").rejected == 0
    assert claimed(database_url) - claimed(second_url) == {"acme/main"}


def test_what_is_rejected_of_an_archive_is_not_claimed(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
        ((key,),) = query(database_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")
        gain = Standing(streamed=Ranges(((61, 63),)), due=63)
        said = [streamed(frame(id_), key) for id_ in (61, 62, 63)]
        run(apply(engine, Batch(now=NOW, arrivals=said, gains={key: gain})))
    export(database_url, tmp_path / "out")
    fail_to_journal(second_url, 62, state="22023")
    assert bring_in(second_url, tmp_path / "out").rejected == 1
    assert claimed(database_url) - claimed(second_url) == {"acme/main"}


def test_what_is_rejected_of_an_archive_counts_once_however_often_it_was_listed(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
    export(database_url, tmp_path / "out")
    events = query(database_url, "SELECT count(*) FROM archive.forms")[0][0]
    at = "2020-01-01T00:00:00Z"
    seen = {"shown_as_of": 9, "shown_at": at, "first_shown_as_of": 9, "first_shown_at": at}
    odd = {"payload": "[]", "witness": "list", **seen}
    file = change_first_line(tmp_path / "out", "events", odd)
    with (tmp_path / "out" / file).open("rb") as lines:
        lacking = json.loads(lines.readline())["flow"]
    brought = bring_in(second_url, tmp_path / "out")
    assert (brought.read, brought.rejected, brought.known) == (events, 1, 0)
    assert query(second_url, "SELECT count(*) FROM archive.rejects WHERE raw = '[]'") == [(1,)]
    assert lacking not in claimed(second_url)


def test_what_postgres_refuses_of_an_archive_counts_once_however_often_it_was_listed(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
        ((key,),) = query(database_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")
        said = [streamed(frame(61), key), *(listed(frame(61), key, as_of=n) for n in (62, 63))]
        for one in said:
            run(apply(engine, Batch(now=NOW, arrivals=[one])))
    export(database_url, tmp_path / "out")
    events = query(database_url, "SELECT count(*) FROM archive.forms")[0][0]
    fail_to_journal(second_url, 61, state="22023")
    for taken in (events - 1, 0):
        brought = bring_in(second_url, tmp_path / "out")
        told = (brought.taken, brought.known, brought.rejected)
        assert told == (taken, events - 1 - taken, 1)


def change_first_line(to: Path, file: str, fields: dict[str, Any]) -> str:
    """Change *fields* in the first line of an exported file, and its manifest; return its name."""
    manifest = json.loads((to / "manifest.json").read_bytes())
    told = next(one for one in manifest["files"] if one["path"].startswith(file))
    first, rest = (to / told["path"]).read_bytes().split(b"\n", 1)
    changed = json.dumps(json.loads(first) | fields).encode() + b"\n" + rest
    (to / told["path"]).write_bytes(changed)
    told |= {"size_bytes": len(changed), "sha256": sha256(changed).hexdigest()}
    (to / "manifest.json").write_text(json.dumps(manifest))
    return str(told["path"])


def test_keys_of_another_release_are_passed_over(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
    export(database_url, tmp_path / "out")
    for file in ("events/", "flows.jsonl", "users.jsonl", "rejects.jsonl"):
        change_first_line(tmp_path / "out", file, {"of_another_release": [1]})
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    for name in ("not_heard", "not_told", "not_measured", "left_out"):
        del manifest[name]
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest | {"newer": {}}))
    bring_in(second_url, tmp_path / "out")
    assert shown(second_url) == shown(database_url)


def test_an_export_that_is_not_as_its_manifest_says_is_refused(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
    export(database_url, tmp_path / "out")
    (tmp_path / "out" / "users.jsonl").write_bytes(b"{}\n")
    with pytest.raises(ArchiverError, match=r"users\.jsonl: \d bytes instead of"):
        bring_in(second_url, tmp_path / "out")
    assert query(second_url, "SELECT * FROM archive.flows") == []


@pytest.mark.parametrize(
    ("file", "field", "odd"),
    [
        ("events", "id", -5),
        ("events", "as_of", 2**63),
        ("events", "shown_at", "2020-01-01T00:00:00"),
        ("events", "shown_at", "0001-01-01T00:00:00+05:00"),
        ("events", "received_at", "9999-12-31T23:59:59-05:00"),
        ("flows", "last_seen_at", "0001-01-01T00:00:00+05:00"),
        ("flows", "path", "a/\0"),
        ("users", "nick", "\0"),
        ("rejects", "raw", "no"),
        ("rejects", "origin", "\0"),
    ],
)
def test_a_line_that_no_archive_writes_is_told_with_its_place(
    database_url: str, second_url: str, tmp_path: Path, file: str, field: str, odd: object
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
    export(database_url, tmp_path / "out")
    path = change_first_line(tmp_path / "out", file, {field: odd})
    with pytest.raises(ArchiverError, match=rf"{path}, line 1: "):
        bring_in(second_url, tmp_path / "out")


KEPT = """
    SELECT f.path, k.path, sha256, string_agg(bytes, NULL ORDER BY part)
    FROM store.attached k JOIN store.flows f USING (flow_key)
    LEFT JOIN store.file_parts USING (sha256)
    GROUP BY 1, 2, 3 ORDER BY 1, 2
"""


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_what_files_hold_is_moved_with_the_archive(
    database_url: str, second_url: str, tmp_path: Path, name: str
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
        run(attach(engine))
    export(database_url, tmp_path / name, files=True)
    steps: list[str] = []
    for _ in range(2):
        assert not bring_in(second_url, tmp_path / name, steps).rejected
        assert query(second_url, KEPT) == query(database_url, KEPT)
    length = "SELECT sum(f.size_bytes) FROM store.attached JOIN store.files f USING (sha256)"
    assert steps[-1] == f"contents of files, {query(database_url, length)[0][0]:,} bytes"
    held = [row[3] for row in query(second_url, KEPT) if row[3] is not None]
    assert set(held) == CONTENTS - {b""}


def test_what_a_service_gave_meanwhile_stays(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
        run(attach(engine))
    export(database_url, tmp_path / "out", files=True)
    bring_in(second_url, tmp_path / "out")
    change = "UPDATE store.attached SET sha256 = 'other' WHERE path = '/files/1' RETURNING 1"
    assert query(second_url, change) == [(1,)]
    bring_in(second_url, tmp_path / "out")
    of_one = "SELECT sha256 FROM store.attached WHERE path = '/files/1'"
    assert query(second_url, of_one) == [("other",)]


def test_a_path_may_be_as_long_as_any_that_is_kept(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    path = "/files/" + "x" * (files.LONGEST_PATH_BYTES - 7)
    with running(database_url) as (run, engine):
        run(fill(engine))
        run(attach(engine))
        key = query(database_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")[0][0]
        said = frame(150, attachments=[{"file_name": "x", "path": path}])
        run(apply(engine, Batch(now=NOW, arrivals=[streamed(said, key)])))
        run(keep(engine, {path: PICTURE}))
    export(database_url, tmp_path / "out", files=True)
    bring_in(second_url, tmp_path / "out")
    assert path in {row[1] for row in query(second_url, KEPT)}


def test_a_file_that_was_erased_is_not_brought_back(database_url: str, tmp_path: Path) -> None:
    kept = "SELECT path, sha256 FROM store.attached FULL JOIN store.files USING (sha256) ORDER BY 1"
    with running(database_url) as (run, engine):
        run(fill(engine))
        run(attach(engine))
        export(database_url, tmp_path / "out", files=True)
        key = query(database_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")[0][0]
        found = run(erase(engine, Wanted(flow_key=key, ids=frozenset({102})), now=NOW))
    assert len(found.paths) == 1
    left = query(database_url, kept)
    bring_in(database_url, tmp_path / "out")
    assert query(database_url, kept) == left


def test_a_file_that_only_an_earlier_form_of_a_message_names_is_moved(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    path = "/flows/acme/f/files/1/gone.png"
    with running(database_url) as (run, engine):
        run(fill(engine))
        key = query(database_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")[0][0]
        said = frame(150, attachments=[{"file_name": "x", "path": path}])
        run(apply(engine, Batch(now=NOW, arrivals=[streamed(said, key)])))
        run(keep(engine, {path: PICTURE}))
        shown_without = listed(frame(150), key, as_of=160)
        run(apply(engine, Batch(now=NOW, arrivals=[shown_without])))
    export(database_url, tmp_path / "out", files=True)
    bring_in(second_url, tmp_path / "out")
    assert path in {row[1] for row in query(second_url, KEPT)}


def test_a_journal_of_some_flows_holds_the_files_of_those_alone(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
        run(attach(engine))
        same = {"file_name": "x", "path": "/files/of/another"}
        key = query(database_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'g'")[0][0]
        said = frame(9, flow="g", attachments=[same])
        run(apply(engine, Batch(now=NOW, arrivals=[streamed(said, key)])))
        run(keep(engine, {"/files/of/another": PICTURE}, "g"))
    export(database_url, tmp_path / "out", flows=("acme/main",), files=True)
    bring_in(second_url, tmp_path / "out")
    assert {row[0] for row in query(second_url, KEPT)} == {"acme/main"}


def test_a_journal_says_that_it_is_without_what_files_hold(
    database_url: str, tmp_path: Path
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
        run(attach(engine))
    export(database_url, tmp_path / "out")
    [told] = require_journal(tmp_path / "out").left_out
    assert re.fullmatch(r"the contents of \d archived files: --files writes them, too", told)
    export(database_url, tmp_path / "other", flows=("private/1/2",))
    assert require_journal(tmp_path / "other").left_out == []
    export(database_url, tmp_path / "with", files=True)
    assert require_journal(tmp_path / "with").left_out == []


@pytest.mark.parametrize(
    ("field", "odd", "told"),
    [
        ("sha256", "0" * 64, "is not in the export"),
        ("sha256", "../x", "Expected `str` matching"),
        ("flow", "no/such", "is not in the export"),
        ("path", "/files/" + "x" * 1000, "path is too long"),
        ("path", "/files/" + "ä" * 500, "path is too long"),
        ("path", "\0", "Expected `str` matching"),
    ],
)
def test_a_file_that_no_archive_names_is_told_with_its_place(
    database_url: str, second_url: str, tmp_path: Path, field: str, odd: str, told: str
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
        run(attach(engine))
    export(database_url, tmp_path / "out", files=True)
    change_first_line(tmp_path / "out", "files.jsonl", {field: odd})
    with pytest.raises(ArchiverError, match=rf"files\.jsonl, line 1: .*{told}"):
        bring_in(second_url, tmp_path / "out")


@pytest.mark.parametrize(
    "claims", [5, {"due": 5}, {"due": -1, "proven": []}, {"due": 1, "proven": [{"from": 1}]}]
)
def test_claims_that_no_archive_makes_are_refused_before_all_else(
    database_url: str, second_url: str, tmp_path: Path, claims: object
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
    export(database_url, tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    manifest["coverage"]["acme/main"] = claims
    (tmp_path / "out/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArchiverError, match="its coverage cannot be read"):
        bring_in(second_url, tmp_path / "out")
    assert query(second_url, "SELECT * FROM archive.flows") == []


def test_claims_for_a_flow_that_is_not_there_are_refused(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
    export(database_url, tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    manifest["coverage"]["acme/none"] = manifest["coverage"]["acme/main"]
    (tmp_path / "out/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArchiverError, match=r"names acme/none, but flows\.jsonl does not"):
        bring_in(second_url, tmp_path / "out")
    assert query(second_url, "SELECT * FROM archive.events") == []


def test_an_export_that_lacks_a_file_of_its_own_is_refused(
    database_url: str, tmp_path: Path
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
    export(database_url, tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    manifest["files"] = [one for one in manifest["files"] if one["path"] != "rejects.jsonl"]
    (tmp_path / "out/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArchiverError, match=r"does not name rejects\.jsonl"):
        require_journal(tmp_path / "out")


def test_a_line_without_end_is_not_read_into_memory(
    database_url: str, second_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
    export(database_url, tmp_path / "out")
    endless = bytes(20_000_000)
    (tmp_path / "out" / "flows.jsonl").write_bytes(endless)
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    (told,) = (one for one in manifest["files"] if one["path"] == "flows.jsonl")
    told |= {"size_bytes": len(endless), "sha256": sha256(endless).hexdigest()}
    (tmp_path / "out/manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr("archiver.cli.restoration.LONGEST_LINE_BYTES", 1_000_000)
    whole = require_journal(tmp_path / "out")
    with running(second_url) as (run, engine):
        tracemalloc.start()
        try:
            with pytest.raises(ArchiverError, match=r"flows\.jsonl, line 1: the line is too long"):
                run(
                    restore(
                        engine, tmp_path / "out", whole, lambda _: None, lambda _done, _where: None
                    )
                )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 10_000_000


def test_a_zip_that_bursts_is_refused_before_its_manifest_is_read(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as target,
        target.open("manifest.json", "w") as entry,
    ):
        for _ in range(101):
            entry.write(bytes(1_000_000))
    with pytest.raises(ArchiverError, match="like a zip bomb"):
        is_own(tmp_path / "bomb.zip")


def test_flows_that_were_renamed_go_by_their_new_paths_in_whichever_order_archives_are_merged(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    async def see(engine: Any, day: int, **paths: str) -> None:
        async with transaction(engine) as tx:
            listed = [Flow(id=FlowId(id_), path=path) for id_, path in paths.items()]
            await directory.see_flows(tx, listed, now=NOW.replace(day=day))

    new = {"a": "acme/main-2019", "b": "acme/main", "c": "acme/two", "d": "acme/one"}
    with running(database_url) as (run, engine):
        run(see(engine, 1, a="acme/main", c="acme/one", d="acme/two"))
    with running(second_url) as (run, engine):
        run(see(engine, 2, **new))
    export(database_url, tmp_path / "old")
    export(second_url, tmp_path / "new")
    bring_in(database_url, tmp_path / "new")
    bring_in(second_url, tmp_path / "old")
    for url in (database_url, second_url):
        assert dict(query(url, "SELECT flow_id, flow FROM archive.flows")) == new


def test_a_flow_goes_by_the_path_that_either_of_two_archives_knows(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    async def name(engine: Any, path: str | None) -> None:
        async with transaction(engine) as tx:
            keys = await directory.name_flows(tx, [FlowId("a")], now=NOW)
            if path is not None:
                await directory.name_path(tx, flow_key=keys[FlowId("a")], path=path)

    for url, path in ((database_url, None), (second_url, "acme/main")):
        with running(url) as (run, engine):
            run(name(engine, path))
    export(database_url, tmp_path / "nameless")
    export(second_url, tmp_path / "named")
    bring_in(database_url, tmp_path / "named")
    bring_in(second_url, tmp_path / "nameless")
    for url in (database_url, second_url):
        assert query(url, "SELECT flow_id, flow FROM archive.flows") == [("a", "acme/main")]


def test_what_was_listed_by_a_clock_that_is_fast_is_moved_as_it_was_dated(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    """The daemon dates a listing after those before it; an import must not date it again."""
    soon = datetime.now(UTC) + timedelta(hours=9)
    plain, tagged = frame(1), frame(1, tags=["todo"])

    async def list_again(engine: Any) -> None:
        async with transaction(engine) as tx:
            key = (await directory.name_flows(tx, [FlowId("f")], now=NOW))[FlowId("f")]
        for told, at in ((plain, NOW), (tagged, soon), (plain, datetime.now(UTC))):
            arrivals = [listed(told, key, as_of=5, at=at)]
            await apply(engine, Batch(now=at, arrivals=arrivals))

    with running(database_url) as (run, engine):
        run(list_again(engine))
    before = shown(database_url)
    assert query(database_url, "SELECT tags FROM archive.messages") == [([],)]
    export(database_url, tmp_path / "out")
    for url in (second_url, database_url, second_url):
        bring_in(url, tmp_path / "out")
        assert shown(url) == before
