"""Write what slack-export-viewer reads from a Slack export; run by a Python that has the viewer.

The arguments are the zip of the export, and a file to write. Into that go, as JSON, the messages of
each channel and conversation in the order in which they are shown, and all complaints of the
viewer.
"""

import json
import logging
import sys
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

from slackviewer.config import Config  # type: ignore[import-not-found]
from slackviewer.reader import Reader  # type: ignore[import-not-found]


def read(export: str) -> dict[str, Any]:
    """All that the viewer reads from an export."""
    complaints = BufferingHandler(capacity=1_000_000)
    complaints.setLevel(logging.WARNING)
    logging.getLogger().addHandler(complaints)
    reader = Reader(Config({"archive": export, "thread_note": False}))
    talks = reader.compile_channels() | reader.compile_dm_messages()
    told = {name: list(map(plain, messages)) for name, messages in talks.items()}
    members = {
        one["id"]: sorted(user.display_name for user in one["users"])
        for one in reader.compile_dm_users()
    }
    return {
        "talks": told,
        "members": members,
        "complaints": [one.getMessage() for one in complaints.buffer],
    }


def plain(message: Any) -> dict[str, Any]:
    """A message as the viewer shows it."""
    return {
        "id": int(message._message["client_msg_id"].removeprefix("flowdock-")),
        "sender": message.username,
        "time": message.time,
        "text": message._message["text"],
        "shown": message.msg,
        "is_reply": message.is_thread_msg,
        "reactions": {one["name"]: sorted(one["usernames"]) for one in message.reactions},
        "files": [file["name"] for file in message.files],
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(read(sys.argv[1])))
