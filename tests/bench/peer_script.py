"""A peer: the script that people write, with requests and one INSERT ... ON CONFLICT an event.

``python -m tests.bench.peer_script STREAM_URL DATABASE_URL EVENTS`` reads so many events from the
stream, keeps each, applies edits and changes of tags to the message, and commits event by event.
"""

import json
import sys
from time import monotonic
from typing import Any

import psycopg
import requests

TABLES = """
    CREATE TABLE events (flow text, id bigint, payload json, PRIMARY KEY (flow, id));
    CREATE TABLE messages (flow text, id bigint, event text, user_id text, sent bigint,
                           content text, tags text[], PRIMARY KEY (flow, id));
"""
KEEP = "INSERT INTO events VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
POST = """
    INSERT INTO messages VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (flow, id) DO UPDATE SET content = excluded.content, tags = excluded.tags
"""
EDIT = "UPDATE messages SET content = %s WHERE flow = %s AND id = %s"
TAG = """
    UPDATE messages SET tags = ARRAY(
        SELECT unnest(tags) EXCEPT SELECT unnest(%s::text[]) UNION SELECT unnest(%s::text[]))
    WHERE flow = %s AND id = %s
"""


def apply(connection: psycopg.Connection, event: dict[str, Any], frame: str) -> None:
    """Keep one event, and what it makes of its message."""
    flow, content = event["flow"], event["content"]
    connection.execute(KEEP, [flow, event["id"], frame])
    match event["event"]:
        case "message-edit":
            connection.execute(EDIT, [content["updated_content"], flow, content["message"]])
        case "tag-change":
            changed = [content["remove"], content["add"], flow, content["message"]]
            connection.execute(TAG, changed)
        case kind:
            text = content if isinstance(content, str) else content["text"]
            key = [flow, event["id"], kind, event["user"], event["sent"]]
            connection.execute(POST, [*key, text, event["tags"]])
    connection.commit()


def main(stream_url: str, database_url: str, events: int) -> float:
    """Archive so many events; returns how many seconds that took, from the first of them on."""
    began, done = 0.0, 0
    with (
        psycopg.connect(database_url) as connection,
        requests.get(stream_url, stream=True, timeout=60) as answer,
    ):
        connection.execute(TABLES)
        for line in answer.iter_lines(chunk_size=65536):
            if line.startswith(b"data: "):
                began = began or monotonic()
                apply(connection, json.loads(line[6:]), line[6:].decode())
                done += 1
                if done == events:
                    break
    return monotonic() - began


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
