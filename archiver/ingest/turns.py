"""Which account asks for which flow, where several of them can; no I/O.

What one account is told of a flow, the others would be told as well, so one suffices. The turn is
taken by whoever comes first, and kept as long as that account has the flow and is answered: when it
loses the flow, stops, or fails with a page, the next one has the turn.
"""

from collections.abc import Collection


class Turns:
    """The turns of the accounts of a process, by name, at flows, by flow key."""

    def __init__(self) -> None:
        self._flows: dict[str, Collection[int]] = {}
        self._turn: dict[int, str] = {}

    def holds(self, account: str, flow_keys: Collection[int]) -> None:
        """Note which flows an account can ask for, from now on."""
        self._flows[account] = flow_keys

    def leave(self, account: str) -> None:
        """Note that an account asks for nothing any more."""
        self._flows.pop(account, None)

    def is_of(self, account: str, flow_key: int) -> bool:
        """Tell whether it is the turn of *account*, which can ask for the flow."""
        holder = self._turn.get(flow_key)
        if holder is None or flow_key not in self._flows.get(holder, ()):
            self._turn[flow_key] = holder = account
        return holder == account

    def pass_on(self, account: str, flow_key: int) -> None:
        """Give the turn of *account* to the next that can ask for the flow, if there is one."""
        if self._turn.get(flow_key) != account:
            return
        able = sorted(name for name, keys in self._flows.items() if flow_key in keys)
        later = [name for name in able if name > account]
        self._turn[flow_key] = (later or able or [account])[0]
