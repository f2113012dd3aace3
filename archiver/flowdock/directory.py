"""Reads flows, conversations and people from the JSON of the REST API.

Only the fields named here are taken: flow objects hold a secret ``api_token`` and ``join_url``.
"""

from typing import Any
from urllib.parse import unquote, urlsplit

from archiver.domain.model import Flow, User, UserId, private_path
from archiver.flowdock.fields import read_flow, read_name, read_text, read_user

_UNUSABLE = frozenset("/\\,?#\0")
"""Characters by which a name would change the meaning of a path or of a list of paths, and NUL,
which Postgres cannot hold."""


def flow_of(item: Any) -> Flow | None:
    """Return the flow that a JSON object describes; None without an id or a path."""
    if not isinstance(item, dict):
        return None
    flow_id = read_flow(item.get("id"))
    path = _path_of(item)
    if flow_id is None or path is None:
        return None
    organization = item.get("organization")
    if isinstance(organization, dict):
        organization = organization.get("name")
    return Flow(
        id=flow_id,
        path=path,
        organization=read_text(organization),
        name=read_text(item.get("name")),
        access_mode=read_text(item.get("access_mode")),
        joined=item.get("joined") is not False,
        disabled=item.get("disabled") is True,
    )


def conversation_of(item: Any, me: UserId) -> Flow | None:
    """Return the conversation of *me* that a JSON object describes; None without an id."""
    other = read_user(item.get("id")) if isinstance(item, dict) else None
    if other is None or not (other.isascii() and other.isdigit()):
        return None
    path = private_path(me, other)
    return Flow(id=path, path=path, name=read_text(item.get("name")))


def user_of(item: Any) -> User | None:
    """Return the person that a JSON object describes (users documentation); None without an id."""
    user_id = read_user(item.get("id")) if isinstance(item, dict) else None
    if user_id is None:
        return None
    disabled = item.get("disabled")
    return User(
        id=user_id,
        nick=read_text(item.get("nick")),
        name=read_text(item.get("name")),
        email=read_text(item.get("email")),
        disabled=disabled if isinstance(disabled, bool) else None,
    )


def _path_of(item: dict[str, Any]) -> str | None:
    """Return ``organization/flow``, from the flow's URL, its names, or an id of the old form."""
    organization = item.get("organization")
    if isinstance(organization, dict):
        organization = organization.get("parameterized_name")
    url = read_text(item.get("url")) or ""
    candidates: tuple[list[Any], ...] = (
        _segments_after_flows(url),
        [organization, item.get("parameterized_name")],
        (read_text(item.get("id")) or "").split("/"),
    )
    for segments in candidates:
        names = [name for name in map(read_name, segments) if name and not _UNUSABLE & {*name}]
        if len(segments) == len(names) == 2 and not {".", ".."} & {*names}:
            return "/".join(names)
    return None


def _segments_after_flows(url: str) -> list[str]:
    try:
        _, _, path = urlsplit(url).path.rpartition("/flows/")
    except ValueError:
        return []
    return [unquote(segment) for segment in path.split("/")]
