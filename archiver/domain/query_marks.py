"""Marks: what a search index holds of a message besides its words; no word looks like a mark."""

from archiver.domain.query_text import fold

LONGEST_MARK = 200

HAS_FILE = "=file"
HAS_LINK = "=link"
HAS_EDIT = "=edit"
HAS_REACTION = "=reaction"
HAS_THREAD = "=thread"
IS_DELETED = "=deleted"


def of_flow(flow_key: int) -> str:
    """The mark of all messages of a flow."""
    return f"=f{flow_key}"


def of_user(user_id: str) -> str:
    """The mark of all messages that a person or an integration's account sent."""
    return _cut(f"=u{user_id}")


def of_stranger(name: str) -> str:
    """The mark of all messages under a name that belongs to no user."""
    return _cut(f"=x{fold(name)}")


def of_event(event: str) -> str:
    """The mark of a kind of message."""
    return _cut(f"=e{fold(event)}")


def of_thread(thread_id: str) -> str:
    """The mark of a thread."""
    return _cut(f"=t{thread_id}")


def of_tag(tag: str) -> str:
    """The mark of a tag."""
    return _cut(f"#{fold(tag)}")


def _cut(mark: str) -> str:
    return mark.replace("\0", "")[:LONGEST_MARK]
