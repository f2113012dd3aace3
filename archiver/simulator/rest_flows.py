"""Flows: list, all, get, find, create, update; and messages sent without a flow's address."""

from typing import Any

from aiohttp import web

from archiver.simulator import membership, wire
from archiver.simulator.access import (
    WORLD,
    Refused,
    answer,
    asker,
    authenticated,
    invalid,
    is_true,
    organization_of,
    parameters,
    readable_flow,
    text_of,
    truth_of,
    visible_flow,
)
from archiver.simulator.directory import NoSuchThing
from archiver.simulator.entities import Flow
from archiver.simulator.integrations import integrate
from archiver.simulator.sending import create, create_comment, sent

MAX_NAME = 100
ACCESS_MODES = frozenset({"invitation", "link", "organization"})


def add_routes(router: web.UrlDispatcher) -> None:
    """Serve ``POST /messages`` and ``/comments``, and flows at addresses that no stream shares."""
    router.add_get("/flows/all", list_flows)
    router.add_get("/flows/find", find_flow)
    router.add_get("/flows/{organization}", list_flows)
    router.add_post("/flows/{organization}", create_flow)
    router.add_put("/flows/{organization}/{flow}", update_flow)
    router.add_patch("/flows/{organization}/{flow}", update_flow)
    router.add_post("/messages", send_anywhere)
    router.add_post("/messages/{api_token}", send_anywhere)
    router.add_post("/comments", comment_anywhere)


@authenticated
async def list_flows(request: web.Request) -> web.StreamResponse:
    """Answer with the flows that the asker has joined; at ``/flows/all``, or may join.

    With an organization in the address, only its flows are listed (docs/rest).
    """
    given, user = await parameters(request), asker(request)
    directory = request.app[WORLD].directory
    everything = request.path == "/flows/all"
    flows = directory.flows_open_to(user) if everything else directory.flows_of(user)
    if "organization" in request.match_info:
        organization = organization_of(request)
        flows = [flow for flow in flows if flow.organization is organization]
    users = is_true(given.get("users"))
    return answer([wire.flow_object(flow, user, users=users) for flow in flows])


@authenticated
async def find_flow(request: web.Request) -> web.StreamResponse:
    """Answer with the flow of an id."""
    flow = visible_flow(request, str((await parameters(request)).get("id")))
    return answer(wire.flow_object(flow, asker(request), users=True))


@authenticated
async def get_flow(request: web.Request) -> web.StreamResponse:
    """Answer with the flow of an address."""
    flow = visible_flow(request, "{organization}/{flow}".format(**request.match_info))
    return answer(wire.flow_object(flow, asker(request), users=True))


@authenticated
async def create_flow(request: web.Request) -> web.StreamResponse:
    """Create a flow whose only member is the asker."""
    world, user = request.app[WORLD], asker(request)
    organization = organization_of(request)
    name = _name(await parameters(request))
    flow = membership.found(world, organization, name, user)
    return answer(wire.flow_object(flow, user, users=True), status=201)


@authenticated
async def update_flow(request: web.Request) -> web.StreamResponse:
    """Change a flow; ``open`` joins it, the rest is for administrators."""
    given, user = await parameters(request), asker(request)
    world = request.app[WORLD]
    flow = world.directory.flow("{organization}/{flow}".format(**request.match_info))
    if not (world.directory.is_visible(flow, user) or (flow.disabled and user.admin)):
        raise NoSuchThing(flow.path)
    changes: dict[str, Any] = {}
    if "name" in given:
        changes["name"] = _name(given)
    if "disabled" in given:
        changes["disabled"] = truth_of(given, "disabled")
    if "access_mode" in given:
        changes["access_mode"] = str(given["access_mode"])
        if changes["access_mode"] not in ACCESS_MODES:
            raise invalid(access_mode="is not included in the list")
    if changes and not user.admin:
        raise Refused(403, "only administrators may change a flow")
    is_open = truth_of(given, "open") if "open" in given else None
    if is_open and user.id not in flow.members and changes.get("disabled", flow.disabled):
        raise Refused(403, "nobody can join a disabled flow")
    if is_open is not None:
        membership.set_open(world, flow, user, is_open=is_open)
    if changes:
        membership.change(world, flow, user, **changes)
    return answer(wire.flow_object(flow, user, users=False))


async def send_anywhere(request: web.Request) -> web.StreamResponse:
    """Send to the flow that the parameters name; with ``flow_token``, as an integration does."""
    given = await parameters(request)
    token = given.get("flow_token") or request.match_info.get("api_token")
    if token is None:
        return await _send_as_user(request)
    world = request.app[WORLD]
    flow = world.directory.flow_with_token(str(token))
    if flow is None:
        raise Refused(401, "unauthorized")
    message = integrate(world, flow, given)
    if "X-flowdock-wait-for-message" in request.headers:
        return answer(wire.listed_message(message), status=201)
    return answer({}, status=202)


@authenticated
async def _send_as_user(request: web.Request) -> web.StreamResponse:
    given = await parameters(request)
    flow = _named_flow(request, given)
    return sent(request, flow, create(request.app[WORLD], flow, asker(request), given))


@authenticated
async def comment_anywhere(request: web.Request) -> web.StreamResponse:
    """Comment on the message that the parameters name."""
    given = await parameters(request)
    flow = _named_flow(request, given)
    return sent(request, flow, create_comment(request.app[WORLD], flow, asker(request), given))


def _named_flow(request: web.Request, given: dict[str, Any]) -> Flow:
    if not given.get("flow"):
        raise invalid(flow="can't be blank")
    return readable_flow(request, str(given["flow"]))


def _name(given: dict[str, Any]) -> str:
    name = text_of(given, "name").strip()
    if not name:
        raise invalid(name="can't be blank")
    if len(name) > MAX_NAME:
        raise invalid(name=f"is too long (maximum is {MAX_NAME} characters)")
    return name
