"""Read a Slack export with a program for Slack's own exports: slack-export-viewer.

``./run slackreader`` makes an archive with ordinary chat, with malicious texts, with flows whose
names clash and people whom nobody listed. It exports the archive for Slack, and lets
slack-export-viewer, in an environment of its own, read the export. In each channel, the viewer must
find the messages, senders, times, threads, reactions and files that the archive has, and no markup
from messages may come through. It must also be able to make its HTML pages.

The viewer comes from PyPI. It is in no environment of this project, since it requires releases of
Flask and Werkzeug that are known to be vulnerable; here it serves nothing.
"""

import argparse
import html
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from archiver.domain.model import Flow, FlowId
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store import directory
from archiver.store.engine import transaction
from tests.export.conftest import exporter
from tests.export.sample import archive
from tests.ingest.arriving import NOW, frame, query, running, streamed

VIEWER = "slack-export-viewer==3.5.0"
UV = Path(sys.executable).with_name("uv")
NOT_INSTALLED = 3
"""The exit status when the viewer could not be installed."""

TRUTH = """
    SELECT m.flow, m.id, coalesce(u.nick, u.name, 'user ' || nullif(m.user_id, '0'), 'slackbot'),
           to_char(m.sent AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), coalesce(m.content, ''),
           m.thread_id,
           (SELECT coalesce(jsonb_object_agg(emoji, people), '{}')
            FROM (SELECT r.key AS emoji, jsonb_agg(coalesce(w.nick, w.name, 'user ' || who)
                                                   ORDER BY coalesce(w.nick, w.name)) AS people
                  FROM jsonb_each(m.reactions) AS r
                  CROSS JOIN jsonb_array_elements_text(r.value) AS who
                  LEFT JOIN archive.users AS w ON w.user_id = who GROUP BY 1) AS each_of_them),
           (SELECT coalesce(jsonb_agg(a ->> 'file_name'), '[]')
            FROM jsonb_array_elements(m.attachments) AS a)
    FROM archive.messages AS m LEFT JOIN archive.users AS u USING (user_id)
    WHERE m.deleted_at IS NULL AND m.sent IS NOT NULL
    ORDER BY m.flow, m.id
"""
MARKUP = re.compile(r"<(script|img|svg|iframe|style)|javascript:", re.IGNORECASE)


def main() -> int:
    """Let the viewer read the export; returns 1 if anything is wrong."""
    parser = argparse.ArgumentParser(
        prog="./run slackreader",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--messages", type=int, default=2000, help="of ordinary chat")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="archiver-slackreader-") as path:
        home = Path(path)
        had = viewing(home, "slack-export-viewer", "--help")
        if had.returncode != 0:
            print(f"{VIEWER} could not be had:\n{had.stderr}", file=sys.stderr)
            return NOT_INSTALLED
        with archive(home, messages=options.messages) as url:
            add_what_clashes(url)
            flows = [flow for (flow,) in query(url, "SELECT flow FROM archive.flows ORDER BY 1")]
            exporter(url)(home / "slack.zip", "slack", flows=flows)
            truth = query(url, TRUTH)
        findings = list(compare(home, truth))
    for finding in findings:
        print(f"FAILED  {finding}")
    print(f"{len(truth):,} messages, {len(findings)} findings")
    return 1 if findings else 0


def add_what_clashes(url: str) -> None:
    """Add flows whose names clash in an export, and a message of a person whom nobody listed."""
    paths = ["a/main", "z/main-2", "private/1/203", "private/102/3"]
    flows = [Flow(id=FlowId(path.replace("/", "-")), path=path) for path in paths]

    async def add() -> None:
        async with transaction(engine) as tx:
            keys = await directory.see_flows(tx, flows, now=NOW)
        said = [
            streamed(frame(1, flow=flow.id, user="77", content=f"in {flow.path}"), keys[flow.id])
            for flow in flows
        ]
        await apply(engine, Batch(now=NOW, arrivals=said))

    with running(url) as (run, engine):
        run(add())


def viewing(home: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in an environment that has the viewer."""
    step = [UV, "run", "--no-project", "--isolated", "--with", VIEWER, *command]
    # TMPDIR: what the viewer unpacks must be removed with the rest. TZ: it shows local times.
    environment = os.environ | {"TMPDIR": str(home), "TZ": "UTC"}
    return subprocess.run(
        step, cwd=home, env=environment, capture_output=True, text=True, check=False
    )


def compare(home: Path, truth: Sequence[tuple[Any, ...]]) -> Iterator[str]:
    """Yield how the viewer's reading of the export differs from the archive."""
    export, answer = home / "slack.zip", home / "read.json"
    done = viewing(home, "python", Path(__file__).with_name("reading.py"), export, answer)
    if done.returncode != 0:
        yield f"it cannot be read: {done.stderr}"
        return
    read = json.loads(answer.read_text())
    yield from (f"the viewer says: {complaint}" for complaint in read["complaints"])
    by_flow = defaultdict(list)
    for row in truth:
        by_flow[row[0]].append(row[1:])
    channels = channels_in(export)
    if sorted(channels) != sorted(by_flow):
        yield f"its channels are of {sorted(channels)}, not of {sorted(by_flow)}"
    for flow, rows in by_flow.items():
        shown = read["talks"].get(channels.get(flow), [])
        yield from (f"{flow}: {finding}" for finding in compare_flow(shown, rows))
    for talk, people in read["members"].items():
        if len(set(people)) != 2:
            yield f"{talk} is shown as a conversation of {people}, not of two people"
    pages = viewing(
        home, "slack-export-viewer", "-z", export, "--html-only", "--show-dms", "-o", home / "pages"
    )
    made = len(list((home / "pages").glob("*/*/index.html")))
    if pages.returncode != 0 or made != len(by_flow):
        yield f"{made} of {len(by_flow)} pages were made of it: {pages.stderr}"


def channels_in(export: Path) -> dict[str, str]:
    """The name of each flow's channel or conversation, from the descriptions in the export."""
    with zipfile.ZipFile(export) as packed:
        channels = json.loads(packed.read("channels.json"))
        talks = json.loads(packed.read("dms.json"))
    told = {
        one["purpose"]["value"].rpartition(" (")[2].removesuffix(" at Flowdock)"): one["name"]
        for one in channels
    }
    return told | {
        "/".join(["private", *(user.removeprefix("U") for user in one["members"])]): one["id"]
        for one in talks
    }


def compare_flow(shown: Sequence[dict[str, Any]], rows: Sequence[tuple[Any, ...]]) -> Iterator[str]:
    """Yield how the messages shown of a flow differ from its rows."""
    found = {one["id"]: one for one in shown}
    if len(found) != len(shown) or found.keys() != {row[0] for row in rows}:
        yield f"{len(shown)} messages instead of {len(rows)}"
    for id_, sender, sent, content, _, reactions, files in rows:
        one = found.get(id_)
        if one is None:
            continue
        said = (one["sender"], one["time"], html.unescape(one["text"]), one["files"])
        if said != (sender, sent, content, files):
            yield f"{id_} is shown as {said}, not as {(sender, sent, content, files)}"
        if sorted(one["reactions"].values()) != sorted(reactions.values()):
            yield f"reactions to {id_} are {one['reactions']}, not {reactions}"
        if MARKUP.search(one["shown"].replace("javascript:alert(3)", "")):
            yield f"markup of {id_} is shown as such: {one['shown']}"
    if (seen := threads_shown(shown)) != (had := threads_of(rows)):
        yield f"its threads are {seen}, not {had}"


def threads_shown(shown: Sequence[dict[str, Any]]) -> list[list[int]]:
    """The ids of each thread with answers, in the order in which the viewer shows them."""
    threads: list[list[int]] = []
    for one in shown:
        if one["is_reply"]:
            threads[-1].append(one["id"])
        else:
            threads.append([one["id"]])
    return sorted(thread for thread in threads if len(thread) > 1)


def threads_of(rows: Sequence[tuple[Any, ...]]) -> list[list[int]]:
    """The ids of each thread with answers, in the order of the rows."""
    threads = defaultdict(list)
    for row in rows:
        if row[4] is not None:
            threads[row[4]].append(row[0])
    return sorted(thread for thread in threads.values() if len(thread) > 1)


if __name__ == "__main__":
    sys.exit(main())
