"""Who makes a request, and with which parameters; the form of answers and of refusals."""

import json
import math
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from archiver.simulator import wire
from archiver.simulator.directory import Directory, NoSuchThing
from archiver.simulator.entities import Flow, Organization, User
from archiver.simulator.world import World

WORLD = web.AppKey("world", World)

MAX_HEAD_BYTES = 8192
"""A request whose head is longer is answered with 400."""

ID = "[0-9]{1,19}"
"""A pattern of ids in addresses; a longer number is no id."""

MAX_DEPTH = 100
"""How deep the JSON of a request may nest."""

FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """A request answered with an error; *errors* names the wrong parameters."""

    def __init__(
        self, status: int, message: str, errors: Mapping[str, list[str]] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"message": message}
        if errors is not None:
            self.body["errors"] = errors


def invalid(**errors: str) -> Refused:
    """Return the refusal (400) of wrong parameters, with what is wrong with each."""
    named = {name: [problem] for name, problem in errors.items()}
    return Refused(400, "Validation error", named)


def answer(
    body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return *body* (a value, or JSON that is encoded already) as an answer of the API."""
    encoded = body if isinstance(body, bytes) else wire.encode(body)
    return web.Response(
        body=encoded, status=status, headers=headers,
        content_type="application/json", charset="utf-8",
    )  # fmt: skip


@web.middleware
async def limit_head(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    """Refuse, as the service did, a request whose head is over 8 KiB."""
    line = len(request.method) + len(request.raw_path.encode()) + len("  HTTP/1.1\r\n")
    lines = sum(len(name) + len(value) + len(": \r\n") for name, value in request.raw_headers)
    if line + lines + len("\r\n") > MAX_HEAD_BYTES:
        return web.Response(status=400, text="<html><h1>400 Bad Request</h1></html>",
                            content_type="text/html")  # fmt: skip
    return await handler(request)


@web.middleware
async def speak_json(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    """Turn refusals into answers of the API, and name the asker in ``Flowdock-User``."""
    response = await _answered(request, handler)
    user = user_of(request, request.app[WORLD].directory)
    if user is not None and not response.prepared:
        response.headers["Flowdock-User"] = str(user.id)
    return response


async def _answered(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refusal:
        headers = {"WWW-Authenticate": 'Basic realm="Flowdock"'} if refusal.status == 401 else None
        return answer(refusal.body, status=refusal.status, headers=headers)
    except NoSuchThing:
        return answer({"message": "not found"}, status=404)
    except web.HTTPException as refusal:
        headers = {"Allow": allowed} if (allowed := refusal.headers.get("Allow")) else None
        message = refusal.reason.lower()
        return answer({"message": message}, status=refusal.status, headers=headers)


def authenticated(endpoint: Endpoint) -> Endpoint:
    """Make *endpoint* refuse requests without a user's credentials."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        asker(request)
        return await endpoint(request)

    return guarded


def asker(request: web.Request) -> User:
    """Return the user whose credentials a request carries; refuse it (401) if they are nobody's."""
    user = user_of(request, request.app[WORLD].directory)
    if user is None:
        raise Refused(401, "unauthorized")
    return user


def user_of(request: web.Request, directory: Directory) -> User | None:
    """Return the user whose credentials a request carries; None if there is none, or disabled.

    Credentials are a token as the Basic user name (whatever the password), e-mail address and
    password, a Bearer token, or ``access_token`` in the address.
    """
    user = _holder(request, directory)
    return None if user is None or user.disabled else user


def _holder(request: web.Request, directory: Directory) -> User | None:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return directory.user_of_secret(credentials.strip())
    if scheme.lower() == "basic":
        try:
            name, _, password = b64decode(credentials, validate=True).decode().partition(":")
        except ValueError:
            return None
        return directory.user_of_secret(name) or directory.user_of_login(name, password)
    return directory.user_of_secret(request.query.get("access_token", ""))


def organization_of(request: web.Request) -> Organization:
    """Return the organization that the address names, if the asker belongs to it."""
    slug = request.match_info["organization"]
    organization = request.app[WORLD].directory.organizations.get(slug)
    if organization is None or asker(request).id not in organization.users:
        raise NoSuchThing(slug)
    return organization


def readable_flow(request: web.Request, name: str) -> Flow:
    """Return a flow that the asker has joined; refuse others with 403, or 404 if it is hidden."""
    directory = request.app[WORLD].directory
    flow = visible_flow(request, name)
    if asker(request).id not in flow.members:
        raise Refused(403, f"no access to {name}")
    return directory.flow(name)


def visible_flow(request: web.Request, name: str) -> Flow:
    """Return a flow that the asker may know of; raise `NoSuchThing`."""
    directory = request.app[WORLD].directory
    flow = directory.flow(name)
    if not directory.is_visible(flow, asker(request)):
        raise NoSuchThing(name)
    return flow


async def parameters(request: web.Request) -> dict[str, Any]:
    """Return the parameters of a request: of its address and of its body, JSON or a form."""
    given: dict[str, Any] = dict(request.query)
    if not request.body_exists:
        return given
    try:
        return given | await _body(request)
    # Including all errors that a wrong charset, encoding or boundary causes.
    except (ValueError, LookupError, RuntimeError, web.RequestPayloadError):
        raise Refused(400, "malformed body") from None


async def _body(request: web.Request) -> dict[str, Any]:
    if request.content_type in FORMS:
        return dict(await request.post())
    if request.content_type != "application/json":  # it "must be defined" (docs/rest, "Headers")
        raise Refused(400, "Content-Type must be application/json or that of a form")
    body = json.loads(await request.read() or b"{}")
    if not isinstance(body, dict):
        raise Refused(400, "a JSON object is expected")
    _check(body, levels=MAX_DEPTH)
    return {name: value for name, value in body.items() if value is not None}


def _check(value: object, *, levels: int) -> None:
    """Raise ValueError for what could not be answered as JSON: too deep, or an infinite number."""
    if not levels or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, levels=levels - 1)


def text_of(given: Mapping[str, Any], name: str) -> str:
    """Return a parameter that is text, or a number; "" when absent; refuse anything else."""
    value = given.get(name, "")
    if type(value) not in {str, int, float}:
        raise invalid(**{name: "is invalid"})
    return str(value)


def truth_of(given: Mapping[str, Any], name: str) -> bool:
    """Return a boolean parameter; refuse anything else."""
    if str(given[name]).lower() not in {"1", "true", "0", "false"}:
        raise invalid(**{name: "is invalid"})
    return is_true(given[name])


def is_true(value: object) -> bool:
    """Tell whether a boolean parameter is true, as JSON or as text."""
    return str(value).lower() in {"1", "true"}
