"""Threads of a flow, newest first, paged by a ``Link`` header; and the files of messages."""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from aiohttp import web

from archiver.simulator import wire
from archiver.simulator.access import WORLD, answer, asker, authenticated, invalid, parameters
from archiver.simulator.directory import NoSuchThing
from archiver.simulator.entities import Thread, User
from archiver.simulator.listing import size_of_page
from archiver.simulator.rest_messages import flow_of
from archiver.simulator.world import World


def add_routes(router: web.UrlDispatcher) -> None:
    """Serve threads and files."""
    router.add_get("/flows/{organization}/{flow}/threads", list_threads)
    router.add_get("/flows/{organization}/{flow}/threads/{thread}", show_thread)
    # A second slash in front is accepted: a client that joins addresses carelessly may send it.
    router.add_get("/{folder:/?files}/{rest:.+}", find_file)
    router.add_get(r"/{folder:/?private/\d+/\d+/files}/{rest:.+}", find_file)
    router.add_get("/_storage/{path:.+}", download)


@authenticated
async def list_threads(request: web.Request) -> web.StreamResponse:
    """Answer with a page of threads by last change; ``since`` and ``until`` are ISO times."""
    flow = flow_of(request)
    given = await parameters(request)
    try:
        limit = size_of_page(given)
        since, until = _time(given, "since"), _time(given, "until")
    except ValueError as wrong:
        raise invalid(**{str(wrong): "is invalid"}) from None
    found = [
        thread
        for thread in flow.threads.values()
        if (since is None or thread.updated_at > since)
        and (until is None or thread.updated_at < until)
        and _is_of(thread, given.get("application"))
    ]
    found.sort(key=lambda thread: (thread.updated_at, thread.initial_message), reverse=True)
    page = _page(found, limit)
    headers = {}
    if len(found) > len(page):
        query = {"limit": str(limit), "until": wire.iso(page[-1].updated_at)}
        following = request.url.update_query(query)
        headers["Link"] = f'<{following}>; rel="next"'
    return answer(b"[" + b",".join(map(wire.thread_bytes, page)) + b"]", headers=headers)


@authenticated
async def show_thread(request: web.Request) -> web.StreamResponse:
    """Answer with one thread."""
    thread = flow_of(request).threads.get(request.match_info["thread"])
    if thread is None:
        raise NoSuchThing(request.path)
    return answer(wire.thread_bytes(thread))


@authenticated
async def find_file(request: web.Request) -> web.StreamResponse:
    """Redirect (302) those who may read a file to where it is stored; that needs no credentials."""
    path = "/" + request.path.lstrip("/")
    if path not in request.app[WORLD].files or not _may_read(
        request.app[WORLD], path, asker(request)
    ):
        raise NoSuchThing(path)
    return web.Response(status=302, headers={"Location": f"/_storage{quote(path)}"})


async def download(request: web.Request) -> web.StreamResponse:
    """Answer with the bytes of a file."""
    try:
        kind, data = request.app[WORLD].files["/" + request.match_info["path"]]
    except KeyError:
        raise NoSuchThing(request.path) from None
    return web.Response(body=data, headers={"Content-Type": kind})


def _page(found: list[Thread], limit: int) -> list[Thread]:
    """Return the first page of *found*; the next one begins at a time, so none is on two pages."""
    if len(found) <= limit or found[limit].updated_at != found[limit - 1].updated_at:
        return found[:limit]
    border = found[limit].updated_at
    before = [thread for thread in found if thread.updated_at > border]
    return before or [thread for thread in found if thread.updated_at == border]


def _may_read(world: World, path: str, user: User) -> bool:
    first, one, other, *_ = path[1:].split("/")
    if first == "private":
        return str(user.id) in {one, other}
    organizations = world.directory.organizations.values()
    return any(str(each.id) == one and user.id in each.users for each in organizations)


def _is_of(thread: Thread, application: object) -> bool:
    if not application:
        return True
    return thread.source is not None and str(thread.source["application"]["id"]) == str(application)


def _time(given: Mapping[str, object], name: str) -> int | None:
    if not given.get(name):
        return None
    try:
        at = datetime.fromisoformat(str(given[name]))
    except ValueError:
        raise ValueError(name) from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
