"""Parses a frame into the fields that events share: fast, or with a lenient parser if that fails.

Everything in an `Envelope` can be stored: no text holds NUL or a lone surrogate (Postgres has
neither), no number is too long to be written as JSON again, nothing nests deeper than `MAX_DEPTH`.
"""

import json
import re
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from archiver.domain.events import Rejected
from archiver.domain.model import LARGEST_ID, EventId, FlowId, ThreadId, UserId

MAX_NAME_LENGTH = 255
"""The limit for names and ids: anything longer is not one, and fits into no index of Postgres."""

MAX_TAG_LENGTH = 650
"""Anything longer is not a tag; in any script, this many letters fit into an index of Postgres."""

EXACT_IN_SECONDS = 4_000_000_000_000
"""Milliseconds since 1970 below this (in 2096) are represented exactly by a float of seconds."""

MAX_DEPTH = 400
"""How deep arrays and objects may nest: well within what Python and Postgres take."""
_SHALLOW_BYTES = 2 * MAX_DEPTH  # every bracket needs its partner

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_BRACKETS = re.compile(rb'"[^"]*+"|([\[{])|[\]}]')


class Envelope(msgspec.Struct, gc=False):
    """The fields of an event that are of use here, unchecked; None when absent."""

    event: Any = None
    id: Any = None
    flow: Any = None
    to: Any = None
    user: Any = None
    sent: Any = None
    created_at: Any = None
    edited: Any = None
    persist: Any = None
    content: Any = None
    tags: Any = None
    attachments: Any = None
    emojiReactions: Any = None  # noqa: N815  (Flowdock's spelling)
    thread_id: Any = None
    thread: Any = None
    app: Any = None
    uuid: Any = None
    external_user_name: Any = None
    title: Any = None
    body: Any = None
    full_body: Any = None
    author: Any = None
    message_id: Any = None
    patch: Any = None
    user_id: Any = None


_NAMED = msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)
_TAG = msgspec.Meta(min_length=1, max_length=MAX_TAG_LENGTH)


class Chat(msgspec.Struct, gc=False):
    """A chat message with nothing unusual about it, as nearly all are.

    The parser checks each field as `archiver.flowdock.fields` would, which is several times faster
    than doing so afterwards; a message that differs in any way is read as an `Envelope`.
    """

    event: Literal["message"]
    id: Annotated[EventId, msgspec.Meta(ge=1, le=LARGEST_ID)]
    content: str
    sent: Annotated[int, msgspec.Meta(ge=0, lt=EXACT_IN_SECONDS)]
    user: Annotated[UserId, _NAMED] | None = None
    flow: Annotated[FlowId, _NAMED] | None = None
    tags: tuple[Annotated[str, _TAG], ...] = ()
    thread_id: Annotated[ThreadId, _NAMED] | None = None
    app: str | None = None
    uuid: str | None = None
    external_user_name: str | None = None
    thread: dict[str, Any] | None = None
    attachments: Annotated[tuple[Any, ...], msgspec.Meta(max_length=0)] = ()
    # Fields that make a message unusual if they are present.
    to: None = None
    edited: None = None
    persist: None = None
    emojiReactions: None = None  # noqa: N815  (Flowdock's spelling)


_FAST = msgspec.json.Decoder(Envelope)
_CHAT = msgspec.json.Decoder(Chat)
_SAYS_MESSAGE = b'"event":"message"'
_BACKSLASH = ord("\\")


def read_chat(frame: bytes) -> Chat | None:
    """Read *frame* if it is a chat message with nothing unusual about it."""
    if _SAYS_MESSAGE not in frame or (_BACKSLASH in frame and b"\\u0000" in frame):
        return None
    try:
        _check_text(frame)
        chat = _CHAT.decode(frame)
    except (UnicodeDecodeError, RecursionError, msgspec.DecodeError):
        return None
    return None if len(frame) > _SHALLOW_BYTES and is_too_deep(frame) else chat


def read(frame: bytes) -> Envelope | Rejected:
    """Read the JSON object in *frame*; never raise on what the server sends."""
    try:
        _check_text(frame)
        if _BACKSLASH in frame and b"\\u0000" in frame:
            return _read_carefully(frame)
        envelope = _FAST.decode(frame)
    except UnicodeDecodeError:
        return Rejected(reason="not UTF-8")
    except RecursionError:
        return Rejected(reason="nested too deeply")
    except msgspec.DecodeError:
        return _read_carefully(frame)
    if len(frame) > _SHALLOW_BYTES and is_too_deep(frame):
        return Rejected(reason="nested too deeply")
    return envelope


def _check_text(frame: bytes) -> None:
    """Raise UnicodeDecodeError if *frame* is not UTF-8: msgspec does not check skipped fields."""
    if not frame.isascii():
        frame.decode()


def read_json(frame: bytes) -> Any:
    """Return the JSON value in *frame*, made storable; numbers that are too large become text.

    Raises:
        ValueError: *frame* is not UTF-8, not JSON, or nested too deeply.
    """
    try:
        value = json.loads(
            frame.decode(),
            parse_constant=_refuse,
            parse_float=_float_or_text,
            parse_int=_int_or_text,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if is_too_deep(frame):
        raise ValueError("nested too deeply")
    return storable(value)


def is_too_deep(frame: bytes) -> bool:
    """Tell whether the JSON text *frame* nests deeper than `MAX_DEPTH`."""
    if len(frame) <= _SHALLOW_BYTES or frame.count(b"[") + frame.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _BRACKETS.finditer(without_escapes(frame)):
        if token[1]:
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif token[0][0] != 0x22:
            depth -= 1
    return False


def without_escapes(text: bytes) -> bytes:
    """Mask the escapes in *text*, so that each quote begins or ends a string; its length stays."""
    # A regular expression that knows escapes would take fifty bytes of memory for each of them.
    return text.replace(b"\\\\", b"__").replace(b'\\"', b"__")


def _read_carefully(frame: bytes) -> Envelope | Rejected:
    """Read what msgspec refuses but a service may send: lone surrogates, huge numbers."""
    try:
        value = read_json(frame)
    except ValueError as exc:
        return Rejected(reason=str(exc) if "nested" in str(exc) else f"not JSON: {exc}")
    if not isinstance(value, dict):
        return Rejected(reason="not a JSON object")
    return Envelope(**{name: value[name] for name in Envelope.__struct_fields__ if name in value})


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _float_or_text(literal: str) -> float | str:
    number = float(literal)
    return literal if number in (float("inf"), float("-inf")) else number


def _int_or_text(literal: str) -> int | str:
    try:
        return int(literal)
    except ValueError:  # more digits than Python converts
        return literal


def storable(value: Any) -> Any:
    """Return *value* with U+FFFD in place of every NUL and lone surrogate, in keys too."""
    # Loops, not comprehensions: each of those takes a stack frame, and nesting goes to MAX_DEPTH.
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        for index, item in enumerate(value):
            value[index] = storable(item)
        return value
    if isinstance(value, dict):
        kept = {}
        for key, item in value.items():
            kept[_UNSTORABLE.sub("\ufffd", key)] = storable(item)
        return kept
    return value
