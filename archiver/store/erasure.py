"""What an erasure leaves of a payload, and how that is told from damage.

Words are erased from a payload, or all of it is replaced. The digest that the journal keeps stays
that of what was received, so the same bytes are known when they come again. The payload ends with a
member `MARK`, which says when and why words were erased, and has the digests of both: of what was
received, and of what is left. What the service sends is never read so: its digest is its own.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from types import MappingProxyType
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

WHOLE = "erased"
"""The kind of event that the journal holds in place of one that was erased as a whole."""
MARK = "erased"
OPENING = f',"{MARK}":{{"at":"'
"""How a mark begins. No string of JSON can contain it, since quotes are escaped there."""
NO_WORDS: Mapping[str, str] = MappingProxyType({})
CASES = {"\u0130": "i", "\u0131": "i", "\u017f": "s", "\u212a": "k"}
"""Letters beyond ASCII that are other cases of letters in it: of i, as in Turkish, s and k."""

_EMPTIED = re.compile(rf'\{{"event":"{WHOLE}","id":[0-9]+\}}')
_DIGEST = Meta(pattern=r"\A[0-9a-f]{32}\Z")


class Erasure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The mark of an erasure; its fields are in the order in which they are written."""

    at: Annotated[datetime, Meta(tz=True)]
    reason: str | None
    received: Annotated[str, _DIGEST]
    """The digest of what was received, in hexadecimal."""
    left: Annotated[str, _DIGEST]
    """The same of the payload without the mark."""
    words: Mapping[str, str] = {}
    """What became of each text that held erased words, by `digest_of_text` of the text."""
    shown: Mapping[str, str] = {}
    """The same of texts in members that may show a thread, as its title does."""
    threads: Sequence[str] = ()
    """Of a message that was erased as a whole: the threads that it began, titled by its words."""

    @property
    def is_of_nothing(self) -> bool:
        """Tell whether nothing was erased from it, but from what may be listed with it."""
        return self.left == self.received


def digest(payload: bytes) -> bytes:
    """The digest that identifies the bytes of a payload."""
    return blake2b(payload, digest_size=16).digest()


def digest_of_text(text: str) -> str:
    """The digest by which a text is recognized when it comes again, in hexadecimal."""
    return digest(text.encode(errors="surrogatepass")).hex()


def emptied(id_: int) -> str:
    """The payload of an event that was erased as a whole, yet without a mark."""
    return f'{{"event":"{WHOLE}","id":{id_}}}'


def marked(
    payload: str,
    *,
    received: bytes,
    at: datetime,
    reason: str | None,
    words: Mapping[str, str] = NO_WORDS,
    shown: Mapping[str, str] = NO_WORDS,
    threads: Sequence[str] = (),
) -> str:
    """*payload*, from which words were erased, with a mark; *received* is its original digest."""
    body = payload.rstrip()
    left = digest(body.encode()).hex()
    mark = Erasure(
        at=at,
        reason=reason,
        received=received.hex(),
        left=left,
        words=dict(words),
        shown=dict(shown),
        threads=threads,
    )
    return f'{body[:-1]},"{MARK}":{msgspec.json.encode(mark).decode()}}}'


def without_mark(payload: str) -> str:
    """*payload* without the mark of an erasure, if it has one."""
    return _parted(payload)[0]


def mark_of(payload: str) -> Erasure | None:
    """The mark at the end of *payload*, if it fits to what is before it."""
    body, mark = _parted(payload)
    return mark if mark is not None and digest(body.encode()).hex() == mark.left else None


def erasure_of(payload: str, received: bytes) -> Erasure | None:
    """The erasure that left *payload*, of which the journal keeps the digest *received*.

    None if it is as it was received, or was altered otherwise.
    """
    mark = mark_of(payload)
    is_ours = mark is not None and mark.received == received.hex()
    return mark if is_ours and digest(payload.encode()) != received else None


def is_whole(payload: str) -> bool:
    """Tell whether *payload*, which has a mark, is all that is left of an event."""
    return bool(_EMPTIED.fullmatch(without_mark(payload)))


def _parted(payload: str) -> tuple[str, Erasure | None]:
    at = payload.rfind(OPENING)
    if at < 0:
        return payload, None
    try:
        told = payload[at + len(f',"{MARK}":') : -1]
        return payload[:at] + "}", msgspec.json.decode(told, type=Erasure)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return payload, None
