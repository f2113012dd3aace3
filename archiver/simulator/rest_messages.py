"""Messages of flows, threads and private conversations: send, list, show, edit, delete."""

from collections.abc import Callable

from aiohttp import web

from archiver.simulator import listing, wire
from archiver.simulator.access import (
    ID,
    WORLD,
    Endpoint,
    Refused,
    answer,
    asker,
    authenticated,
    invalid,
    parameters,
    readable_flow,
)
from archiver.simulator.directory import NoSuchThing
from archiver.simulator.entities import Conversation, Flow, Message, Place, User
from archiver.simulator.sending import (
    checked_tags,
    checked_text,
    create,
    create_comment,
    sent,
    thread_of,
)
from archiver.simulator.world import CHAT, World

Finder = Callable[[web.Request], Place]


def add_routes(router: web.UrlDispatcher) -> None:
    """Serve the messages resources."""
    flow = "/flows/{organization}/{flow}"
    private = f"/private/{{user:{ID}}}"
    for base, find in ((flow, flow_of), (private, conversation_of)):
        one = f"{base}/messages/{{message:{ID}}}"
        router.add_get(base + "/messages", _listing(find))
        router.add_post(base + "/messages", _sending(find))
        router.add_get(one, _showing(find))
        router.add_put(one, _editing(find))
        router.add_patch(one, _editing(find))
        router.add_delete(one, _deleting(find))
        router.add_post(one + "/emoji_reaction", _reacting(find))
    router.add_post(f"{flow}/messages/{{message:{ID}}}/comments", _commenting)
    router.add_post(f"{flow}/messages/{{message:{ID}}}/rethread", _rethreading)
    router.add_get(flow + "/threads/{thread}/messages", _listing(flow_of))
    router.add_post(flow + "/threads/{thread}/messages", _sending(flow_of))


def flow_of(request: web.Request) -> Flow:
    """Return the flow that the address names, if the asker may read it."""
    return readable_flow(request, "{organization}/{flow}".format(**request.match_info))


def conversation_of(request: web.Request) -> Conversation:
    """Return the asker's conversation with the user that the address names."""
    directory = request.app[WORLD].directory
    other = directory.users.get(int(request.match_info["user"]))
    if other is None or other is asker(request):
        raise NoSuchThing(request.path)
    return directory.conversation(asker(request), other)


def _listing(find: Finder) -> Endpoint:
    @authenticated
    async def list_messages(request: web.Request) -> web.StreamResponse:
        place, world = find(request), request.app[WORLD]
        thread = thread_of(place, request.match_info.get("thread"))
        try:
            query = listing.parse(world, await parameters(request), thread=thread)
        except ValueError as wrong:
            raise invalid(**{str(wrong): "is invalid"}) from None
        page = listing.select(place, query, now=world.clock())
        return answer(b"[" + b",".join(map(wire.listed_message, page)) + b"]")

    return list_messages


def _sending(find: Finder) -> Endpoint:
    @authenticated
    async def send(request: web.Request) -> web.StreamResponse:
        given = await parameters(request)
        place = find(request)
        given.setdefault("thread_id", request.match_info.get("thread"))
        return sent(request, place, create(request.app[WORLD], place, asker(request), given))

    return send


def _showing(find: Finder) -> Endpoint:
    @authenticated
    async def show(request: web.Request) -> web.StreamResponse:
        return answer(wire.listed_message(_named(request, find(request))))

    return show


def _editing(find: Finder) -> Endpoint:
    @authenticated
    async def edit(request: web.Request) -> web.StreamResponse:
        given = await parameters(request)
        place, user, world = find(request), asker(request), request.app[WORLD]
        message = _named(request, place)
        tags = checked_tags(given["tags"]) if "tags" in given else None
        if "content" in given:
            if message.event not in CHAT or message.user != str(user.id):
                raise Refused(403, "only your own messages and comments can be edited")
            text = checked_text(given["content"])
            world.edit(place, message.id, text, user=user, tags=tags)
        elif tags is not None:
            _replace_tags(world, place, message, user, tags)
        return answer({})

    return edit


def _replace_tags(
    world: World, place: Place, message: Message, user: User, tags: list[str]
) -> None:
    wanted = {tag.casefold(): tag for tag in world.normalized(tags)}
    present = {tag.casefold() for tag in message.tags}
    add = [tag for folded, tag in wanted.items() if folded not in present]
    remove = [tag for tag in message.tags if tag.casefold() not in wanted]
    if add or remove:  # "sent when the tags of a message are changed" (docs/message-types)
        world.change_tags(place, message.id, add=add, remove=remove, user=user)


def _deleting(find: Finder) -> Endpoint:
    @authenticated
    async def delete(request: web.Request) -> web.StreamResponse:
        place, user = find(request), asker(request)
        message = _named(request, place)
        own = message.user == str(user.id)
        if message.app != "influx" and not (own and message.event in CHAT | {"file"}):
            raise Refused(403, "this message cannot be deleted")
        request.app[WORLD].delete(place, message.id, user=user)
        if message.event in CHAT:
            return answer({})
        return answer(b"", status=204)

    return delete


def _reacting(find: Finder) -> Endpoint:
    @authenticated
    async def react(request: web.Request) -> web.StreamResponse:
        given = await parameters(request)
        place = find(request)
        message, emoji = _named(request, place), given.get("emoji")
        if not isinstance(emoji, str) or not emoji:
            raise invalid(emoji="can't be blank")
        kind = str(given.get("type"))
        if kind not in {"add", "remove"}:
            raise invalid(type="is not included in the list")
        present = kind == "add"
        request.app[WORLD].react(place, message.id, asker(request), emoji, present=present)
        return answer({})

    return react


@authenticated
async def _commenting(request: web.Request) -> web.StreamResponse:
    given = await parameters(request)
    flow = flow_of(request)
    given["message"] = request.match_info["message"]
    return sent(request, flow, create_comment(request.app[WORLD], flow, asker(request), given))


@authenticated
async def _rethreading(request: web.Request) -> web.StreamResponse:
    given = await parameters(request)
    flow = flow_of(request)
    message = _named(request, flow)
    thread = thread_of(flow, given.get("thread_id"))
    if thread is None:
        raise invalid(thread_id="can't be blank")
    request.app[WORLD].rethread(flow, message.id, thread, user=asker(request))
    return answer({})


def _named(request: web.Request, place: Place) -> Message:
    return request.app[WORLD].find(place, int(request.match_info["message"]))
