"""The world: what is true of every flow, and the operations that change it.

Each operation changes the truth, takes an id of the flow's own sequence, and tells the streams. Ids
are taken by ephemeral events and by mutations as well, so the stored ones have holes.
"""

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any

from archiver.simulator import tags as tagging
from archiver.simulator import truth, wire
from archiver.simulator.directory import Directory, NoSuchThing
from archiver.simulator.entities import (
    INTEGRATION,
    Clock,
    Flow,
    Json,
    Message,
    Place,
    Thread,
    User,
)
from archiver.simulator.log import StreamLog

FIRST_PRIVATE_ID = 9_492_900_000
"""Private messages share one sequence of ten-digit ids, over all conversations."""

CHAT = frozenset({"message", "comment"})
"""What a deletion empties instead of removing (docs/messages, "Delete Message")."""


class World:
    """A Flowdock without its network. *clock* says the time of what happens, in milliseconds.

    A message is listed from *listing_delay_ms* after it was sent. *seed* settles every id that is
    drawn; the last *replay_window* events of the streams are kept.
    """

    def __init__(
        self, *, seed: int, clock: Clock, listing_delay_ms: int = 0, replay_window: int = 10_000
    ) -> None:
        self.chance = Random(f"{seed}/world")
        self.clock = clock
        self.listing_delay_ms = listing_delay_ms
        self.directory = Directory(self.chance)
        self.log = StreamLog(replay_window)
        self.files: dict[str, tuple[str, bytes]] = {}
        """Path of an attachment to its content type and bytes."""
        self._private_head = FIRST_PRIVATE_ID
        self._nicks: tuple[int, Mapping[str, int]] = (0, {})
        self._streams_hear = True

    @property
    def flows(self) -> list[Flow]:
        """Every flow, in the order of foundation."""
        return list(self.directory.flows.values())

    @property
    def users(self) -> list[User]:
        """Every user, by id."""
        return list(self.directory.users.values())

    @contextmanager
    def at(self, clock: Clock) -> Iterator[None]:
        """Let what is done inside happen at the times that *clock* says."""
        usual, self.clock = self.clock, clock
        try:
            yield
        finally:
            self.clock = usual

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Let what is done inside change the truth without a word on the streams."""
        usual, self._streams_hear = self._streams_hear, False
        try:
            yield
        finally:
            self._streams_hear = usual

    def find(self, place: Place, message_id: int) -> Message:
        """Return a stored message; raise `NoSuchThing`."""
        message = place.timeline.get(message_id)
        if message is None:
            raise NoSuchThing(str(message_id))
        return message

    def post(
        self,
        place: Place,
        user: User | None,
        content: Any,
        *,
        event: str = "message",
        tags: Iterable[str] = (),
        thread: Thread | None = None,
        uuid: str | None = None,
        external_user_name: str | None = None,
        attachments: Iterable[Json] = (),
        app: str | None = "chat",
        extra: Json | None = None,
    ) -> Message:
        """Store a message and stream it. *user* None is an integration.

        The text of a ``message`` and of a ``comment`` is searched for tags. In a flow, each chat
        message without *thread* begins a thread of its own.
        """
        sent = self.clock()
        message = Message(
            id=self._allot(place),
            event=event,
            user=INTEGRATION if user is None else str(user.id),
            sent=sent,
            listable_at=sent + self.listing_delay_ms,
            content=content,
            tags=self._tags_of(tags, event, content),
            flow=place.id if isinstance(place, Flow) else None,
            to=None if isinstance(place, Flow) or user is None else str(place.other(user).id),
            app=app,
            uuid=uuid or self._token(16),
            attachments=list(attachments),
            external_user_name=external_user_name,
            extra=extra or {},
        )
        if isinstance(place, Flow):
            message.thread = self._thread_of(place, message, thread)
        elif message.to is not None:
            message.tags.insert(0, f":unread:{message.to}")
        place.timeline.add(message)
        if self._streams_hear:
            self._tell(place, wire.stream_message(message))
        return message

    def comment(
        self, flow: Flow, user: User | None, parent_id: int, text: str, *, tags: Iterable[str] = ()
    ) -> Message:
        """Comment on a message in the old way: event ``comment``, tag ``influx:PARENT``."""
        parent = self.find(flow, parent_id)
        if parent.event == "comment":
            raise ValueError("a comment cannot be commented on")
        title = parent.extra.get("title") or text_of(parent) or ""
        return self.post(
            flow,
            user,
            {"title": title[:100], "text": text},
            event="comment",
            tags=[f"influx:{parent_id}", *tags],
            thread=parent.thread,
        )

    def upload(
        self,
        place: Place,
        user: User | None,
        *,
        file_name: str,
        content_type: str,
        data: bytes,
        thread: Thread | None = None,
        tags: Iterable[str] = (),
    ) -> Message:
        """Upload a file: event ``file``, its description both content and only attachment."""
        key = f"{self.chance.getrandbits(128):032x}"
        if isinstance(place, Flow):
            folder = f"/files/{place.organization.id}/{key}"
        else:
            folder = f"/private/{place.users[0].id}/{place.users[1].id}/files/{key}"
        path = f"{folder}/{file_name}"
        described: Json = {
            "path": path,
            "file_name": file_name,
            "file_size": len(data),
            "content_type": content_type,
        }
        self.files[path] = content_type, data
        if content_type.startswith("image/"):
            thumbnail = f"{folder}/thumb/{file_name}"
            self.files[thumbnail] = content_type, data
            described["image"] = {"width": 1920, "height": 1087}
            described["thumbnail"] = {"path": thumbnail, "width": 100, "height": 57}
        return self.post(
            place,
            user,
            described,
            event="file",
            tags=[":file", *tags],
            thread=thread,
            attachments=[described],
        )

    def edit(
        self,
        place: Place,
        message_id: int,
        content: str,
        *,
        user: User | None = None,
        tags: Iterable[str] | None = None,
        event: str | None = None,
    ) -> None:
        """Give a message another text; *event* makes it of another kind.

        Without *tags*, those that the old text had and the new one has not go, and those of the new
        one come. ``message-edit`` tells the full list when it changed, and is never stored.
        """
        message = self.find(place, message_id)
        before = message.tags
        if tags is not None:
            message.tags = self.normalized(tags)
        elif content:
            gone = self._parsed(text_of(message) or "")
            message.tags = tagging.changed(before, add=(), remove=gone)
            message.tags = tagging.changed(message.tags, add=self._parsed(content), remove=())
        if message.event == "comment" and content:
            message.content = {"title": message.content["title"], "text": content}
        else:
            message.content = content
        message.edited = self.clock()
        told: Json = {"message": message_id, "updated_content": message.content}
        if message.tags != before:
            told["updated_tags"] = message.tags
        if event is not None:
            told["updated_event"] = message.event = event
        self._mutate(place, "message-edit", told, message, user=user, persist=False)

    def delete(self, place: Place, message_id: int, *, user: User | None = None) -> None:
        """Delete a message: chat is edited to nothing, anything else is gone for good."""
        message = self.find(place, message_id)
        if message.event in CHAT:
            self.edit(place, message_id, "", user=user)
            return
        place.timeline.remove(message_id)
        self._mutate(place, "message-delete", {"message": message_id}, message, user=user)

    def change_tags(
        self,
        place: Place,
        message_id: int,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        user: User | None = None,
    ) -> None:
        """Put tags on a message and take others off; both may be there, or not, already."""
        message = self.find(place, message_id)
        added, removed = self.normalized(add), self.normalized(remove)
        message.tags = tagging.changed(message.tags, add=added, remove=removed)
        told = {"message": message_id, "add": added, "remove": removed}
        self._mutate(place, "tag-change", told, message, user=user)

    def react(
        self, place: Place, message_id: int, user: User, emoji: str, *, present: bool = True
    ) -> None:
        """Put an emoji of *user* on a message, or take it off."""
        message = self.find(place, message_id)
        people = [id_ for id_ in message.reactions.get(emoji, ()) if id_ != str(user.id)]
        message.reactions[emoji] = [*people, str(user.id)] if present else people
        if not message.reactions[emoji]:
            del message.reactions[emoji]
        kind = "add" if present else "remove"
        told = {"message": message_id, "emoji": emoji, "type": kind}
        self._mutate(place, "emoji-reaction", told, message, user=user)

    def rethread(
        self, flow: Flow, message_id: int, thread: Thread, *, user: User | None = None
    ) -> None:
        """Move a message to another thread."""
        message = self.find(flow, message_id)
        message.thread = thread
        content = {"thread_id": thread.id}
        self._mutate(
            flow, "message-change", content, message, user=user, message_id=message_id,
            patch=["thread_id"],
        )  # fmt: skip

    def change_thread(self, flow: Flow, thread: Thread, **changes: Any) -> None:
        """Set fields of a thread and tell its new state."""
        for name, value in (changes | {"updated_at": self.clock()}).items():
            setattr(thread, name, value)
        thread.encoded = None
        self.signal(flow, None, "thread-change", wire.thread_object(thread), thread_id=thread.id)

    def signal(
        self, place: Place, user: User | None, event: str, content: Any, **fields: Any
    ) -> int:
        """Stream an event that is never stored; return the id that it took nevertheless."""
        sent = self.clock()
        body: Json = {
            "event": event,
            "tags": [],
            "uuid": None,
            "id": self._allot(place),
            "content": content,
            "sent": sent,
            "app": None,
            "attachments": [],
            "user": INTEGRATION if user is None else str(user.id),
            "created_at": wire.iso(sent),
            **fields,
        }
        if isinstance(place, Flow):
            body["flow"] = place.id
        elif user is not None:
            body["to"] = str(place.other(user).id)
        if self._streams_hear:
            self._tell(place, wire.encode(body))
        return int(body["id"])

    def inject(self, place: Place, raw: bytes) -> None:
        """Put *raw* in the streams of *place* as if it were an event; it takes no id."""
        self._tell(place, raw)

    def skip_ids(self, place: Place, count: int) -> None:
        """Let *count* ids be taken by events that nobody saw."""
        for _ in range(count):
            self._allot(place)

    def normalized(self, tags: Iterable[str]) -> list[str]:
        """Return tags as they are stored."""
        return tagging.normalized(tags, self._ids_by_nick())

    def forget_nicks(self) -> None:
        """Look the nicks up anew: someone changed theirs, or was disabled."""
        self._nicks = 0, {}

    def _mutate(
        self,
        place: Place,
        event: str,
        content: Json,
        message: Message,
        *,
        user: User | None,
        **fields: Any,
    ) -> None:
        message.encoded = None
        actor = user or self.directory.users.get(int(message.user or 0))
        self.signal(place, actor, event, content, **fields)

    def tell(self, users: Iterable[User], body: Json) -> None:
        """Stream what belongs to no flow, to the own streams of *users*."""
        if self._streams_hear:
            ids = frozenset(user.id for user in users)
            self.log.publish(wire.encode(body), flow=None, users=ids)

    def show_presence(self, user: User, state: int) -> None:
        """Tell streams with ``presence=1`` a state: 0 offline, 1000000 idle, 2000000 active."""
        content = {"user_id": user.id, "state": state, "updated_at": wire.iso(self.clock())}
        body = {"event": "presence", "content": content, "user_id": user.id}
        if self._streams_hear:
            self.log.publish(wire.encode(body), flow=None, presence=True)

    def truth(self) -> Json:
        """State what is true of everything, as `archiver.simulator.truth` describes it."""
        return truth.statement(self.directory)

    def _tell(self, place: Place, body: bytes) -> None:
        if isinstance(place, Flow):
            self.log.publish(body, flow=place.id)
        else:
            users = frozenset(user.id for user in place.users)
            self.log.publish(body, flow=None, users=users)

    def _allot(self, place: Place) -> int:
        if isinstance(place, Flow):
            place.timeline.head += 1
        else:
            self._private_head += self.chance.randint(1, 40)
            place.timeline.head = self._private_head
        return place.timeline.head

    def _thread_of(self, flow: Flow, message: Message, thread: Thread | None) -> Thread | None:
        if thread is None:
            if message.event not in {"message", "file"}:
                return None
            title = text_of(message) or message.content["file_name"]
            return self.begin_thread(flow, title[:100], sent=message.sent, initial=message.id)
        thread.updated_at = message.sent
        if message.event == "activity":
            thread.activities += 1
        elif message.event == "discussion":
            thread.external_comments += 1
        else:
            thread.internal_comments += 1
        thread.encoded = None
        return thread

    def begin_thread(self, flow: Flow, title: str, *, sent: int, initial: int) -> Thread:
        """Begin a thread whose first message has the id *initial*."""
        thread = Thread(
            id=self._token(20),
            flow=flow.id,
            title=title,
            created_at=sent,
            updated_at=sent,
            initial_message=initial,
        )
        flow.threads[thread.id] = thread
        return thread

    def _tags_of(self, given: Iterable[str], event: str, content: Any) -> list[str]:
        tags = list(given)
        if event == "message":
            tags += self._parsed(content)
        elif event == "comment":
            tags += self._parsed(content["text"])
        return self.normalized(tags) if tags else []

    def _parsed(self, text: str) -> list[str]:
        return tagging.of_text(text, self._ids_by_nick())

    def _ids_by_nick(self) -> Mapping[str, int]:
        # "Disabled users' mentions are ignored"; rebuilt when someone came
        count, nicks = self._nicks
        if count != len(self.directory.users):
            active = (user for user in self.users if not user.disabled)
            nicks = {user.nick.casefold(): user.id for user in active}
            self._nicks = len(self.directory.users), nicks
        return nicks

    def _token(self, size_bytes: int) -> str:
        drawn = self.chance.getrandbits(size_bytes * 8).to_bytes(size_bytes)
        return urlsafe_b64encode(drawn).rstrip(b"=").decode()


def text_of(message: Message) -> str | None:
    """Return the plain text of a message: a comment's ``text``; None for what is not text."""
    content = message.content
    if message.event == "comment" and isinstance(content, dict):
        content = content["text"]
    return content if isinstance(content, str) else None
