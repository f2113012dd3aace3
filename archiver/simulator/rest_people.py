"""Users, organizations and private conversations."""

from aiohttp import web

from archiver.simulator import membership, wire
from archiver.simulator.access import (
    ID,
    WORLD,
    Refused,
    answer,
    asker,
    authenticated,
    invalid,
    organization_of,
    parameters,
    text_of,
    truth_of,
)
from archiver.simulator.directory import NoSuchThing
from archiver.simulator.entities import Organization, User
from archiver.simulator.rest_messages import conversation_of, flow_of


def add_routes(router: web.UrlDispatcher) -> None:
    """Serve users, organizations and private conversations."""
    router.add_get("/user", show_me)
    router.add_get("/users", list_users)
    router.add_get(f"/users/{{user:{ID}}}", show_user)
    router.add_put(f"/users/{{user:{ID}}}", update_user)
    router.add_patch(f"/users/{{user:{ID}}}", update_user)
    router.add_get("/organizations", list_organizations)
    router.add_get("/organizations/find", find_organization)
    router.add_get("/organizations/{organization}", show_organization)
    router.add_get("/organizations/{organization}/users", list_organization_users)
    router.add_get("/flows/{organization}/{flow}/users", list_flow_users)
    router.add_post("/flows/{organization}/{flow}/users", add_flow_user)
    router.add_get("/private", list_conversations)
    router.add_get(f"/private/{{user:{ID}}}", show_conversation)
    router.add_put(f"/private/{{user:{ID}}}", update_conversation)
    router.add_patch(f"/private/{{user:{ID}}}", update_conversation)


@authenticated
async def show_me(request: web.Request) -> web.StreamResponse:
    """Answer with the asker."""
    return answer(wire.user_object(asker(request)))


@authenticated
async def list_users(request: web.Request) -> web.StreamResponse:
    """Answer with all users of the asker's organizations."""
    found = {user.id: user for each in _own(request) for user in each.users.values()}
    return answer([wire.user_object(user) for user in found.values() if not user.disabled])


@authenticated
async def show_user(request: web.Request) -> web.StreamResponse:
    """Answer with one user."""
    return answer(wire.user_object(_user(request)))


@authenticated
async def update_user(request: web.Request) -> web.StreamResponse:
    """Change the asker's own profile."""
    user = _user(request)
    if user is not asker(request):
        raise Refused(403, "only your own profile can be changed")
    given = await parameters(request)
    told = {name: text_of(given, name) for name in ("nick", "email", "name")}
    changes = {name: value for name, value in told.items() if value}
    membership.change_user(request.app[WORLD], user, **changes)
    return answer(wire.user_object(user))


@authenticated
async def list_organizations(request: web.Request) -> web.StreamResponse:
    """Answer with the asker's organizations."""
    return answer([wire.organization_in_full(each) for each in _own(request)])


@authenticated
async def find_organization(request: web.Request) -> web.StreamResponse:
    """Answer with the organization of an id."""
    wanted = str((await parameters(request)).get("id"))
    for organization in _own(request):
        if str(organization.id) == wanted:
            return answer(wire.organization_in_full(organization))
    raise NoSuchThing(wanted)


@authenticated
async def show_organization(request: web.Request) -> web.StreamResponse:
    """Answer with one organization."""
    return answer(wire.organization_in_full(organization_of(request)))


@authenticated
async def list_organization_users(request: web.Request) -> web.StreamResponse:
    """Answer with the users of one organization."""
    users = organization_of(request).users.values()
    return answer([wire.user_object(user) | {"admin": user.admin} for user in users])


@authenticated
async def list_flow_users(request: web.Request) -> web.StreamResponse:
    """Answer with the users of one flow."""
    flow = flow_of(request)
    people = flow.organization.users.values()
    return answer([wire.member_object(user, flow) for user in people if user.id in flow.members])


@authenticated
async def add_flow_user(request: web.Request) -> web.StreamResponse:
    """Add a user of the organization to a flow."""
    flow = flow_of(request)
    named = str((await parameters(request)).get("id", ""))
    people = flow.organization.users.values()
    user = next((each for each in people if str(each.id) == named), None)
    if user is None:
        raise invalid(id="is not a user of the organization")
    if user.id not in flow.members:
        membership.add(request.app[WORLD], flow, user, asker(request))
    return answer({})


@authenticated
async def list_conversations(request: web.Request) -> web.StreamResponse:
    """Answer with the private conversations of the asker."""
    me = asker(request)
    talks = request.app[WORLD].directory.conversations_of(me)
    return answer([wire.conversation_object(talk, me) for talk in talks])


@authenticated
async def show_conversation(request: web.Request) -> web.StreamResponse:
    """Answer with one private conversation."""
    return answer(wire.conversation_object(conversation_of(request), asker(request)))


@authenticated
async def update_conversation(request: web.Request) -> web.StreamResponse:
    """Open or close one private conversation."""
    talk, me = conversation_of(request), asker(request)
    given = await parameters(request)
    if "open" in given:
        if truth_of(given, "open"):
            talk.closed_by.discard(me.id)
        else:
            talk.closed_by.add(me.id)
    return answer(wire.conversation_object(talk, me))


def _own(request: web.Request) -> list[Organization]:
    organizations = request.app[WORLD].directory.organizations.values()
    return [each for each in organizations if asker(request).id in each.users]


def _user(request: web.Request) -> User:
    named = int(request.match_info["user"])
    for organization in _own(request):
        if named in organization.users:
            return organization.users[named]
    raise NoSuchThing(str(named))
