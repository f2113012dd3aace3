from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.domain.events import (
    ContentEdited,
    MessageDeleted,
    ReactionChanged,
    Rethreaded,
    TagsChanged,
)
from archiver.domain.facts import Absence, Showing, order, position
from archiver.domain.fold import EPOCH, extend, may_be_seen, replay, untouched
from archiver.domain.history import original
from archiver.domain.model import Attachment, EventId, Message, ThreadId, UserId
from archiver.domain.tags import change_tags
from tests.domain.happenings import BEGIN, Life, about, lives, posted, told


def shows(message: Message, life: Life) -> bool:
    """Whether *message* is what the server shows at the end of *life*."""
    shown = life.shown
    return (
        message.content == shown.content
        and message.tags == shown.tags
        and message.edited_at == shown.edited_at
        and message.thread == shown.thread_id
        and message.reactions == shown.reactions
        and message.removed == life.removed
        and (message.deleted_at is not None)
        == (life.removed or (shown.content == "" and shown.edited_at is not None))
    )


@given(lives(), st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_give_the_same_message(life, random):
    facts = [*life.facts, *random.choices(life.facts, k=5)]
    random.shuffle(facts)

    assert replay(facts) == replay(life.facts)


@given(lives())
def test_the_events_of_a_message_give_what_the_server_shows(life):
    message, _ = told(life.facts)

    assert shows(message, life)


@given(lives(), st.data())
def test_any_interleaving_of_stream_and_listings_gives_what_the_server_shows(life, data):
    """Any of the listings may be among the facts, which come in any order."""
    listed = data.draw(st.lists(st.sampled_from(life.listings), max_size=4))
    facts = data.draw(st.permutations([*life.facts, *listed]))

    message, _ = told(facts)

    assert shows(message, life)


@given(lives(), st.data())
def test_a_listing_makes_up_for_every_event_missed_before_it(life, data):
    at = data.draw(st.integers(0, len(life.listings) - 1))
    listing = life.listings[at]
    after = [fact for fact in life.facts if position(fact) > listing.as_of]
    before = [fact for fact in life.facts if position(fact) <= listing.as_of]
    heard = data.draw(st.lists(st.sampled_from(before), unique_by=id))

    message, _ = told([*heard, listing, *after])

    assert shows(message, life)


@given(lives(), st.data())
def test_folding_on_from_a_stored_message_is_the_same_as_replaying_all(life, data):
    listings = [*life.listings, *early(life)]
    listed = data.draw(st.lists(st.sampled_from([*listings, *drifted(listings)]), max_size=3))
    # The rest must be strictly newer than what is stored: only then does the archive fold it on.
    facts = sorted([*life.facts, *listed], key=order)
    at = data.draw(st.integers(1, len(facts)))
    stored = told(facts[:at])
    while at < len(facts) and any(
        position(fact) <= stored[0].as_of or may_be_seen(stored[0], fact) for fact in facts[at:]
    ):
        at += 1
        stored = told(facts[:at])

    assert extend(*stored, facts[at:]) == replay(facts)


def drifted(listings: Sequence[Showing]) -> list[Showing]:
    """*listings*, by a service that dates an edit a little later there than in its event."""
    return [
        replace(one, message=replace(one.message, edited_at=at + timedelta(milliseconds=5)))
        for one in listings
        if (at := one.message.edited_at)
    ]


def early(life: Life) -> list[Showing]:
    """Each listing of *life*, twice, at a position before the change that it is the first to show.

    The second copy has a later time, but the same early position: its daemon had heard no more.
    """
    first = [replace(one, as_of=EventId(max(10, one.as_of - 1))) for one in life.listings]
    return [*first, *(replace(one, shown_at=BEGIN + timedelta(days=1)) for one in first)]


def retagged(*, added: Sequence[str] = (), removed: Sequence[str] = ()) -> TagsChanged:
    return TagsChanged(**about(20, "tag-change"), added=tuple(added), removed=tuple(removed))


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (retagged(added=["y"]), True),  # before the edit that was shown, so before the listing
        (replace(retagged(added=["y"]), sent_at=BEGIN + timedelta(seconds=30)), True),
        (replace(retagged(added=["y"]), sent_at=BEGIN + timedelta(seconds=31)), False),
        (replace(retagged(added=["x"]), sent_at=None), True),
        (replace(retagged(removed=["y"]), sent_at=None), True),
        (replace(retagged(removed=["x"]), sent_at=None), False),
        (retagged(added=[":unread:1"]), False),
        (MessageDeleted(**about(20, "message-delete")), True),
        (Rethreaded(**about(20, "message-change"), thread_id=None, thread=None), True),
    ],
)
def test_what_a_listing_may_have_seen_has_its_message_replayed(fact, expected):
    listing = shown(as_of=15, content="two", edited_at=BEGIN + timedelta(seconds=30), tags=("x",))
    message, _ = told([shown(as_of=10), listing])

    assert may_be_seen(message, fact) is expected


@given(lives(), st.data())
def test_a_listing_that_shows_what_is_told_later_takes_no_step_from_the_history(life, data):
    changes = [fact for fact in life.facts if isinstance(fact, TagsChanged)]
    assume(not any({*one.added} & {*one.removed} for one in changes))  # that only changes the order
    listed = data.draw(st.lists(st.sampled_from(early(life)), max_size=3))

    message, revisions = told(data.draw(st.permutations([*life.facts, *listed])))

    assert shows(message, life)
    assert revisions == told(life.facts)[1]


@given(lives())
def test_what_nothing_has_touched_is_what_a_replay_makes_of_it(life):
    for fact in [*life.facts, *life.listings]:
        if (message := untouched([fact])) is not None:
            assert replay([fact]) == (message, (original(message),))
    assert untouched(life.facts[:1]) is not None
    assert untouched([]) is None


@given(lives())
def test_mutations_before_their_target_wait_for_it(life):
    own, *mutations = life.facts

    assert replay(mutations) is None
    message, _ = told([*mutations, own])
    assert shows(message, life)


@given(lives())
def test_history_begins_with_the_creation_and_ends_with_what_is_shown(life):
    message, revisions = told(life.facts)

    assert revisions[0].kind == "created"
    assert revisions[-1].content == message.content
    assert revisions[-1].tags == tuple(tag for tag in message.tags if ":unread:" not in tag)
    assert [revision.id for revision in revisions] == sorted({r.id for r in revisions})


@given(
    st.lists(st.sampled_from(["a", "A", "b", "ß", "SS"])),
    st.lists(st.sampled_from(["a", "A", "b", "ß"])),
    st.lists(st.sampled_from(["a", "B", "ss"])),
)
def test_tags_are_a_set_that_ignores_case(tags, added, removed):
    changed = change_tags(tuple(tags), added, removed)

    expected = ({*map(str.casefold, tags)} - {*map(str.casefold, removed)}) | {
        *map(str.casefold, added)
    }
    assert sorted(tag.casefold() for tag in changed) == sorted(expected)


def edit(id_: int, content: str | None, **changes: object) -> ContentEdited:
    event = ContentEdited(
        **about(id_, "message-edit"), content=content, detail=None, tags=None, new_kind=None
    )
    return replace(event, **changes)


def shown(*, as_of: int, **changes: object) -> Showing:
    shown_at = BEGIN + timedelta(seconds=as_of) if as_of > 10 else None
    return Showing(message=posted(**changes), as_of=EventId(as_of), shown_at=shown_at)


def folded(*facts) -> Message:
    message, _ = told(facts)
    return message


def test_editing_to_nothing_deletes_and_keeps_the_last_content_in_the_history():
    message, revisions = told([shown(as_of=10), edit(20, "")])

    assert message.content == ""
    assert message.deleted_at == BEGIN + timedelta(seconds=20)
    assert message.edits == 0
    assert [(r.kind, r.content) for r in revisions] == [("created", "one"), ("deleted", "")]


def test_an_emptied_comment_has_no_title_whoever_told_of_it():
    titled = {"title": "what it is about"}
    comment = shown(as_of=10, kind="comment", detail=titled)
    at = BEGIN + timedelta(seconds=20)
    plain = shown(as_of=30, kind="comment", content="", edited_at=at)
    with_title = shown(as_of=30, kind="comment", content="", edited_at=at, detail=titled)

    for facts in ([edit(20, "")], [plain], [with_title], [edit(20, ""), plain]):
        message = folded(comment, *facts)
        assert (message.content, message.detail, message.deleted_at) == ("", None, at)


def test_emptying_without_a_time_deletes_as_well():
    early = folded(shown(as_of=10), edit(20, "", sent_at=None))
    late = folded(shown(as_of=10), edit(20, "two"), edit(30, "", sent_at=None))
    unsent = folded(shown(as_of=10, sent_at=None), edit(20, "", sent_at=None))

    assert [(one.content, one.deleted_at) for one in (early, late, unsent)] == [
        ("", BEGIN), ("", BEGIN + timedelta(seconds=20)), ("", EPOCH)
    ]  # fmt: skip


@given(lives(), st.data())
def test_edits_that_carry_no_time_count_by_their_ids(life, data):
    def perhaps_untimed(fact):
        is_untimed = isinstance(fact, ContentEdited) and data.draw(st.booleans())
        return replace(fact, sent_at=None) if is_untimed else fact

    listed = data.draw(st.lists(st.sampled_from(life.listings), max_size=4))
    facts = data.draw(st.permutations([*map(perhaps_untimed, life.facts), *listed]))
    message = folded(*facts)

    assert message.content == life.shown.content
    is_emptied = life.shown.content == "" and life.shown.edited_at is not None
    assert (message.deleted_at is not None) == (life.removed or is_emptied)


def test_an_emptied_message_can_be_edited_back():
    message = folded(shown(as_of=10), edit(20, ""), edit(30, "again"))

    assert (message.content, message.deleted_at) == ("again", None)


def test_a_listing_from_a_lagging_index_does_not_undo_an_edit():
    stale = shown(as_of=30, content="one")

    assert folded(shown(as_of=10), edit(20, "two"), stale).content == "two"


def test_an_edit_is_counted_once_whoever_told_of_it():
    at = BEGIN + timedelta(seconds=20)
    listed = [shown(as_of=as_of, content="two", edited_at=at) for as_of in (30, 40)]

    for facts in ([edit(20, "two")], listed, [edit(20, "two"), *listed]):
        assert folded(shown(as_of=10), *facts).edits == 1


@pytest.mark.parametrize("as_of", [15, 30])
@pytest.mark.parametrize("milliseconds", [-999, -5, 5, 999])
def test_an_edit_that_a_listing_dates_a_little_otherwise_is_one_edit(as_of, milliseconds):
    at = BEGIN + timedelta(seconds=20)
    drifted = at + timedelta(milliseconds=milliseconds)
    listed = shown(as_of=as_of, content="two", edited_at=drifted, tags=("x",))

    message, revisions = told([shown(as_of=10, tags=("x",)), edit(20, "two"), listed])

    assert (message.content, message.edits, message.edited_at) == ("two", 1, at)
    assert [(r.kind, r.user) for r in revisions[1:]] == [("edited", UserId("3"))]


def test_another_edit_within_the_second_counts_if_it_says_something_else():
    at = BEGIN + timedelta(seconds=20, milliseconds=5)
    listed = shown(as_of=30, content="three", edited_at=at)

    message, revisions = told([shown(as_of=10), edit(20, "two"), listed])

    assert (message.content, message.edits) == ("three", 2)
    assert [r.kind for r in revisions] == ["created", "edited", "listed"]


def test_a_listing_shows_an_edit_whose_event_never_came():
    message, revisions = told(
        [shown(as_of=10), shown(as_of=40, content="two", edited_at=BEGIN + timedelta(seconds=20))]
    )

    assert message.edits == 1
    assert [(r.kind, r.at, r.user) for r in revisions][1:] == [
        ("listed", BEGIN + timedelta(seconds=20), None)
    ]


def test_a_listing_that_shows_a_later_edit_leaves_who_made_the_one_before_it():
    edits = [edit(20, "two"), edit(30, "three")]
    at = BEGIN + timedelta(seconds=30)
    listed = shown(as_of=15, content="three", edited_at=at)

    for heard, kind in ((edits, "edited"), (edits[:1], "listed")):
        message, revisions = told([shown(as_of=10), listed, *heard])
        assert message.content == "three"
        assert [(r.kind, r.content) for r in revisions[1:]] == [("edited", "two"), (kind, "three")]


def test_a_listing_that_shows_an_edit_shows_what_came_of_the_tags_since():
    at = BEGIN + timedelta(seconds=20)
    listed = shown(as_of=15, content="two", edited_at=at, tags=("y",))

    message, revisions = told([shown(as_of=10), listed, edit(20, "two", tags=("x",))])

    assert message.tags == ("y",)
    assert [(r.id, r.kind, r.tags) for r in revisions[1:]] == [
        (20, "edited", ("x",)), (20, "listed", ("y",))
    ]  # fmt: skip


def test_a_listing_that_shows_more_tags_of_an_edited_message_leaves_who_put_them_on():
    edited_at = BEGIN + timedelta(seconds=20)
    listed = shown(as_of=25, content="two", edited_at=edited_at, tags=("x",))
    tagged = TagsChanged(**about(30, "tag-change"), added=("x",), removed=())

    _, revisions = told([shown(as_of=10), edit(20, "two"), listed, tagged])

    assert [(r.id, r.kind) for r in revisions[1:]] == [(20, "edited"), (30, "tagged")]


def test_a_reaction_that_comes_after_a_listing_stays():
    listed = shown(as_of=15, tags=("x",))
    reacted = ReactionChanged(**about(20, "emoji-reaction"), emoji="+1", present=True)

    assert folded(shown(as_of=10), listed, reacted).reactions == (("+1", (reacted.user,)),)


def test_a_change_that_is_dated_after_the_edit_that_a_listing_shows_comes_after_it():
    """Nobody heard of that edit, which emptied the message."""
    listed = shown(as_of=15, content="", edited_at=BEGIN + timedelta(seconds=19), tags=("x",))
    tagged = TagsChanged(**about(20, "tag-change"), added=("x",), removed=())

    _, revisions = told([shown(as_of=10), listed, tagged])

    assert [(r.kind, r.content, r.tags) for r in revisions[1:]] == [("deleted", "", ("x",))]


def test_a_listing_does_not_come_after_a_change_that_undoes_what_it_shows():
    tagged = [
        TagsChanged(**about(id_, "tag-change"), added=added, removed=removed)
        for id_, added, removed in ((20, ("x",), ("y",)), (30, ("y",), ()))
    ]
    listed = shown(as_of=15, tags=("y",))

    _, revisions = told([shown(as_of=10), listed, *tagged])

    assert [(r.kind, r.tags) for r in revisions[1:]] == [
        ("listed", ("y",)), ("tagged", ("x",)), ("tagged", ("x", "y"))
    ]  # fmt: skip


def test_what_was_found_missing_was_deleted_by_whoever_is_told_of_later():
    gone = Absence(id=EventId(10), as_of=EventId(15), shown_at=BEGIN)
    deleted = MessageDeleted(**about(20, "message-delete"))

    _, revisions = told([shown(as_of=10, kind="file"), gone, deleted])

    assert [(r.kind, r.id, r.user, r.seen_at) for r in revisions[1:]] == [
        ("deleted", 20, deleted.user, None)
    ]


def test_a_message_first_listed_after_an_edit_has_no_known_first_content():
    edited_at = BEGIN + timedelta(seconds=20)
    _, revisions = told([shown(as_of=40, content="two", edited_at=edited_at)])

    assert [(r.kind, r.content) for r in revisions] == [("created", None), ("listed", "two")]


def test_what_nobody_had_edited_when_it_was_first_listed_said_the_same_before():
    tagged = TagsChanged(**about(15, "tag-change"), added=("x",), removed=())
    _, revisions = told([tagged, shown(as_of=40)])

    assert [(r.kind, r.content, r.tags) for r in revisions] == [
        ("created", "one", ()), ("tagged", "one", ("x",)), ("listed", "one", ())
    ]  # fmt: skip


def test_what_is_not_known_of_a_message_is_not_known_after_another_change_either():
    tagged = TagsChanged(**about(15, "tag-change"), added=(), removed=("x",))
    listed = shown(as_of=40, content="two", tags=("x",), edited_at=BEGIN + timedelta(seconds=20))
    _, revisions = told([tagged, listed])
    _, edited = told([tagged, edit(17, "one", sent_at=None), listed])

    assert [(r.kind, r.content) for r in revisions] == [
        ("created", None), ("tagged", None), ("listed", "two")
    ]  # fmt: skip
    assert [r.content for r in edited] == [None, None, "one", "two"]


def test_two_edits_of_one_millisecond_are_told_apart_by_their_ids():
    first, second = edit(20, "two"), edit(21, "three", sent_at=BEGIN + timedelta(seconds=20))

    assert folded(second, shown(as_of=10), first).content == "three"
    # A listing before both, showing an edit of that time, has not seen the first one either.
    listing = shown(as_of=15, content="four", edited_at=first.sent_at)
    assert folded(shown(as_of=10), listing, first).content == "two"


def test_a_listing_that_knows_of_an_edit_outweighs_an_edit_of_the_same_time_it_had_seen():
    at = BEGIN + timedelta(seconds=20)
    listing = shown(as_of=25, content="three", edited_at=at)

    assert folded(shown(as_of=10), edit(20, "two"), listing).content == "three"


def test_what_was_deleted_for_good_stays_deleted_whatever_a_stale_listing_shows():
    deleted = MessageDeleted(**about(20, "message-delete"))
    message = folded(shown(as_of=10, kind="file"), deleted, shown(as_of=30, kind="file"))

    assert message.deleted_at == BEGIN + timedelta(seconds=20)
    assert message.content == "one"


def test_a_tag_change_missed_before_a_listing_is_made_up_for_and_one_after_it_counts():
    listing = shown(as_of=30, tags=("a",))
    late = TagsChanged(**about(20, "tag-change"), added=("late",), removed=())
    newer = TagsChanged(**about(40, "tag-change"), added=("b",), removed=("A",))

    assert folded(listing, late).tags == ("a",)
    assert folded(listing, late, newer).tags == ("b",)


def test_read_receipts_are_no_revisions():
    read = TagsChanged(**about(20, "tag-change"), added=(), removed=(":unread:2",))
    message, revisions = told([shown(as_of=10, tags=(":unread:2", "x")), read])

    assert message.tags == ("x",)
    assert [revision.kind for revision in revisions] == ["created"]


def test_tags_in_another_order_are_no_revision():
    change = TagsChanged(**about(20, "tag-change"), added=("plan",), removed=())
    listing = shown(as_of=30, tags=("x", "plan", ":url"))
    message, revisions = told([shown(as_of=10, tags=("x", ":url")), change, listing])
    assert [revision.kind for revision in revisions] == ["created", "tagged"]
    assert message.tags == ("x", "plan", ":url")


def test_an_edit_may_change_tags_and_kind():
    change = edit(20, "/me waves", tags=("x",), new_kind="line")
    message = folded(shown(as_of=10, tags=("y",)), change)

    assert (message.event, message.tags) == ("line", ("x",))


def test_an_older_edit_that_comes_late_changes_nothing():
    message = folded(shown(as_of=10), edit(30, "three"), edit(20, "two"))

    assert (message.content, message.edits) == ("three", 2)


def test_an_edit_whose_successor_a_listing_showed_already_is_the_step_before_it():
    listed = shown(as_of=15, content="three", edited_at=BEGIN + timedelta(seconds=30))
    message, revisions = told([listed, edit(20, "two", tags=("x",), new_kind="line")])

    assert (message.content, message.event, message.tags) == ("three", "message", ())
    assert [(r.kind, r.content, r.event, r.tags) for r in revisions[1:]] == [
        ("edited", "two", "line", ("x",)), ("listed", "three", "message", ())
    ]  # fmt: skip


def test_two_listings_that_show_what_is_told_later_leave_who_did_it():
    """One daemon has heard of the edit, and two others that list the flow have not."""
    one = shown(as_of=15, content="two", edited_at=BEGIN + timedelta(seconds=20))
    other = replace(
        one,
        message=replace(one.message, reactions=(("+1", (UserId("3"),)),)),
        shown_at=BEGIN + timedelta(seconds=30),
    )
    message, revisions = told([shown(as_of=10), other, edit(20, "two"), one])

    assert [(r.kind, r.id, r.content) for r in revisions] == [
        ("created", 10, "one"), ("edited", 20, "two")
    ]  # fmt: skip
    assert message.reactions == other.message.reactions


def test_an_edit_of_tags_or_of_the_kind_alone_leaves_the_text_and_its_time():
    message, revisions = told([shown(as_of=10), edit(20, None, new_kind="line")])

    assert (message.content, message.event) == ("one", "line")
    assert (message.edited_at, message.edits, message.deleted_at) == (None, 0, None)
    assert [revision.kind for revision in revisions] == ["created", "edited"]


def test_an_edit_says_what_else_there_is_beside_the_text_or_leaves_it():
    first, second = {"title": "first"}, {"title": "second"}
    comment = shown(as_of=10, kind="comment", detail=first)

    assert folded(comment, edit(20, "two")).detail == first
    assert folded(comment, edit(20, "two", detail=second)).detail == second


def test_a_listing_that_shows_an_older_edit_does_not_undo_a_newer_one():
    stale = shown(as_of=40, content="two", edited_at=BEGIN + timedelta(seconds=20))

    assert folded(shown(as_of=10), edit(30, "three"), stale).content == "three"


def test_what_was_found_missing_was_deleted_when_it_was_deleted():
    gone = Absence(id=EventId(10), as_of=EventId(40), shown_at=BEGIN + timedelta(seconds=40))
    message, revisions = told([shown(as_of=10), edit(20, ""), gone])

    assert message.deleted_at == BEGIN + timedelta(seconds=20)
    assert [revision.kind for revision in revisions] == ["created", "deleted"]


def test_history_tells_when_and_by_whom_what_was_found_missing_had_been_deleted():
    at = BEGIN + timedelta(seconds=30)
    gone = Absence(id=EventId(10), as_of=EventId(40), shown_at=BEGIN + timedelta(seconds=40))
    tagged = TagsChanged(**about(45, "tag-change"), added=("x",), removed=())
    heard = replace(MessageDeleted(**about(50, "message-delete")), sent_at=at)
    message, revisions = told([shown(as_of=10, kind="vcs"), gone, tagged, heard])

    assert message.deleted_at == at
    assert [(one.kind, one.at, one.user) for one in revisions[1:]] == [
        ("deleted", gone.shown_at, None),
        ("tagged", tagged.sent_at, tagged.user),  # whoever found it missing had not seen this
        ("deleted", at, heard.user),
    ]
    assert revisions[-1].deleted_at == at


def test_an_edit_shows_that_what_was_found_missing_is_there_though_it_says_the_same():
    at = BEGIN + timedelta(seconds=20)
    listed = shown(as_of=30, kind="vcs", content="", edited_at=at)
    gone = Absence(id=EventId(10), as_of=EventId(40), shown_at=BEGIN + timedelta(seconds=40))
    message, revisions = told([listed, gone, edit(50, "", sent_at=at)])

    assert message.deleted_at is None
    assert [(r.kind, r.deleted_at is None) for r in revisions[-2:]] == [
        ("deleted", False), ("edited", True)
    ]  # fmt: skip


def test_a_comment_stays_on_its_message_though_the_tag_that_told_it_is_taken_off():
    comment = shown(as_of=10, kind="comment", parent=EventId(4), tags=("influx:4",))

    assert folded(comment, shown(as_of=30, kind="comment")).parent == 4


def test_a_listing_may_be_the_first_to_tell_on_what_a_comment_is():
    comment = shown(as_of=10, kind="comment")

    assert folded(comment, shown(as_of=30, kind="comment", parent=EventId(4))).parent == 4


def test_a_move_to_another_thread_is_a_step_whoever_told_of_it():
    moved = Rethreaded(**about(20, "message-change"), thread_id=ThreadId("t"), thread=None)
    listed = shown(as_of=30, thread_id=ThreadId("t"))
    at = BEGIN + timedelta(seconds=20)

    for facts, kind, when, who in (
        ([moved, listed], "moved", at, moved.user),
        ([listed], "listed", listed.shown_at, None),
    ):
        message, revisions = told([shown(as_of=10), *facts])
        assert message.thread == "t"
        assert [(r.kind, r.at, r.user, r.thread) for r in revisions[1:]] == [(kind, when, who, "t")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "line"),
        ("user", UserId("2")),
        ("sent_at", BEGIN + timedelta(seconds=1)),
        ("content", "two"),
        ("detail", {"title": "a title"}),
        ("tags", ("x",)),
        ("thread_id", ThreadId("t")),
        ("parent", EventId(4)),
        ("attachments", (Attachment(path="/file"),)),
        ("reactions", (("+1", (UserId("2"),)),)),
        ("app", "influx"),
        ("uuid", "another"),
        ("external_user_name", "somebody"),
    ],
)
def test_a_listing_is_the_whole_truth_at_its_position(field, value):
    listed = shown(as_of=30, **{field: value})
    assert folded(shown(as_of=10), listed) == folded(listed)
    assert folded(shown(as_of=10)) != replace(folded(listed), as_of=EventId(10))


def test_reactions_that_were_heard_are_in_the_order_in_which_they_are_listed():
    heard = [
        ReactionChanged(**about(id_, "emoji-reaction"), emoji=emoji, present=True)
        for id_, emoji in ((20, "tada"), (21, "+1"))
    ]
    assert [emoji for emoji, _ in folded(shown(as_of=10), *heard).reactions] == ["+1", "tada"]


def test_facts_of_one_position_and_moment_have_an_order_of_their_own():
    one, other = shown(as_of=30, content="one", tags=("a",)), shown(as_of=30, content="two")

    assert told([one, other]) == told([other, one])


def test_a_listing_outweighs_the_event_of_its_own_position():
    late = TagsChanged(**about(20, "tag-change"), added=("a",), removed=())

    assert folded(shown(as_of=10), shown(as_of=20, tags=("b",)), late).tags == ("b",)


def test_what_was_edited_is_not_untouched_and_what_was_listed_later_is():
    assert untouched([shown(as_of=10)]) == folded(shown(as_of=10))
    assert untouched([shown(as_of=11)]) == folded(shown(as_of=11))
    assert untouched([shown(as_of=10, edited_at=BEGIN)]) is None
    assert untouched([shown(as_of=11, edited_at=BEGIN)]) is None
