"""What a Flowdock holds: organizations, users, flows, conversations, threads, messages."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

INTEGRATION = "0"
"""The ``user`` of a message that no user of the organization sent."""


@dataclass(slots=True, kw_only=True, eq=False)
class User:
    """One account, with its secrets, since a simulator gives them out."""

    id: int
    nick: str
    name: str
    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)
    access_token: str = field(repr=False)
    website: str | None = None
    disabled: bool = False
    admin: bool = False
    status: str | None = None
    last_activity: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Organization:
    """The owner of flows and users; *slug* is the ``parameterized_name`` in addresses."""

    id: int
    slug: str
    name: str
    users: dict[int, User] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True, eq=False)
class Thread:
    """A thread of messages. *encoded* caches its JSON until it changes."""

    id: str
    flow: str
    title: str
    created_at: int
    updated_at: int
    initial_message: int
    body: str | None = ""
    external_url: str | None = None
    status: Json | None = None
    source: Json | None = None
    fields: list[Json] = field(default_factory=list)
    actions: list[Json] = field(default_factory=list)
    activities: int = 0
    internal_comments: int = 0
    external_comments: int = 0
    encoded: bytes | None = field(default=None, repr=False)

    def count(self, message: "Message") -> None:
        """Count a message that was posted in the thread."""
        self.updated_at = message.sent
        if message.event == "activity":
            self.activities += 1
        elif message.event == "discussion":
            self.external_comments += 1
        else:
            self.internal_comments += 1
        self.encoded = None


@dataclass(slots=True, kw_only=True, eq=False)
class Message:
    """A stored event as it is now. *encoded* caches its JSON, as listed, until it changes.

    Times are milliseconds. *listable_at* is when List Messages begins to show it; *extra* holds the
    top-level fields that only some kinds have (``title``, ``body``, ``author``).
    """

    id: int
    event: str
    user: str | None
    sent: int
    listable_at: int
    content: Any
    tags: list[str]
    flow: str | None = None
    to: str | None = None
    app: str | None = "chat"
    uuid: str | None = None
    edited: int | None = None
    thread: Thread | None = None
    attachments: list[Json] = field(default_factory=list)
    reactions: dict[str, list[str]] = field(default_factory=dict)
    external_user_name: str | None = None
    extra: Json = field(default_factory=dict)
    encoded: bytes | None = field(default=None, repr=False)

    def text(self) -> str | None:
        """Return its plain text (the ``text`` of a comment); None if its content is not text."""
        content = self.content
        if self.event == "comment" and isinstance(content, dict):
            content = content["text"]
        return content if isinstance(content, str) else None

    def title(self) -> str:
        """Return the title that comments on it show: its title, subject or name, or its text."""
        described = self.content if isinstance(self.content, dict) else {}
        named = (self.extra | described).get
        found = named("title") or named("subject") or named("file_name") or named("ref")
        return str(found or self.text() or "")

    def is_deleted(self) -> bool:
        """Tell whether it was deleted as chat messages are: edited to nothing."""
        return self.content == "" and self.edited is not None


class Timeline:
    """The stored messages of one flow or conversation, found by id."""

    __slots__ = ("_ids", "_messages", "concealed", "gone", "head")

    def __init__(self) -> None:
        self.head = 0
        """The newest id that was given out, whether its event was stored or not."""
        self.gone: dict[int, Message] = {}
        """Messages that were stored once and have been removed."""
        self.concealed: dict[int, Message] = {}
        """Messages that are hidden at present."""
        self._ids: list[int] = []
        self._messages: dict[int, Message] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[Message]:
        return (self._messages[id_] for id_ in self._ids)

    def get(self, id_: int) -> Message | None:
        """Return the message of that id, unless there is none or it is gone."""
        return self._messages.get(id_)

    def add(self, message: Message) -> None:
        """Keep *message*."""
        insort(self._ids, message.id)
        self._messages[message.id] = message

    def remove(self, id_: int) -> None:
        """Remove a message: from now on, it is neither listed nor shown."""
        self.gone[id_] = self._messages.pop(id_)
        del self._ids[bisect_left(self._ids, id_)]

    def conceal(self, id_: int) -> None:
        """Hide a message from everybody until `reveal`, as if the service had lost it."""
        self.concealed[id_] = self._messages.pop(id_)
        del self._ids[bisect_left(self._ids, id_)]

    def reveal(self) -> None:
        """Show all hidden messages again."""
        for message in self.concealed.values():
            self.add(message)
        self.concealed.clear()

    def nth_newest(self, back: int) -> Message | None:
        """Return the message with *back* newer ones after it; None when there are not so many."""
        return self._messages[self._ids[-1 - back]] if back < len(self._ids) else None

    def newest_first(self, since: int | None, until: int | None) -> Iterator[Message]:
        """Yield the messages between both ids (exclusive), newest first."""
        low, high = self._between(since, until)
        return (self._messages[self._ids[place]] for place in range(high - 1, low - 1, -1))

    def oldest_first(self, since: int | None, until: int | None) -> Iterator[Message]:
        """Yield the messages between both ids (exclusive), oldest first."""
        low, high = self._between(since, until)
        return (self._messages[self._ids[place]] for place in range(low, high))

    def _between(self, since: int | None, until: int | None) -> tuple[int, int]:
        low = 0 if since is None else bisect_right(self._ids, since)
        high = len(self._ids) if until is None else bisect_left(self._ids, until)
        return low, max(low, high)


@dataclass(slots=True, kw_only=True, eq=False)
class Flow:
    """A team's chat. *members* maps the ids of its members to whether they keep it open."""

    id: str
    organization: Organization
    slug: str
    name: str
    access_mode: str
    api_token: str = field(repr=False)
    invitation: str = field(repr=False)
    description: str = ""
    disabled: bool = False
    members: dict[int, bool] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)
    threads: dict[str, Thread] = field(default_factory=dict)
    by_external_id: dict[str, Thread] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """``organization/flow``, as addresses and filters name it."""
        return f"{self.organization.slug}/{self.slug}"


@dataclass(slots=True, kw_only=True, eq=False)
class Conversation:
    """What two users say to each other."""

    users: tuple[User, User]
    timeline: Timeline = field(default_factory=Timeline)
    closed_by: set[int] = field(default_factory=set)

    @property
    def path(self) -> str:
        """``private/<lower id>/<higher id>``."""
        return f"private/{self.users[0].id}/{self.users[1].id}"

    def other(self, user: User) -> User:
        """Return the user to whom *user* talks."""
        return self.users[1] if user is self.users[0] else self.users[0]


Place = Flow | Conversation
"""Where a message can be."""

Clock = Callable[[], int]
"""Returns the time, in milliseconds since 1970."""
