"""An explanation of one id, for people."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import click
import msgspec
from msgspec import Struct

from archiver.cli.measures import EXCLUDED, describe_not_heard, format_bytes, why_not_kept
from archiver.cli.tables import counted, moment
from archiver.cli.terminal import has_colours, make_safe
from archiver.ingest.tagging import TagStep
from archiver.store.explaining import Fields, Form, PageTold, Proof, Targeting
from archiver.store.files import MessageFile

NOT_NOTED = "by a request for the newest message, which proves nothing and is not recorded"


class Erased(Struct, frozen=True, kw_only=True):
    """An erasure by the owner of the database."""

    form: int
    at: datetime
    reason: str | None
    is_whole: bool
    """Whether nothing is left of the form but this."""


class Explanation(Struct, frozen=True, kw_only=True):
    """All that is known of one id."""

    flow: str
    id: int
    proof: Proof
    not_heard: bool
    """Whether a daemon captures the flow although no stream of it is open."""
    not_read: str | None
    """Why no account can read the flow; None when one may."""
    excluded: bool = False
    """Whether the settings exclude the flow."""
    forms: Sequence[Form]
    altered: Sequence[int]
    """The numbers of the forms whose payload is not what was received."""
    erased: Sequence[Erased]
    """What was erased from the forms."""
    message: Fields | None
    revisions: Sequence[Fields]
    tags: Sequence[TagStep]
    files: Sequence[MessageFile]
    changed_by: Sequence[Targeting]
    thread: Fields | None


def describe(found: Explanation) -> None:
    """Print the explanation, made safe for the terminal."""
    kind = found.forms[0].event if found.forms else "not archived"
    title = f"{found.flow} {found.id}: {kind}"
    unheard = [describe_not_heard([found.flow])] if found.not_heard else []
    is_held = bool(found.forms)
    unread = found.not_read or (EXCLUDED if found.excluded else None)
    proof = _proof(found.proof, found.id, is_held=is_held, unread=unread)
    _section(title, [*proof, *unheard])
    erased = {one.form: one for one in found.erased}
    for form in found.forms:
        its = erased.get(form.form)
        way = "erased" if its and its.is_whole else f"by {_way(form)}"
        _section(f"form {form.form}, {way}", _form(form, found, its))
    _section("message now", _fields(found.message, left_out={"flow", "id"}))
    _section("revisions", map(_revision, found.revisions))
    _section("tags", map(_tag_step, found.tags))
    _section("files", _files(found.files, unread=unread))
    _section("changed by", map(_change, found.changed_by))
    _section("thread", _fields(found.thread, left_out={"flow", "detail"}))


def _section(title: str, lines: Iterable[str]) -> None:
    """Print *title* and *lines*, if there are any."""
    told = list(lines)
    if told:
        click.echo(click.style(make_safe(title), bold=True) if has_colours() else make_safe(title))
    for line in told:
        click.echo(f"  {make_safe(line)}")


def _proof(proof: Proof, id_: int, *, is_held: bool, unread: str | None) -> Iterator[str]:
    """Which witnesses prove the id, and what that means if it is not archived."""
    witnesses = [
        name
        for name, speaks in (("an unbroken stream", proof.streamed), ("a listing", proof.listed))
        if speaks
    ]
    if witnesses and is_held:
        yield f"proven by {' and '.join(witnesses)}"
    elif witnesses:
        yield f"Flowdock has no message with this id: proven by {' and '.join(witnesses)}"
        yield "(edits, presence and the like also use ids, but are not listed)"
    elif id_ <= proof.due:
        asks = f"it is not requested: {unread}" if unread else "archiver backfill fills it"
        yield f"a gap: nothing proves this range yet; {asks}"
        if proof.failures:
            failed = counted(proof.failures, "request")
            yield f"{failed} for it failed, the last because: {proof.last_error}"
    elif id_ <= proof.newest_id:
        yield "not proven yet: the id is only moments old, or no daemon follows the flow"
    else:
        yield f"higher than the newest known id of the flow, {proof.newest_id}"
    if proof.page:
        when = "perhaps" if proof.page.error else "last"
        yield f"{when} listed by {_page(proof.page)}"
    if proof.doubted:
        again = f"; it is not requested: {unread}" if unread else ", and will be listed again"
        yield f"it may have changed unnoticed, or in an unknown form{again}"


def _form(form: Form, found: Explanation, erased: Erased | None) -> Iterator[str]:
    if form.form in found.altered:
        yield "altered in the database: this is not what was received"
    if erased:
        words = "it was" if erased.is_whole else "words of it were"
        reason = f": {erased.reason}" if erased.reason else ""
        yield f"{words} erased by the owner of the database, {moment(erased.at)}{reason}"
    if erased and erased.is_whole:
        yield f"it had come by {_way(form)}"
    yield f"received {moment(form.received_at)}, when the newest id of the flow was {form.as_of}"
    if form.witness == "list":
        yield f"by {_page(form.page)}" if form.page else NOT_NOTED
    if form.seen_again_as_of:
        again = moment(form.seen_again_at) if form.seen_again_at else "by an imported file"
        newest = form.seen_again_as_of
        yield f"last shown again {again}, when the newest id of the flow was {newest}"
    if erased and erased.is_whole:
        return
    yield from _pretty(form.payload).split("\n")


def _way(form: Form) -> str:
    match form.witness:
        case "stream":
            return "the stream"
        case "list":
            return "a listing"
        case "show":
            return "Show Message: it no longer exists"
        case other:
            return other


def _page(page: PageTold) -> str:
    parts = "parts of " if page.error else ""
    proven = "proved nothing" if page.proven is None else f"proved {parts}{_ids(page.proven)}"
    messages = counted(page.messages, "message")
    asked = f"page {page.page} ({page.purpose}, {moment(page.requested_at)})"
    return f"{asked}: asked for ids {_ids(page.asked)}, got {messages}, {proven}"


def _ids(span: tuple[int, int]) -> str:
    return f"{span[0]} to {span[1]}"


def _revision(row: Fields) -> str:
    by = f" by user {row['user_id']}" if row["user_id"] else ""
    tags = f"  [{', '.join(row['tags'])}]" if row["tags"] else ""
    said = "(not known)" if row["content"] is None else row["content"]
    return f"{row['revision']} {row['kind']}{by}, {moment(row['at'])}: {said}{tags}"


def _tag_step(step: TagStep) -> str:
    changes = [f"+{tag}" for tag in step.added] + [f"-{tag}" for tag in step.removed]
    by = f" by user {step.user}" if step.user else ""
    way = " shown by a listing" if step.listed else by
    return f"{step.id}{way}, {moment(step.at)}: {' '.join(changes)}"


def _files(files: Sequence[MessageFile], *, unread: str | None) -> Iterator[str]:
    """Since when the contents of each file are archived, or why they are not."""
    for one in files:
        name = one.file_name or "file"
        if one.sha256:
            yield f"{name}: kept since {moment(one.kept_at)}, {format_bytes(one.size_bytes or 0)}"
            yield f"  sha256 {one.sha256}"
        else:
            asked = f" (requested {counted(one.attempts, 'time')})" if one.attempts else ""
            yield f"{name}: not kept: {why_not_kept(one)}{asked}"
    if unread and any(one.sha256 is None for one in files):
        yield f"nothing is requested from this flow: {unread}"


def _change(one: Targeting) -> str:
    by = f" by user {one.user_id}" if one.user_id else ""
    came = f"came by {one.witness} {moment(one.received_at)}"
    return f"{one.id} {one.event}{by}, {moment(one.sent_at)}; {came}"


def _fields(row: Fields | None, *, left_out: set[str]) -> Iterator[str]:
    shown = {
        name: value
        for name, value in (row or {}).items()
        if name not in left_out and value not in (None, [], {})
    }
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        yield f"{name:{width}}  {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return moment(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pretty(payload: str) -> str:
    try:
        return msgspec.json.format(payload, indent=2)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return payload
