"""Which account requests which flow, where several of them can; no I/O.

All accounts would get the same answers about a flow, so one of them suffices. The first account
that asks takes the turn, and keeps it as long as it can read the flow and its requests succeed.
When it loses the flow, stops, or a request for a page fails, the turn passes to the next account.
"""

from collections.abc import Collection


class Turns:
    """Whose turn each flow is: the names of a process's accounts, by flow key."""

    def __init__(self) -> None:
        self._flows: dict[str, Collection[int]] = {}
        self._turn: dict[int, str] = {}

    def holds(self, account: str, flow_keys: Collection[int]) -> None:
        """Note which flows an account can request from now on."""
        self._flows[account] = flow_keys

    def leave(self, account: str) -> None:
        """Note that an account requests nothing any more."""
        self._flows.pop(account, None)

    def is_of(self, account: str, flow_key: int) -> bool:
        """Tell whether it is the turn of *account*, which can request the flow; take it if free."""
        holder = self._turn.get(flow_key)
        if holder is None or flow_key not in self._flows.get(holder, ()):
            self._turn[flow_key] = holder = account
        return holder == account

    def can_another(self, account: str, flow_key: int) -> bool:
        """Tell whether an account other than *account* can request the flow."""
        return any(flow_key in keys for name, keys in self._flows.items() if name != account)

    def pass_on(self, account: str, flow_key: int) -> None:
        """Give the turn of *account* to the next one that can request the flow, if any."""
        if self._turn.get(flow_key) != account:
            return
        able = sorted(name for name, keys in self._flows.items() if flow_key in keys)
        later = [name for name in able if name > account]
        self._turn[flow_key] = (later or able or [account])[0]
