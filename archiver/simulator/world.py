"""The world: what is true of every flow, and the operations that change it.

Each operation changes the truth, takes an id as a message does, and is sent to the streams; none is
ever listed.
"""

from collections.abc import Iterable
from typing import Any

from archiver.simulator import tags as tagging
from archiver.simulator import truth, wire
from archiver.simulator.chat import Chat
from archiver.simulator.entities import Flow, Json, Message, Place, Thread, User

CHAT = frozenset({"message", "comment"})
"""Events that a deletion empties instead of removing them (docs/messages, "Delete Message")."""


class World(Chat):
    """A Flowdock without its network: what is said, and what becomes of it."""

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
        """Change the text of a message; *event* also changes its kind.

        Without *tags*, the tags in the old text are replaced by those in the new one. If its tags
        have changed, ``message-edit`` has the full list. It is never stored.
        """
        message = self.find(place, message_id)
        before = message.tags
        if tags is not None:
            message.tags = self.normalized(tags)
        elif content:
            gone = self._parsed(message.text() or "")
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
        when = {"sent": message.edited, "created_at": wire.iso(message.edited)}
        self._mutate(place, "message-edit", told, message, user=user, persist=False, **when)

    def delete(self, place: Place, message_id: int, *, user: User | None = None) -> None:
        """Delete a message: chat is edited to nothing, anything else is removed for good."""
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
        """Add tags to a message and remove others, whether it has them already or not."""
        message = self.find(place, message_id)
        added, removed = self.normalized(add), self.normalized(remove)
        message.tags = tagging.changed(message.tags, add=added, remove=removed)
        told = {"message": message_id, "add": added, "remove": removed}
        self._mutate(place, "tag-change", told, message, user=user)

    def react(
        self, place: Place, message_id: int, user: User, emoji: str, *, present: bool = True
    ) -> None:
        """Add an emoji of *user* to a message, or remove it."""
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
        """Set fields of a thread, and stream its new state."""
        for name, value in (changes | {"updated_at": self.clock()}).items():
            setattr(thread, name, value)
        thread.encoded = None
        self.signal(flow, None, "thread-change", wire.thread_object(thread), thread_id=thread.id)

    def truth(self) -> Json:
        """State what is true of everything, as `archiver.simulator.truth` describes it."""
        return truth.statement(self.directory)

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
