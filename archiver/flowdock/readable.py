"""Extracts the text that people read and search in a message, and what it holds besides text.

The content of chat is that text. Activities are HTML. What integrations sent before there were
activities is free-form JSON, of which the members with common names for text are taken. Derived
text is limited to `MAX_TEXT_LENGTH`; the detail holds all of it.
"""

from collections.abc import Iterator
from typing import Any

from archiver.domain.model import Json
from archiver.flowdock.envelope import Envelope
from archiver.flowdock.markup import plain_text

MAX_TEXT_LENGTH = 100_000

TITLED = frozenset({"activity", "discussion"})
"""The kinds whose text is a title and a body, not their content."""

_HEADLINES = frozenset({
    "title", "subject", "page_title", "issue_key", "issue_summary", "name", "question",
})  # fmt: skip
_TEXTS = frozenset({
    "text", "body", "message", "description", "comment_body", "comment_content_summary",
    "content_summary", "content", "issue_description", "version_comment", "answer", "ref",
})  # fmt: skip
_PARTS = frozenset({
    "article", "audit_status", "comment", "commits", "forum", "issue", "kudo", "pull_request",
    "stories", "suggestion", "ticket", "message", "messages", "content",
})  # fmt: skip
"""The members that are searched for text: they are about what happened, not who did it or where."""


def text_of(kind: str, body: Envelope) -> str:
    """Return the readable text of a message of *kind*; empty when it has none."""
    content = body.content
    if kind in TITLED:
        return _lines(_html(body.title), _html(body.body)) or _text(content)
    if isinstance(content, str):
        return content
    if kind == "comment":
        return _comment(content)
    return _READERS.get(kind, _text)(content)[:MAX_TEXT_LENGTH]


def detail_of(kind: str, body: Envelope) -> Json:
    """Return what a message of *kind* holds besides its text; None when the text is all.

    For activities and discussions, whose content is empty: title, body and author, as received.
    """
    content = body.content
    if kind in TITLED:
        detail = {"title": body.title, "body": body.body, "author": body.author}
        more = {"full_body": body.full_body, "content": content}
        return detail | {name: value for name, value in more.items() if value is not None}
    if content is None or isinstance(content, str):
        return None
    if kind == "comment" and isinstance(content, dict):
        return beside_text(content)
    return content


def sender_of(kind: str, body: Envelope) -> str | None:
    """Return the name under which a message of *kind* was sent, if it has one.

    Activities and discussions name their author in a field of its own (message types).
    """
    name = body.external_user_name
    if name is None and kind in TITLED and isinstance(body.author, dict):
        name = body.author.get("name")
    return name if isinstance(name, str) else None


def beside_text(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a comment's ``{title, text}`` holds besides the text (message types)."""
    return {name: value for name, value in content.items() if name != "text"}


def _comment(content: Json) -> str:
    text = content.get("text") if isinstance(content, dict) else None
    return text if isinstance(text, str) else ""


def _file(content: Json) -> str:
    name = content.get("file_name") if isinstance(content, dict) else None
    return name if isinstance(name, str) else ""


def _action(content: Json) -> str:
    """An action in words: "add rss feed: http://…"; real ones differ from those documented."""
    if not isinstance(content, dict):
        return _text(content)
    kind = content.get("type")
    words = kind.replace("_", " ") if isinstance(kind, str) else ""
    said = (content.get(name) for name in ("description", "message", "recipient_email"))
    told = next((text for text in map(_item, said) if text), "")
    return f"{words}: {told}" if words and told else words or told


def _item(value: Json) -> str:
    """Return a description: text, a list of names, or an object about one person."""
    if isinstance(value, dict):
        value = next((value[name] for name in ("email", "user", "nick") if value.get(name)), None)
    if isinstance(value, list):
        return ", ".join(filter(None, map(_scalar, value)))
    return _scalar(value)


def _mail(content: Json) -> str:
    if not isinstance(content, dict):
        return _text(content)
    is_html = "html" in _scalar(content.get("contentType")).lower()
    body = content.get("content")
    parts = body if isinstance(body, list) else [body]
    texts = (_html(part) if is_html else _text(part) for part in parts)
    return _lines(_scalar(content.get("subject")), *texts)


def _profile(content: Json) -> str:
    user = content.get("user") if isinstance(content, dict) else None
    return _scalar(user.get("nick")) if isinstance(user, dict) else ""


_READERS = {
    "file": _file,
    "action": _action,
    "mail": _mail,
    "user-edit": _profile,
}


def _text(value: Json) -> str:
    """Return what is readable in free-form *value*, headlines first, each text once."""
    if isinstance(value, dict | list):
        found = list(_readable(value, levels=3))
        found.sort(key=lambda named: named[0] in _TEXTS)
        return _lines(*dict.fromkeys(text for _, text in found))
    return _scalar(value)


def _readable(value: dict[str, Any] | list[Any], *, levels: int) -> Iterator[tuple[str, str]]:
    """Yield names and readable texts, those of outer objects first."""
    if isinstance(value, list):
        for item in value[:20]:
            if isinstance(item, dict):
                yield from _readable(item, levels=levels)
        return
    inner = []
    for name, item in value.items():
        if (name in _HEADLINES or name in _TEXTS) and isinstance(item, str):
            yield name, item
        elif name in _PARTS and isinstance(item, dict | list) and levels > 1:
            inner.append(item)
    for item in inner:
        yield from _readable(item, levels=levels - 1)


def _html(value: Json) -> str:
    return plain_text(value[:MAX_TEXT_LENGTH]) if isinstance(value, str) else ""


def _scalar(value: Json) -> str:
    if isinstance(value, str):
        return value
    return str(value) if type(value) in {int, float} else ""


def _lines(*texts: str) -> str:
    return "\n".join(filter(None, (text.strip() for text in texts)))[:MAX_TEXT_LENGTH]
