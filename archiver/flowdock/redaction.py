"""What no archive should hold of a frame: the secrets of a flow.

Flow objects carry ``api_token``, with which anybody may post into the flow, and ``join_url``, with
which anybody may join it (flows documentation). Lists of flows are read field by field, and events
may hold a flow object as well, as `flow-change` does. So wherever a member of one of these names
comes in, its value is exchanged, before anything else is done with the frame. All other bytes stay
as they came. Text that speaks of such names is text: within a string their quotes are escaped.
"""

import json
import re

MASK = b'"***"'
_NAMES = (b'"api_token"', b'"join_url"')
_MEMBER = re.compile(rb'"(?:api_token|join_url)"\s*:\s*(?!null)')
_PARSE = json.JSONDecoder().raw_decode


def redact(frame: bytes) -> bytes:
    """Return *frame* with `MASK` in place of each secret; as it is when it holds none.

    Of a secret whose end cannot be told, since the frame is cut or no JSON, all that follows goes.
    """
    # Nearly all frames hold none, and this is asked of each.
    if _NAMES[0] not in frame and _NAMES[1] not in frame:
        return frame
    # Of what JSON is made of, nothing looks otherwise in Latin-1, in which a byte is a character.
    text = frame.decode("latin-1")
    kept, at = [], 0
    while member := _MEMBER.search(frame, at):
        kept += [frame[at : member.end()], MASK]
        try:
            _, at = _PARSE(text, member.end())
        except (ValueError, RecursionError):
            return b"".join(kept)
    return b"".join([*kept, frame[at:]])
