"""A small world to search in: what was said, by whom, and what became of it."""

from datetime import UTC, datetime
from typing import Any

from archiver.domain.model import Flow, FlowId, User, UserId
from archiver.domain.query_parsing import parse
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.indexing import adopt_lexicon, catch_up
from archiver.store import directory
from archiver.store.connection import Engine
from archiver.store.engine import transaction
from archiver.store.search import Page, search
from archiver.store.search_meaning import understand
from tests.ingest.arriving import NOW, edit, frame, streamed, tag_change

LANGUAGE = "english"
FLOWS = ("acme/main", "acme/ops", "beta/main", "private/alice/bob")
USERS = (
    ("1", "alice", "Alice Liddell"),
    ("2", "bob", "Bob"),
    ("3", "Jürgen", "Jürgen Groß"),
    ("4", "[b]?", ""),
)

SAID: dict[int, str] = {
    1: "Deploying the new build to staging",
    2: "the deploy failed again, rolling back",
    3: "We deployed! 🎉🎉",
    4: "Größere Änderungen am Grundgerüst",
    5: "naïve café résumé",
    6: "нужно обновить документацию, ещё раз",
    7: "running qwen3.6 on two cards",
    8: "qwen3.60 is another thing, and so is qwen3",
    9: "C++20 modules, finally; C++17 was fine",
    10: "the C compiler",
    11: "call foo_bar() twice, then foo_baz(1)",
    12: "see /srv/img/foo.png and foo.pngx",
    13: "https://github.com/acme/component/pull/42?w=1 please review",
    14: "http://example.com/a?b=c&d=%20e#f",
    15: "mail bob.smith+lists@example.com or ring",
    16: "サーバーを再起動しました",
    17: "会议改到明天下午三点",
    18: "회의는 내일입니다",
    19: "great 👩‍💻 work 👍🏽 ❤️",
    20: "flags 🇫🇮 🇸🇪",
    21: "fix it please #todo #release-1",
    22: "todo lists are no hashtags",
    23: "roll back the database now",
    24: "roll the thing back",
    25: "SELECT * FROM t WHERE a <> 'b'; -- 50%",
    26: "it's done; they don't care",
    27: "parseHTMLDocument in FlowArchiver2 is snake_case_name's friend",
    28: "ERROR 1045 (28000): Access denied",
    29: "use --force, not -f",
    30: "a && b || c => d",
    31: "std::vector<int> v{1, 2};",
    32: "node.js and .NET and ASP.NET",
    33: "line one\nline two\u2028line three",
    34: "zero\u200bwidth and soft\u00adhyphen",
    35: "\uff21\uff22\uff23 full width, ﬁ ligature, ½ cup",
    36: "صَبَاح الخير",
    37: "Σίσυφος pushes",
    38: "เซิร์ฟเวอร์ทำงานแล้ว",
    39: "path C:\\Users\\bob\\x.txt and \\d+ regexes",
    40: "v2.10.0-rc1 is out",
    41: "İstanbul and Iğd\u0131r",
    42: "@bob look at this",
    43: "100 % _under_ scores",
    44: "tests tested testing testers",
    45: "x" * 80 + " is a long word",
    46: "the password was hunter2",
    47: "this message will be removed",
    48: "quarterly report attached",
    49: "thread starter about kubernetes",
    50: "a reply about kubernetes",
    51: "in another organization: kubernetes",
    52: "between us: kubernetes",
    53: "Build #4711 broke",
    54: "ガーデン と ｶﾞｰﾃﾞﾝ と がーでん",
    55: "smile :) and :tada:",
    56: "10.0.0.12:5432 refused",
    57: "don\u2019t use \u201cquotes\u201d \u2014 ever",
    58: "first `make clean`,\nthen once more",
    59: "undated",
    60: "firstmoment",
}
"""By id; in acme/main, unless PLACES names another flow."""

PLACES = {49: 1, 50: 1, 51: 2, 52: 3, 53: 1}
"""Index into FLOWS."""
FIELDS: dict[int, dict[str, Any]] = {
    2: {"user": "2"},
    4: {"user": "3"},
    21: {"tags": ["todo", "release-1"]},
    23: {"tags": ["Todo"]},
    42: {"tags": [":user:2"]},
    49: {"thread_id": "Th-1", "thread": {"id": "Th-1", "title": "k8s"}},
    50: {"thread_id": "Th-1", "user": "2"},
    53: {"external_user_name": "Jenkins CI", "user": "0"},
    55: {"user": "98", "tags": [":user:99"]},
    58: {"user": "4"},
    59: {"sent": None},
    60: {"sent": 0},
}
FILE: dict[str, Any] = {
    "event": "file",
    "content": {
        "file_name": "Überblick_2019.pdf",
        "file_size": 7,
        "path": "/files/x",
        "content_type": "application/pdf",
    },
}
EDIT_46, DELETE_47, FILE_ID, REACTION = 146, 147, 148, 149


async def fill(engine: Engine) -> None:
    """Archive the world, and index it."""
    async with transaction(engine) as tx:
        flows = [Flow(id=FlowId(path), path=path) for path in FLOWS]
        keys = list((await directory.see_flows(tx, flows, now=NOW)).values())
        users = [User(id=UserId(id_), nick=nick, name=name) for id_, nick, name in USERS]
        await directory.see_users(tx, users, now=NOW)
        await adopt_lexicon(tx, language=LANGUAGE)
    main = keys[0]
    arrivals = [
        streamed(frame(id_, **{"content": text, **FIELDS.get(id_, {})}), keys[PLACES.get(id_, 0)])
        for id_, text in SAID.items()
    ]
    reaction = {"message": 1, "emoji": "+1", "type": "add"}
    later = [
        edit(EDIT_46, 46, "the password was removed"),
        edit(DELETE_47, 47, ""),
        frame(FILE_ID, **FILE),
        frame(REACTION, "emoji-reaction", content=reaction),
        tag_change(150, 1, add=["deployment"]),
    ]
    arrivals += [streamed(one, main) for one in later]
    await apply(engine, Batch(now=NOW, arrivals=arrivals))
    await catch_up(engine)


def on_utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)


async def find(engine: Engine, query: str, **options: Any) -> Page:
    """The page that *query* gives."""
    async with engine.connect() as tx:
        meaning = await understand(tx, parse(query), now=NOW, localize=on_utc)
    return await search(engine, meaning, **{"most": 100, "seconds": 10.0, **options})


def ids(page: Page) -> set[int]:
    return {hit.message_id for hit in page.hits}
