"""All organizations, users, flows and conversations, and who may see what."""

from collections.abc import Mapping
from random import Random

from archiver.simulator.entities import Conversation, Flow, Organization, Timeline, User


class NoSuchThing(LookupError):
    """What was asked for does not exist, or the asker may not even know of it."""


class Directory:
    """All organizations with their users and flows, found by id, by address, by secret."""

    def __init__(self, chance: Random) -> None:
        self.organizations: dict[str, Organization] = {}
        self.users: dict[int, User] = {}
        self.flows: dict[str, Flow] = {}
        self.conversations: dict[tuple[int, int], Conversation] = {}
        self._by_path: dict[str, Flow] = {}
        self._by_secret: dict[str, User] = {}
        self._nicks: dict[str, int] | None = None
        self._chance = chance

    def add_organization(self, slug: str, name: str) -> Organization:
        """Add an organization."""
        organization = Organization(id=len(self.organizations) + 8, slug=slug, name=name)
        self.organizations[slug] = organization
        return organization

    def add_user(
        self,
        organization: Organization,
        *,
        nick: str,
        name: str,
        token: str | None = None,
        admin: bool = False,
    ) -> User:
        """Add an account to *organization*; its secrets are drawn unless *token* is given."""
        user = User(
            id=len(self.users) + 1,
            nick=nick,
            name=name,
            email=f"{nick.lower()}@{organization.slug}.example",
            password=f"password-of-{nick}",
            token=token or self._hex(32),
            access_token=self._hex(64),
            admin=admin,
        )
        self.users[user.id] = organization.users[user.id] = user
        self.forget_nicks()
        self._by_secret |= {user.token: user, user.access_token: user}
        return user

    def add_flow(
        self, organization: Organization, *, slug: str, name: str, access_mode: str = "invitation"
    ) -> Flow:
        """Add an empty flow that nobody has joined."""
        digits = self._hex(32)
        flow = Flow(
            id=f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}",
            organization=organization,
            slug=slug,
            name=name,
            access_mode=access_mode,
            api_token=self._hex(32),
            invitation=self._hex(40),
        )
        self.flows[flow.id] = self._by_path[flow.path] = flow
        return flow

    def move_flow(self, flow: Flow, slug: str) -> None:
        """Give *flow* another address; the old one becomes free."""
        del self._by_path[flow.path]
        flow.slug = slug
        self._by_path[flow.path] = flow

    def flow(self, name: str) -> Flow:
        """Return the flow that an ``org/flow`` or an id names; raise `NoSuchThing`."""
        flow = self.flows.get(name) or self._by_path.get(name)
        if flow is None:
            raise NoSuchThing(name)
        return flow

    def flow_with_token(self, api_token: str) -> Flow | None:
        """Return the flow to which an integration's token belongs."""
        found = (flow for flow in self.flows.values() if flow.api_token == api_token)
        return next(found, None)

    def flows_of(self, user: User) -> list[Flow]:
        """Return the flows that *user* joined and that are not disabled."""
        flows = self.flows.values()
        return [flow for flow in flows if user.id in flow.members and not flow.disabled]

    def flows_open_to(self, user: User) -> list[Flow]:
        """Return the flows that *user* joined or may join (docs/flows, "List all flows")."""
        return [
            flow
            for flow in self.flows.values()
            if not flow.disabled and (user.id in flow.members or self._may_join(flow, user))
        ]

    def is_visible(self, flow: Flow, user: User) -> bool:
        """Tell whether *user* may know of *flow*; to others, it does not seem to exist."""
        return not flow.disabled and (user.id in flow.members or self._may_join(flow, user))

    def user_of_secret(self, secret: str) -> User | None:
        """Return the user whose API token or OAuth access token *secret* is."""
        return self._by_secret.get(secret)

    def user_of_login(self, email: str, password: str) -> User | None:
        """Return the user with this e-mail address and password."""
        folded = email.casefold()
        for user in self.users.values():
            if user.email.casefold() == folded:
                return user if user.password == password else None
        return None

    def ids_by_nick(self) -> Mapping[str, int]:
        """Return the ids of all who can be mentioned, by case-folded nick."""
        # The service ignored mentions of disabled users.
        if self._nicks is None:
            active = (user for user in self.users.values() if not user.disabled)
            self._nicks = {user.nick.casefold(): user.id for user in active}
        return self._nicks

    def forget_nicks(self) -> None:
        """Drop the cached nicks, since a user was added, disabled or renamed."""
        self._nicks = None

    def conversation(self, one: User, other: User) -> Conversation:
        """Return the conversation of both users; it is created when first requested."""
        low, high = sorted((one, other), key=lambda user: user.id)
        key = (low.id, high.id)
        if key not in self.conversations:
            self.conversations[key] = Conversation(users=(low, high), timeline=Timeline())
        return self.conversations[key]

    def conversations_of(self, user: User) -> list[Conversation]:
        """Return the conversations that *user* takes part in."""
        return [talk for talk in self.conversations.values() if user in talk.users]

    @staticmethod
    def _may_join(flow: Flow, user: User) -> bool:
        return flow.access_mode == "organization" and user.id in flow.organization.users

    def _hex(self, digits: int) -> str:
        return f"{self._chance.getrandbits(digits * 4):0{digits}x}"
