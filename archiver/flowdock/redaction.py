"""What no archive should hold of a frame: the secrets of a flow.

Flow objects carry ``api_token``, with which anybody may post into the flow, and ``join_url``, with
which anybody may join it (flows documentation). Lists of flows are read field by field, and events
may hold a flow object as well, as `flow-change` does. So wherever a member of one of these names
comes in, its value is exchanged, before anything else is done with the frame. All other bytes stay
as they came. Text that speaks of such names is text: within a string their quotes are escaped.
JSON lets any letter of a name be spelled as an escape; so spelled, it is the same name.
"""

import json
import re

MASK = b'"***"'
_NAMES = ("api_token", "join_url")
_TOKEN, _URL = (f'"{name}"'.encode() for name in _NAMES)
_MOST_TOGETHER = 2**20
_ESCAPED = re.compile(rb"\\u00(?:5[fF]|[67])")
"""How a letter of a name begins when it is spelled as an escape."""


def _spelled(name: str) -> str:
    """A pattern of *name*, each letter of which is itself or an escape."""
    return "".join(rf"(?:{letter}|\\u00(?i:{ord(letter):02x}))" for letter in name)


_MEMBER = re.compile(rf'"(?:{"|".join(map(_spelled, _NAMES))})"\s*:\s*+(?!null)'.encode())
_PARSE = json.JSONDecoder().raw_decode


def redact_all(frames: list[bytes]) -> list[bytes]:
    """`redact` of each of *frames*.

    Nearly all hold no secret, so all are searched at once, unless they are large.
    """
    if sum(map(len, frames)) <= _MOST_TOGETHER and not _may_hold_any(b"\n".join(frames)):
        return frames
    return list(map(redact, frames))


def redact(frame: bytes) -> bytes:
    """Return *frame* with `MASK` in place of each secret; as it is when it holds none.

    Of a secret whose end cannot be told, since the frame is cut or no JSON, all that follows goes.
    """
    if not _may_hold_any(frame):
        return frame
    # Of what JSON is made of, nothing looks otherwise in Latin-1, in which a byte is a character.
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
