"""Tags: how Flowdock took them from texts and from lists, and how it stored them.

They are stored without ``#``, in order, each once, compared without regard to case; the first
spelling is kept.
"""

import re
from collections.abc import Iterable, Mapping

EVERYONE = ":user:everyone"
TEAM = ":user:team"
_WORDS_FOR_EVERYONE = frozenset({"everyone", "everybody", "all", "anyone", "anybody"})

# Letters, digits, underscore, and combining marks, which \w alone leaves out.
_WORD = r"\w\u0300-\u036f\u093e-\u094d\u0e31-\u0e3a\u0e47-\u0e4e"
_HASHTAG = re.compile(
    rf"(?<![{_WORD}/&#\uff03@])[#\uff03](?!https?://)([{_WORD}](?:[{_WORD}\-]*[{_WORD}])?)"
)
_MENTION = re.compile(rf"(?<![{_WORD}@/])@(?!https?://)(@?[{_WORD}](?:[{_WORD}.\-]*[{_WORD}])?)")

_LETTER = r"a-zA-Z0-9\u00c0-\u024f"
_LABEL = rf"[{_LETTER}](?:[{_LETTER}_\-]*[{_LETTER}])?"
_DOMAIN = rf"[{_LETTER}](?:[{_LETTER}\-]*[{_LETTER}])?"
_TOP = (
    "com|org|edu|gov|net|mil|int|info|biz|name|io|co|me|tv|ly|ws|it|jp|fi|uk|de|fr|es|se|no|nl|ru|"
    "cn|kr|in|us|ca|au|br|ch|at|be|dk|pl|pt|eu|za|ar|nz|ie|is|il|mx|tr|ua|cz|gr|hu|to|cc|gl"
)
_PATH = r"(?:[/?#][^\s<>\"\u3000-\u303f]*)?"
_WITH_SCHEME = re.compile(
    rf"(?<![$#\uff03@{_LETTER}])https?://"
    rf"(?P<host>(?:\d{{1,3}}\.){{3}}\d{{1,3}}|(?:[^\W_]|[\u2600-\u27bf])(?:[\w\-\u2600-\u27bf]*)"
    rf"(?:\.[\w\-\u2600-\u27bf]+)*)(?::\d+)?{_PATH}"
)
_BARE = re.compile(
    rf"(?<![$#\uff03@.\-/:_{_LETTER}])(?:{_LABEL}\.)*{_DOMAIN}\.(?:{_TOP})(?![{_LETTER}_.\-]*[{_LETTER}])"
    rf"(?:/[a-zA-Z0-9/._~%+\-?=&#]*)?"
)


def outside_quotes(text: str) -> str:
    """Return *text* without its quoted lines: those that begin with four spaces."""
    return "\n".join(line for line in text.split("\n") if not line.startswith("    "))


def hashtags(text: str) -> list[str]:
    """Return the hashtags of a text in order, without ``#``; none from quotes and links."""
    if "#" not in text and "\uff03" not in text:
        return []
    return _HASHTAG.findall(_WITH_SCHEME.sub(" ", outside_quotes(text)))


def mentions(text: str) -> list[str]:
    """Return the names that a text mentions, in order, without ``@`` (a group keeps one ``@``)."""
    return _MENTION.findall(outside_quotes(text)) if "@" in text else []


def has_link(text: str) -> bool:
    """Tell whether a text contains a link, with its scheme or without."""
    if "." not in text and "://" not in text:
        return False
    if any(_is_host(found["host"]) for found in _WITH_SCHEME.finditer(text)):
        return True
    return _BARE.search(text) is not None


def of_text(text: str, ids_by_nick: Mapping[str, int]) -> list[str]:
    """Return the tags that Flowdock parses from a text; nicks in *ids_by_nick* are case-folded."""
    found = hashtags(text)
    for name in mentions(text):
        tag = _mention(name, ids_by_nick)
        if tag is not None:
            found.append(tag)
    if has_link(text):
        found.append(":url")
    return found


def normalized(tags: Iterable[str], ids_by_nick: Mapping[str, int]) -> list[str]:
    """Return tags as stored: ``#cool`` is ``cool``, ``@mike`` is ``:user:ID``; each kept once."""
    kept: dict[str, str] = {}
    for written in tags:
        tag = _stored(written.strip(), ids_by_nick)
        if tag:
            kept.setdefault(tag.casefold(), tag)
    return list(kept.values())


def from_parameter(value: object) -> list[str]:
    """Return the tags of a request: a list, or text with commas between (docs/messages).

    Raises:
        ValueError: it is neither; its text is the parameter's name.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [tag for tag in value.split(",") if tag.strip()]
    if not isinstance(value, list) or any(type(tag) not in {str, int} for tag in value):
        raise ValueError("tags")
    return [str(tag) for tag in value]


def changed(tags: Iterable[str], *, add: Iterable[str], remove: Iterable[str]) -> list[str]:
    """Return ``(tags - remove) + add``, compared without regard to case, order kept."""
    unwanted = {tag.casefold() for tag in remove}
    kept = {tag.casefold(): tag for tag in tags if tag.casefold() not in unwanted}
    for tag in add:
        kept.setdefault(tag.casefold(), tag)
    return list(kept.values())


def _is_host(host: str) -> bool:
    labels = host.split(".")
    if any(label.strip("-_") != label for label in labels):
        return False
    if len(labels) == 1 or host.replace(".", "").isdecimal():
        return True
    return len(labels[-1]) > 1 and "_" not in labels[-1] + labels[-2]


def _stored(tag: str, ids_by_nick: Mapping[str, int]) -> str | None:
    if tag.startswith("@"):
        return _mention(tag[1:], ids_by_nick)
    return tag.lstrip("#\uff03")


def _mention(name: str, ids_by_nick: Mapping[str, int]) -> str | None:
    if name.startswith("@"):
        return f"@{name}"
    folded = name.casefold()
    if folded in _WORDS_FOR_EVERYONE:
        return EVERYONE
    if folded == "team":
        return TEAM
    user = ids_by_nick.get(folded)
    return None if user is None else f":user:{user}"
