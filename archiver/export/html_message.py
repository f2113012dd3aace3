"""A message as HTML, to be inserted into a page.

Pages are templates, but there may be millions of messages, so these are formatted in Python, which
takes a tenth of the time. Nothing is escaped automatically here: every text of a message has to go
through `linked`, and every name through `safe`.
"""

import re
from functools import lru_cache
from html import escape
from typing import Any
from urllib.parse import quote

from archiver.domain.tags import is_mark
from archiver.export.files import NOT_KEPT, Links, is_picture
from archiver.export.messages import UNKNOWN, Message, in_line, minute, visible

_PARENTHESES = r"\([^\s<>\"'`()]*\)"
LINK = re.compile(
    rf"(https?://(?>{_PARENTHESES}|[^\s<>\"'`])+"
    rf"(?>{_PARENTHESES}|[^\s<>\"'`.,;:!?)\]}}]))"
)
"""A web address without the punctuation around it; parentheses opened in it are part of it."""
_UNKNOWN = f'<p class="gone">{UNKNOWN}</p>'
OUTSIDE = 'rel="noopener noreferrer nofollow" target="_blank"'


def article(
    message: Message, day_href: str, thread_href: str | None = None, links: Links | None = None
) -> str:
    """*message* with its history; *day_href* links to its day, *thread_href* to its thread.

    *day_href* is empty on the page of the day itself. There, the message has the time of day
    without the date, and says what it is about. With *links*, its files link to their contents.
    """
    m = message
    gone = ' class="deleted"' if m.deleted_at else ""
    about = f"on “{m.about.strip()}”" if m.about and m.about.strip() and not day_href else ""
    kind = f" <i>{safe(f'{m.kind} {about}'.strip())}</i>" if m.kind or about else ""
    thread = (
        f' <a class="thread" href="{safe(thread_href)}">thread of {m.thread_size}</a>'
        if thread_href
        else ""
    )
    return (
        f'<article id="m-{m.id}"{gone}>\n<header><b>{_word(m.sender)}</b> '
        f'<a href="{day_href}#m-{m.id}" title="link to this message">{_time(m.sent, day_href)}</a>'
        f"{kind}{thread}</header>\n{_body(m, links)}</article>\n"
    )


def _body(m: Message, links: Links | None) -> str:
    """The text of *m*, with its deletion, files, history, reactions and tags."""
    said = _said(m.content) + "\n" if m.content else ""
    if m.content is None:
        said = _UNKNOWN + "\n"
    if not (m.deleted_at or m.attachments or m.history or m.reactions or m.tags):
        return said
    parts = [f'<p class="gone">deleted {minute(m.deleted_at)}</p>\n'] if m.deleted_at else []
    if not (m.event == "file" and m.attachments):
        parts.append(said)
    parts += [_file(one, links) for one in m.attachments or ()]
    if m.history and len(m.history) > 1:
        parts.append(_history(m))
    if m.reactions or m.tags:
        parts.append(_footer(m))
    return "".join(parts)


def safe(text: str) -> str:
    """Escape *text* as one line of HTML, for use between tags and in quoted attributes."""
    return escape(in_line(text))


# Names and tags are few, and each occurs in many messages.
@lru_cache(maxsize=4096)
def _word(text: str) -> str:
    return safe(text)


def linked(text: str) -> str:
    """Escape *text* as HTML, in which web addresses are links."""
    if "://" not in text:
        return escape(visible(text))
    pieces = []
    for number, piece in enumerate(LINK.split(visible(text))):
        shown = escape(piece)
        pieces.append(f'<a href="{shown}" {OUTSIDE}>{shown}</a>' if number % 2 else shown)
    return "".join(pieces)


def _said(text: str) -> str:
    return f'<div class="text" dir="auto">{linked(text)}</div>'


def _time(sent: str | None, day_href: str) -> str:
    if not sent:
        return "<time>no time</time>"
    return f'<time datetime="{sent}">{minute(sent) if day_href else sent[11:16]}</time>'


def _file(file: dict[str, Any], links: Links | None) -> str:
    told = [file.get("file_name") or "a file", file.get("content_type")]
    size = file.get("size_bytes")
    if size is not None:
        told.append(f"{size:,} bytes")
    path = links and links.path(file)
    if links is not None and path is None:
        told.append(NOT_KEPT)
    shown = safe(" · ".join(filter(None, told)))
    if path:
        href = safe(quote(path))
        picture = f'<img src="{href}" alt="" loading="lazy">' if is_picture(path) else ""
        shown = f'<a href="{href}">{picture}{shown}</a>'
    return f'<p class="file">{shown}</p>\n'


def _history(message: Message) -> str:
    steps = []
    for step in message.history or ():
        told = step["kind"]
        told += f" {minute(step['at'])}" if step["at"] else ""
        told += f" by {step['nick']}" if step["nick"] else ""
        steps.append(f"<li><span>{safe(told)}</span>")
        if step["content"]:
            steps.append(_said(step["content"]))
        elif step["content"] is None:
            steps.append(_UNKNOWN)
        steps.append("</li>")
    name = "history" if message.deleted_at else "edited"
    return f"<details><summary>{name}</summary><ol>{''.join(steps)}</ol></details>\n"


def _footer(message: Message) -> str:
    shown = [
        f"<span>{safe(f'{emoji} {len(who)}')}</span> "
        for emoji, who in (message.reactions or {}).items()
    ]
    shown += [f"<span>#{_word(tag)}</span> " for tag in message.tags if not is_mark(tag)]
    return f"<footer>{''.join(shown)}</footer>\n" if shown else ""
