"""Masks the secrets of flows in frames, so that they are never archived.

Flow objects hold ``api_token``, with which anybody may post into the flow, and ``join_url``, with
which anybody may join it (flows documentation). Lists of flows are read field by field, but events
may hold a flow object too, as `flow-change` does. So in every frame, the value of each member with
one of these names is replaced before anything else is done. All other bytes stay as they came. Text
that mentions such names is left alone: quotes within a string are escaped, so it does not look like
a member. JSON allows any letter of a name to be spelled as an escape; such spellings are found too.
"""

import json
import re

MASK = b'"***"'
_NAMES = ("api_token", "join_url")
_TOKEN, _URL = (f'"{name}"'.encode() for name in _NAMES)
_MOST_TOGETHER = 2**20
_ESCAPED = re.compile(rb"\\u00(?:5[fF]|[67])")
"""The beginning of an escape that may be a letter of one of the names."""


def _spelled(name: str) -> str:
    """A regular expression for *name*, with each letter as itself or as an escape."""
    return "".join(rf"(?:{letter}|\\u00(?i:{ord(letter):02x}))" for letter in name)


_MEMBER = re.compile(rf'"(?:{"|".join(map(_spelled, _NAMES))})"\s*:\s*+(?!null)'.encode())
_PARSE = json.JSONDecoder().raw_decode


def redact_all(frames: list[bytes]) -> list[bytes]:
    """`redact` each of *frames*.

    Nearly all frames hold no secret, so they are searched all at once, unless they are large.
    """
    if sum(map(len, frames)) <= _MOST_TOGETHER and not _may_hold_any(b"\n".join(frames)):
        return frames
    return list(map(redact, frames))


def redact(frame: bytes) -> bytes:
    """Return *frame* with `MASK` in place of each secret; unchanged when it holds none.

    If the end of a secret cannot be found, because the frame is truncated or not JSON, everything
    after its beginning is dropped.
    """
    if not _may_hold_any(frame):
        return frame
    # JSON's own signs are ASCII, so it can be parsed as Latin-1, in which a byte is a character.
    text = frame.decode("latin-1")
    kept, at = [], 0
    while member := _MEMBER.search(frame, at):
        kept += [frame[at : member.end()], MASK]
        try:
            _, at = _PARSE(text, member.end())
        except (ValueError, RecursionError):
            return b"".join(kept)
    return b"".join([*kept, frame[at:]])


def _may_hold_any(text: bytes) -> bool:
    return _TOKEN in text or _URL in text or (b"\\u00" in text and bool(_ESCAPED.search(text)))
