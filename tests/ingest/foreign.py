"""Frames that no sane server sends."""

from archiver.ingest.batch import Arrival
from tests.ingest.arriving import frame, streamed


def foreign(flow_key: int) -> list[Arrival]:
    """Arrivals that must all be kept: as an event, as a signal or as a reject."""
    deep = b"[" * 399 + b"]" * 399
    frames = [
        frame(2, content="\x00 \ud800 \uffff \U0001f600"),
        frame(3, tags=["\x00", "a\tb\\N", "", '{x,"y"}', *map(str, range(10_000))]),
        frame(4, "vcs", content={"n": 10**400, "\x00": [1e308, -0.0, "\ud83d"], "": None}),
        frame(5, "vcs", content=None)[:-1] + b', "deep": ' + deep + b"}",
        frame(6, "vcs", content=0).replace(b": 0", b": " + deep),
        frame(7, sent=10**30, edited="9999-12-31T23:59:59.999999Z", user=2**63 - 1),
        frame(8, sent=-62135596800000, created_at="0001-01-01T00:00:00+14:00"),
        frame(2**63 - 1, thread={"id": "t", "activities": 2**31, "title": "\x00"}),
        frame(9, content="x" * 10_000_000),
        frame(10, attachments=[{"file_size": 2**63, "path": 7}, None, []]),
        frame(11, emojiReactions={"\x00": ["1", 2, None], "+1": "x", "": ["1"]}),
        frame(12, "message-edit", content={"message": 12, "updated_content": "me"}),
        frame(13, "tag-change", content={"message": 2**63 - 1, "add": ["\x00"]}),
        frame(14, "activity.user", content={"typing": "\x00"}),
        frame(15, "presence", sent=-(10**18)),
        b"\xff\xfe", b"[1]", b"", b"\x00", b'{"event":"message"}', frame(2**63), deep * 3,
    ]  # fmt: skip
    return [streamed(one, flow_key) for one in frames]
