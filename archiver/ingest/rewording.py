"""Replacing words in the payload of an event, of which all else stays byte for byte."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from archiver.store.erasure import digest_of_text

ERASED = "[erased]"

# In valid JSON, quotes are at the ends of strings, or escaped within one.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*"(\s*+:\s*+)?')
KEPT = frozenset(
    {"app", "event", "flow", "flow_id", "id", "thread_id", "to", "type", "user", "uuid"}
)
"""Members by whose values events are placed, and not read: phrases in these are left."""
SHOWN = frozenset({"body", "value"})
"""Members of a thread, and of its fields, that an integration sets and all its events repeat."""
REACTIONS = "emojiReactions"
"""The member whose value has what people reacted with as names, not as texts."""
_ELLIPSIS = " .…"


class Phrases:
    """Phrases to erase, in any case of their letters, and also where a text quotes JSON."""

    def __init__(self, phrases: Collection[str]) -> None:
        spelled = [spelling for one in phrases for spelling in spellings(one)]
        longest_first = sorted(spelled, key=len, reverse=True)
        self._any = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
        self._phrases = phrases

    def __bool__(self) -> bool:
        return bool(self._phrases)

    def erased_from(self, text: str) -> str:
        """*text* with `ERASED` in place of each phrase."""
        return self._any.sub(ERASED, text) if self else text

    def are_in(self, raw: bytes) -> bool:
        """Tell whether a phrase is in *raw*, which may be JSON or anything else."""
        text = raw.decode(errors="replace")
        return bool(self) and any(self._any.search(one) for one in (text, *strings(text)))

    def parts(self) -> list[str]:
        """For each phrase, the longest part that JSON spells in one way, in small letters.

        So it does without escapes for any letter; and these letters are small everywhere alike.
        """
        runs = ["".join(one if _is_plain(one) else "\n" for one in text) for text in self._phrases]
        return [max(run.split("\n"), key=len).lower() for run in runs]


def _is_plain(letter: str) -> bool:
    is_escaped = letter in '"\\/' or letter < " "
    return not is_escaped and (letter.isascii() or letter.lower() == letter.upper())


class Titles:
    """Titles of threads that repeat what was *said*, or the beginning of it.

    Of what was erased before, only the digests are *known*.
    """

    def __init__(self, said: Iterable[str], known: Collection[str] = ()) -> None:
        self._said = {_spaced(one) for one in said}
        self._known = frozenset(known)

    def know(self, text: str) -> bool:
        """Tell whether *text* is one of those that were erased, or are to be."""
        return digest_of_text(text) in self._known

    def repeat(self, title: str) -> bool:
        """Tell whether *title* repeats it."""
        if self.know(title):
            return True
        words = _spaced(title)
        cut = words.rstrip(_ELLIPSIS)
        return bool(cut) and any(
            one.startswith(words) or (cut != words and one.startswith(cut)) for one in self._said
        )


def rewritten(payload: str, change: Callable[[str, str], str]) -> tuple[str, dict[str, str]]:
    """*payload*, JSON, with other texts in it, and by each text that changed: what became of it.

    *change* is called with each text, after the name of the member whose value it is. What people
    reacted with counts as a text, though a listing has it as a name.
    """
    written: list[str] = []
    changed: dict[str, str] = {}
    at = 0
    for name, text, (start, end) in _values(payload):
        new = change(name, text)
        if new != text and name not in KEPT:
            changed[text] = new
            written += [payload[at:start], _literal(new)]
            at = end
    return "".join([*written, payload[at:]]), changed


def members(payload: str, wanted: str) -> list[str]:
    """The texts that are values of members called *wanted*, at any depth of *payload*, JSON."""
    return [text for name, text, _ in _values(payload) if name == wanted]


def shown_in_thread(payload: str) -> list[str]:
    """The body and the values of fields of the thread that *payload*, JSON, shows."""
    # Python refuses to read integers of very many digits, which Postgres keeps.
    thread = json.loads(payload, strict=False, parse_int=float).get("thread")
    if not isinstance(thread, dict):
        return []
    fields = thread.get("fields")
    listed = fields if isinstance(fields, list) else ()
    values = [one.get("value") for one in listed if isinstance(one, dict)]
    texts = (thread.get("body"), *values)
    return [one for one in texts if isinstance(one, str) and one.strip()]


def _values(payload: str) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Yield each text in *payload* that is a value: its member, itself, and where it is.

    So is each name in the value of `REACTIONS`, as of the member that has it in an event.
    """
    member, value_at = "", -1
    depth, seen = 0, 0  # how many objects of reactions are open where it has come to
    for found in _STRING.finditer(payload):
        text = json.loads(found[0].removesuffix(found[1] or ""), strict=False)
        if depth > 0:
            between = payload[seen : found.start()]
            depth += between.count("{") - between.count("}")
            seen = found.end()
        if not found[1]:
            yield member if found.start() == value_at else "", text, found.span()
            continue
        if depth > 0:
            yield "emoji", text, (found.start(), found.start(1))
        elif text == REACTIONS and payload.startswith("{", found.end()):
            depth, seen = 1, found.end() + 1
        member, value_at = text, found.end()


def without(name: str, text: str, phrases: Phrases, titles: Titles | None) -> str:
    """*text*, the value of the member *name*, without *phrases*.

    Of what shows a thread, nothing is left if it repeats what *titles* do.
    """
    if titles is not None and (
        titles.repeat(text) if name == "title" else name in SHOWN and titles.know(text)
    ):
        return ERASED
    return phrases.erased_from(text)


def may_show_thread(name: str) -> bool:
    """Tell whether the member *name* may have what `without` erases since it shows a thread."""
    return name == "title" or name in SHOWN


def strings(text: str) -> Iterator[str]:
    """Yield all that looks like a string of JSON in *text*, decoded."""
    for found in _STRING.finditer(text):
        try:
            yield json.loads(found[0].removesuffix(found[1] or ""), strict=False)
        except ValueError:
            continue


def _literal(text: str) -> str:
    """*text* as a string of JSON that can be encoded."""
    written = json.dumps(text, ensure_ascii=False)
    is_whole = not any("\ud800" <= letter <= "\udfff" for letter in text)
    return written if is_whole else json.dumps(text)


def _spaced(text: str) -> str:
    return " ".join(text.split())


def spellings(phrase: str) -> Sequence[str]:
    """How *phrase* may be spelled: as it is, and in strings of JSON."""
    return list(
        dict.fromkeys(
            [phrase, json.dumps(phrase, ensure_ascii=False)[1:-1], json.dumps(phrase)[1:-1]]
        )
    )
