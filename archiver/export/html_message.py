"""A message as a piece of a page.

Pages are templates; what stands in them a million times is written here, since a template takes ten
times as long. Whatever comes from chat goes through `safe`, or `linked`, and there is no other way.
"""

import re
from html import escape
from typing import Any

from archiver.export.messages import Message, minute, visible

LINK = re.compile(r"(https?://[^\s<>\"'`]+[^\s<>\"'`.,;:!?)\]}])")
OUTSIDE = 'rel="noopener noreferrer nofollow" target="_blank"'


def article(message: Message, day_href: str, thread_href: str | None = None) -> str:
    """*message* with its history; *day_href* leads to its day, *thread_href* to its thread."""
    m = message
    gone = ' class="deleted"' if m.deleted_at else ""
    parts = [
        f'<article id="m-{m.id}"{gone}>\n<header><b>{safe(m.sender)}</b> ',
        f'<a href="{day_href}#m-{m.id}" title="link to this message">{_time(m.sent)}</a>',
    ]
    if m.event not in {"message", "comment"}:
        parts.append(f" <i>{safe(m.event)}</i>")
    if thread_href:
        parts.append(f' <a class="thread" href="{safe(thread_href)}">thread of {m.thread_size}</a>')
    parts.append("</header>\n")
    if m.deleted_at:
        parts.append(f'<p class="gone">deleted {minute(m.deleted_at)}</p>\n')
    if m.content and not (m.event == "file" and m.attachments):
        parts.append(f"{_said(m.content)}\n")
    if m.attachments:
        parts += map(_file, m.attachments)
    if m.history and len(m.history) > 1:
        parts.append(_history(m))
    if m.reactions or m.tags:
        parts.append(_footer(m))
    parts.append("</article>\n")
    return "".join(parts)


def safe(text: str) -> str:
    """*text* as HTML that shows it, between tags and in quotes."""
    return escape(visible(text))


def linked(text: str) -> str:
    """*text* as HTML that shows it, with the addresses in it as links."""
    if "://" not in text:
        return safe(text)
    pieces = []
    for number, piece in enumerate(LINK.split(visible(text))):
        shown = escape(piece)
        pieces.append(f'<a href="{shown}" {OUTSIDE}>{shown}</a>' if number % 2 else shown)
    return "".join(pieces)


def _said(text: str) -> str:
    return f'<div class="text" dir="auto">{linked(text)}</div>'


def _time(sent: str | None) -> str:
    return f'<time datetime="{sent}">{sent[11:16]}</time>' if sent else "<time>no time</time>"


def _file(file: dict[str, Any]) -> str:
    told = [file.get("file_name") or "a file", file.get("content_type")]
    size = file.get("size_bytes")
    if size is not None:
        told.append(f"{size:,} bytes")
    return f'<p class="file">{safe(" · ".join(filter(None, told)))}</p>\n'


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
            steps.append('<p class="gone">changed before the archive saw it</p>')
        steps.append("</li>")
    name = "history" if message.deleted_at else "edited"
    return f"<details><summary>{name}</summary><ol>{''.join(steps)}</ol></details>\n"


def _footer(message: Message) -> str:
    told = [f"{emoji} {len(who)}" for emoji, who in (message.reactions or {}).items()]
    # Tags with a colon are marks of the service.
    told += [f"#{tag}" for tag in message.tags if ":" not in tag]
    shown = "".join(f"<span>{safe(one)}</span> " for one in told)
    return f"<footer>{shown}</footer>\n" if shown else ""
