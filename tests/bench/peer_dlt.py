"""A peer: dlt, which loads what it is given and merges it by primary keys.

``python -m tests.bench.peer_dlt STREAM_URL DATABASE_URL EVENTS DIRECTORY`` reads so many events
from the stream and loads them in one go. It has no way to apply a change to a row that is there, so
edits and changes of tags are applied here, to the messages of the same load.
"""

import json
import os
import sys
from collections.abc import Iterator
from itertools import islice
from time import monotonic
from typing import Any

import dlt
import requests
from psycopg.conninfo import conninfo_to_dict

Row = dict[str, Any]


def received(stream_url: str) -> Iterator[Row]:
    """The events of the stream."""
    with requests.get(stream_url, stream=True, timeout=60) as answer:
        for line in answer.iter_lines(chunk_size=65536):
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def folded(events: list[Row]) -> list[Row]:
    """The messages that *events* make."""
    messages: dict[tuple[str, int], Row] = {}
    for event in events:
        flow, content = event["flow"], event["content"]
        match event["event"]:
            case "message-edit":
                messages[flow, content["message"]]["content"] = content["updated_content"]
            case "tag-change":
                message = messages[flow, content["message"]]
                kept = set(json.loads(message["tags"])) - set(content["remove"])
                message["tags"] = json.dumps(sorted(kept | set(content["add"])))
            case kind:
                text = content if isinstance(content, str) else content["text"]
                messages[flow, event["id"]] = {
                    "flow": flow,
                    "id": event["id"],
                    "event": kind,
                    "user_id": event["user"],
                    "sent": event["sent"],
                    "content": text,
                    "tags": json.dumps(event["tags"]),
                }
    return list(messages.values())


def credentials(database_url: str) -> Row:
    """What dlt asks of a URL; it must have a host and a password, though the socket needs none."""
    given = conninfo_to_dict(database_url)
    return {
        "database": given["dbname"],
        "username": given["user"],
        "password": given.get("password") or "none",
        "host": "localhost",
        "query": {"host": given["host"]},  # libpq takes this one, which may be a socket's path
        "port": int(given.get("port") or 5432),
    }


def main(stream_url: str, database_url: str, count: int, directory: str) -> float:
    """Load so many events; returns how many seconds that took, from the first of them on."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    stream = received(stream_url)
    first = next(stream)
    began = monotonic()
    events = [first, *islice(stream, count - 1)]
    journal = [{"flow": one["flow"], "id": one["id"], "payload": json.dumps(one)} for one in events]
    pipeline = dlt.pipeline(
        "peer",
        destination=dlt.destinations.postgres(credentials(database_url)),
        dataset_name="peer",
        pipelines_dir=directory,
    )
    merged = {"write_disposition": "merge", "primary_key": ["flow", "id"]}
    pipeline.run(
        [
            dlt.resource(journal, name="events", **merged),
            dlt.resource(folded(events), name="messages", **merged),
        ]
    )
    return monotonic() - began


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
