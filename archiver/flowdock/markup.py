"""Converts HTML to the text that a person would read.

One regular expression removes tags, in linear time: the parser of the standard library takes
seconds for a few kilobytes of unclosed tags, and anybody may send those.
"""

import re
from contextlib import suppress
from html import unescape

_TAG = re.compile(
    r"<(?:(script|style)\b[^<>]*>[^<]*|(/?[a-z][a-z0-9]*+|[!/?])[^<>]*>)", re.IGNORECASE
)
_BLOCKS = frozenset({
    "br", "p", "div", "li", "ul", "ol", "tr", "table", "blockquote", "pre", "hr", "section",
    "article", "header", "footer", "dl", "dt", "dd", "h1", "h2", "h3", "h4", "h5", "h6",
})  # fmt: skip


def plain_text(markup: str) -> str:
    """Return the text of *markup*: blocks on lines of their own, entities as characters."""
    text = _TAG.sub(_replacement, markup) if "<" in markup else markup
    if "&" in text:
        with suppress(ValueError):  # an entity with more digits than Python converts
            text = unescape(text)
    lines = [words for line in text.split("\n") if (words := line.split())]
    return "\n".join([" ".join(words) for words in lines])


def _replacement(tag: re.Match[str]) -> str:
    name = tag[2]
    return "\n" if name and name.removeprefix("/").lower() in _BLOCKS else ""
