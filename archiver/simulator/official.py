"""The official export of a world: for each flow, a zip with ``messages.json`` and the files.

The JSON is one array, ascending by id, with a message on each line. Messages have fewer fields than
in a listing (neither ``created_at`` nor names). The threads in them have no usable times; in the
service's own exports, the counters of threads may be out of date as well. Private conversations are
left out.
"""

import zipfile
from pathlib import Path

from archiver.simulator import wire
from archiver.simulator.entities import Flow, Json, Message
from archiver.simulator.world import World

PACKED_AT = (2023, 7, 31, 12, 0, 0)


def write_exports(world: World, to: Path) -> list[Path]:
    """Write an export of each flow, and ``users.json``, into *to*; returns what was written."""
    to.mkdir(parents=True, exist_ok=True)
    written = [to / "users.json"]
    people = [wire.user_object(user) for user in world.users]
    written[0].write_bytes(wire.encode(people))
    for flow in world.flows:
        written.append(to / f"{flow.organization.slug}-{flow.slug}.zip")
        with zipfile.ZipFile(written[-1], "w", zipfile.ZIP_DEFLATED) as packed:
            _write_messages(packed, flow)
            for message in flow.timeline:
                for file in message.attachments:
                    _, content = world.files.get(file["path"], ("", b""))
                    name = f"files/{message.id}-{file['file_name']}".replace("\x00", "")
                    packed.writestr(zipfile.ZipInfo(name, PACKED_AT), content)
    return written


def exported_message(message: Message) -> Json:
    """Return a message as an export shows it."""
    body: Json = {
        "user": message.user,
        "content": message.content,
        "event": message.event,
        "edited": message.edited,
        "emojiReactions": message.reactions,
        "tags": message.tags,
        "id": message.id,
        "sent": message.sent,
        "attachments": message.attachments,
        "uuid": message.uuid,
    }
    if message.external_user_name is not None:
        body["external_user_name"] = message.external_user_name
    if message.thread is not None:
        body["thread_id"] = message.thread.id
    body["app"] = message.app
    if message.thread is not None:
        body["thread"] = wire.thread_object(message.thread) | {
            "created_at": None,
            "updated_at": "1970-01-01T00:00:02.020Z",
        }
        del body["thread"]["flow"]
    return body | message.extra | {"flow": message.flow}


def _write_messages(packed: zipfile.ZipFile, flow: Flow) -> None:
    entry = zipfile.ZipInfo("messages.json", PACKED_AT)
    entry.compress_type = zipfile.ZIP_DEFLATED
    with packed.open(entry, "w", force_zip64=True) as sink:
        sink.write(b"[")
        between = b"\n    "
        for message in flow.timeline:
            sink.write(between + wire.encode(exported_message(message)))
            between = b",\n    "
        sink.write(b"\n]\n")
