"""What is said in flows and conversations: messages, comments, files, and passing signals.

Each gets an id from the sequence of its flow, and is sent to the streams. Ephemeral events and
mutations take ids as well, so the ids of stored messages have holes.
"""

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from archiver.simulator import tags as tagging
from archiver.simulator import wire
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
"""Private messages of all conversations share one sequence of ten-digit ids."""


class Chat:
    """All that is said, and where. *clock* gives the time of all that happens, in milliseconds.

    A message is listed once *listing_delay_ms* have passed since it was sent. *seed* determines
    every random id. The last *replay_window* events of the streams are kept for replay.
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
        """By path of an attachment: its content type and bytes."""
        self._private_head = FIRST_PRIVATE_ID

    @property
    def flows(self) -> list[Flow]:
        """Every flow, in the order in which they were created."""
        return list(self.directory.flows.values())

    @property
    def users(self) -> list[User]:
        """Every user, by id."""
        return list(self.directory.users.values())

    @contextmanager
    def at(self, clock: Clock) -> Iterator[None]:
        """Give all that is done in the block the times of *clock*."""
        usual, self.clock = self.clock, clock
        try:
            yield
        finally:
            self.clock = usual

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Send nothing of what is done in the block to the streams; it still changes the truth."""
        usual, self.log.muted = self.log.muted, True
        try:
            yield
        finally:
            self.log.muted = usual

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
        external_user_name: str = "",
        attachments: Iterable[Json] = (),
        app: str | None = "chat",
        extra: Json | None = None,
    ) -> Message:
        """Store a message and stream it. *user* None is an integration.

        The text of a ``message`` and of a ``comment`` is searched for tags. In a flow, each
        ``message`` or ``file`` without *thread* begins a thread of its own.
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
            external_user_name=external_user_name or None,
            extra=extra or {},
        )
        if isinstance(place, Flow):
            message.thread = self._thread_of(place, message, thread)
        elif message.to is not None:
            message.tags.insert(0, f":unread:{message.to}")
        place.timeline.add(message)
        if not self.log.muted:
            self._tell(place, wire.stream_message(message))
        return message

    def comment(
        self,
        flow: Flow,
        user: User | None,
        parent_id: int,
        text: str,
        *,
        tags: Iterable[str] = (),
        uuid: str | None = None,
        external_user_name: str = "",
    ) -> Message:
        """Comment on a message in the old way: event ``comment``, tag ``influx:PARENT``."""
        parent = self.find(flow, parent_id)
        if parent.event == "comment":
            raise ValueError("a comment cannot be commented on")
        return self.post(
            flow,
            user,
            {"title": parent.title()[:100], "text": text},
            event="comment",
            tags=[f"influx:{parent_id}", *tags],
            thread=parent.thread,
            uuid=uuid,
            external_user_name=external_user_name,
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
        uuid: str | None = None,
        external_user_name: str = "",
    ) -> Message:
        """Upload a file: an event ``file``, with a description as content and only attachment."""
        folder = self._folder(place)
        described: Json = {
            "path": f"{folder}/{file_name}",
            "file_name": file_name,
            "file_size": len(data),
            "content_type": content_type,
        }
        if content_type.startswith("image/"):
            small = f"{folder}/thumb/{file_name}"
            described["image"] = {"width": 1920, "height": 1087}
            described["thumbnail"] = {"path": small, "width": 100, "height": 57}
            self.files[small] = content_type, data
        self.files[described["path"]] = content_type, data
        return self.post(
            place,
            user,
            described,
            event="file",
            tags=[":file", *tags],
            thread=thread,
            uuid=uuid,
            external_user_name=external_user_name,
            attachments=[described],
        )

    def signal(
        self, place: Place, user: User | None, event: str, content: Any, **fields: Any
    ) -> int:
        """Stream an event that is never stored; return its id, since it takes one all the same."""
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
        if not self.log.muted:
            self._tell(place, wire.encode(body))
        return int(body["id"])

    def inject(self, place: Place, raw: bytes) -> None:
        """Send *raw* to the streams of *place* as if it were an event; it takes no id."""
        self._tell(place, raw)

    def normalized(self, tags: Iterable[str]) -> list[str]:
        """Return tags as they are stored."""
        return tagging.normalized(tags, self.directory.ids_by_nick())

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

    def _folder(self, place: Place) -> str:
        key = f"{self.chance.getrandbits(128):032x}"
        if isinstance(place, Flow):
            return f"/files/{place.organization.id}/{key}"
        return f"/private/{place.users[0].id}/{place.users[1].id}/files/{key}"

    def _thread_of(self, flow: Flow, message: Message, thread: Thread | None) -> Thread | None:
        if thread is not None:
            thread.count(message)
        elif message.event in {"message", "file"}:
            title = message.text() or message.content["file_name"]
            return self.begin_thread(flow, title[:100], sent=message.sent, initial=message.id)
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
        return tagging.of_text(text, self.directory.ids_by_nick())

    def _token(self, size_bytes: int) -> str:
        drawn = self.chance.getrandbits(size_bytes * 8).to_bytes(size_bytes)
        return urlsafe_b64encode(drawn).rstrip(b"=").decode()
