"""The traffic in a world: one operation after the other, drawn from a seed."""

from bisect import bisect
from collections.abc import Callable
from itertools import accumulate, islice
from random import Random

from archiver.simulator import text
from archiver.simulator.entities import Conversation, Flow, Json, Message, Place, User
from archiver.simulator.integrations import integrate
from archiver.simulator.world import CHAT, World

RECENT = 200
"""How many of the newest messages of a flow people still change."""


class Traffic:
    """A source of operations on *world*: the same seed gives the same ones on the same world."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._chance = Random(f"{seed}/traffic")
        self._users = [user for user in world.users if not user.disabled]
        self._nicks = tuple(user.nick for user in self._users)
        self._flows = [flow for flow in world.flows if flow.members and not flow.disabled]
        self._members = {flow.id: [world.directory.users[id_] for id_ in flow.members]
                         for flow in self._flows}  # fmt: skip
        happenings: tuple[tuple[int, Callable[[Flow, User], None]], ...] = (
            (620, self._chat),
            (90, self._reply),
            (20, self._comment),
            (15, self._file),
            (30, self._integration),
            (12, self._inbox),
            (8, self._status),
            (4, self._act),
            (45, self._edit),
            (50, self._tag),
            (25, self._react),
            (15, self._delete),
            (8, self._remove),
            (4, self._rethread),
            (4, self._change_thread),
            (22, self._private),
            (30, self._signal),
            (10, self._receipt),
        )
        self._happenings = [happening for _, happening in happenings]
        self._weights = list(accumulate(weight for weight, _ in happenings))

    def step(self) -> None:
        """Perform one operation, somewhere."""
        flow = self._chance.choice(self._flows)
        user = self._chance.choice(self._members[flow.id])
        drawn = self._chance.randrange(self._weights[-1])
        self._happenings[bisect(self._weights, drawn)](flow, user)

    def _chat(self, flow: Flow, user: User) -> None:
        written = text.message(self._chance, self._nicks)
        unread = []
        if self._chance.random() < 0.1:
            unread = [f":unread:{self._chance.choice(self._members[flow.id]).id}"]
        self._world.post(flow, user, written, tags=unread)

    def _reply(self, flow: Flow, user: User) -> None:
        answered = self._recent(flow)
        thread = answered.thread if answered else None
        self._world.post(flow, user, text.message(self._chance, self._nicks), thread=thread)

    def _comment(self, flow: Flow, user: User) -> None:
        parent = self._recent(flow)
        if parent is None or parent.event == "comment":
            return self._chat(flow, user)
        written = text.sentence(self._chance, self._nicks)
        self._world.comment(flow, user, parent.id, written)
        return None

    def _file(self, place: Place, user: User) -> None:
        name, kind = self._chance.choice(
            (("screenshot.png", "image/png"), ("notes.txt", "text/plain"),
             ("発表資料.pdf", "application/pdf"), ("archive (1).tar.gz", "application/gzip"))
        )  # fmt: skip
        data = self._chance.randbytes(self._chance.randint(1, 400))
        self._world.upload(place, user, file_name=name, content_type=kind, data=data)

    def _integration(self, flow: Flow, user: User) -> None:
        number = self._chance.randint(1, 20)
        closed = self._chance.random() < 0.3
        status = {"color": "grey" if closed else "green", "value": "closed" if closed else "open"}
        spoken = self._chance.random() < 0.3
        given = {
            "event": "discussion" if spoken else "activity",
            "external_thread_id": f"pull/{number}",
            "author": {"name": user.name, "email": user.email},
            "title": "commented" if spoken else "pushed <a href='https://example.com'>a commit</a>",
            "body": text.sentence(self._chance, self._nicks),
            "thread": {
                "title": f"Pull request {number}",
                "external_url": f"https://github.com/{flow.path}/pull/{number}",
                "status": status,
                "fields": [{"label": "assignee", "value": user.name}],
            },
        }
        integrate(self._world, flow, given)

    def _inbox(self, flow: Flow, user: User) -> None:
        written = text.sentence(self._chance, self._nicks)
        if self._chance.random() < 0.5:
            address = {"name": user.name, "address": user.email}
            content: Json = {"subject": written, "content": f"<p>{written}</p>", "sender": None,
                       "from": [address], "to": [{"name": None, "address": "team@acme.example"}],
                       "cc": [], "bcc": [], "replyTo": [],
                       "contentType": "text/html; charset=UTF-8"}  # fmt: skip
            self._world.post(flow, None, content, event="mail", app="influx")
            return
        sha = f"{self._chance.getrandbits(160):040x}"
        commit = {"sha": sha, "message": written, "author": {"name": user.name}}
        content = {"event": "push", "ref": "refs/heads/master", "before": "0" * 40, "after": sha,
                   "repository": {"name": "component", "url": "https://github.com/acme/component"},
                   "pusher": {"name": user.nick}, "commits": [commit]}  # fmt: skip
        self._world.post(flow, None, content, event="vcs", app="influx",
                         tags=["github:push", "project:/Component"])  # fmt: skip

    def _status(self, flow: Flow, user: User) -> None:
        event = "status" if self._chance.random() < 0.5 else "line"
        written = text.sentence(self._chance, self._nicks)
        self._world.post(flow, user, written, event=event)
        if event == "status":
            user.status = written

    def _act(self, flow: Flow, user: User) -> None:
        """Invite somebody or follow a feed, or undo it (docs/message-types, "Action types")."""
        invited = {"email": f"guest-{self._chance.randint(1, 99)}@example.com"}
        kinds: dict[str, Json | str] = dict.fromkeys(("invite", "decline", "uninvite"), invited)
        kinds |= dict.fromkeys(("add_rss_feed", "remove_rss_feed"), "https://example.com/feed.rss")
        kind, described = self._chance.choice(list(kinds.items()))
        content = {"type": kind, "description": described}
        self._world.post(flow, user, content, event="action")

    def _edit(self, flow: Flow, user: User) -> None:
        message = self._recent(flow)
        if message is None or message.event not in CHAT or message.is_deleted():
            return self._chat(flow, user)
        ending = text.sentence(self._chance, self._nicks)
        edited = f"{message.text()} {ending}"[: text.LONGEST]
        self._world.edit(flow, message.id, edited)
        return None

    def _tag(self, flow: Flow, user: User) -> None:
        message = self._recent(flow)
        if message is None:
            return self._chat(flow, user)
        unread = [tag for tag in message.tags if tag.startswith(":unread:")]
        if unread:
            reader = self._world.directory.users[int(unread[0].rpartition(":")[2])]
            self._world.change_tags(flow, message.id, remove=unread[:1], user=reader)
        elif message.tags and self._chance.random() < 0.4:
            gone = self._chance.choice(message.tags)
            self._world.change_tags(flow, message.id, remove=[gone], user=user)
        else:
            added = [text.hashtag(self._chance)]
            self._world.change_tags(flow, message.id, add=added, user=user)
        return None

    def _react(self, flow: Flow, user: User) -> None:
        message = self._recent(flow)
        if message is None:
            return self._chat(flow, user)
        for emoji, people in message.reactions.items():
            if str(user.id) in people:
                return self._world.react(flow, message.id, user, emoji, present=False)
        return self._world.react(flow, message.id, user, text.emoji(self._chance))

    def _delete(self, flow: Flow, user: User) -> None:
        message = self._recent(flow)
        deletable = CHAT | {"file"}
        if message is None or message.is_deleted() or message.event not in deletable:
            return self._chat(flow, user)
        return self._world.delete(flow, message.id)

    def _remove(self, flow: Flow, user: User) -> None:
        for message in islice(flow.timeline.newest_first(None, None), RECENT):
            if message.event == "file" or message.app == "influx":
                return self._world.delete(flow, message.id)
        return self._file(flow, user)

    def _rethread(self, flow: Flow, user: User) -> None:
        moved, target = self._recent(flow), self._recent(flow)
        if moved is None or target is None or moved.thread is None or target.thread is None:
            return self._chat(flow, user)
        return self._world.rethread(flow, moved.id, target.thread, user=user)

    def _change_thread(self, flow: Flow, user: User) -> None:
        message = self._recent(flow)
        if message is None or message.thread is None:
            return self._chat(flow, user)
        title = text.sentence(self._chance, self._nicks)
        return self._world.change_thread(flow, message.thread, title=title)

    def _private(self, flow: Flow, user: User) -> None:
        if len(self._users) < 2:
            return self._chat(flow, user)
        # An archiver acts for the first user, and sees no other user's conversations.
        one = self._users[0] if self._chance.random() < 0.8 else user
        other = self._chance.choice([each for each in self._users if each is not one])
        place = self._world.directory.conversation(one, other)
        speaker = one if self._chance.random() < 0.5 else other
        pick = self._chance.random()
        if pick < 0.7 or len(place.timeline) == 0:
            self._world.post(place, speaker, text.message(self._chance, self._nicks))
        elif pick < 0.8:
            self._file(place, speaker)
        else:
            self._change_private(place)
        return None

    def _change_private(self, place: Conversation) -> None:
        message = self._recent(place)
        if message is None or message.event not in CHAT or message.is_deleted():
            return
        if self._chance.random() < 0.5:
            ending = text.sentence(self._chance, self._nicks)
            self._world.edit(place, message.id, f"{message.content} {ending}"[: text.LONGEST])
        elif self._chance.random() < 0.8:
            unread = [tag for tag in message.tags if tag.startswith(":unread:")]
            self._world.change_tags(place, message.id, remove=unread)
        else:
            self._world.delete(place, message.id)

    def _signal(self, flow: Flow, user: User) -> None:
        user.last_activity = self._world.clock()
        content: dict[str, object] = {"last_activity": user.last_activity}
        if self._chance.random() < 0.3:
            content["typing"] = True
        self._world.signal(flow, user, "activity.user", content, persist=False)

    def _receipt(self, flow: Flow, user: User) -> None:
        message = self._recent(flow)
        content = {"message": message.id if message else flow.timeline.head}
        self._world.signal(flow, user, "message-receive", content, persist=False)

    def _recent(self, place: Place) -> Message | None:
        reach = min(RECENT, len(place.timeline))
        if not reach:
            return None
        # Squared: the newer, the likelier.
        return place.timeline.nth_newest(int(reach * self._chance.random() ** 2))
