"""Official exports are found in what people have; anything else is reported with file and place."""

import json
import zipfile
from pathlib import Path

import pytest

from archiver.errors import ArchiverError
from archiver.flowdock.official import ExportUnreadable, find_exports
from archiver.flowdock.people import read_users

MESSAGES = json.dumps([{"id": number, "content": "x" * 100} for number in range(200)]).encode()


def packed(path: Path, entries: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as target:
        for name, content in entries.items():
            target.writestr(name, content)
    return path


def test_zips_files_and_directories_of_them_are_exports(tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    (unpacked / "messages.json").write_bytes(MESSAGES)
    (unpacked / "photo.png").write_bytes(b"png")
    packed(tmp_path / "main.zip", {"messages.json": MESSAGES, "files/a.pdf": b"a"})
    packed(tmp_path / "OPS.ZIP", {"ops/messages.json": MESSAGES})

    for name in ("acme/deep/messages.json", "acme/deep/files/messages.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(MESSAGES)

    found = find_exports(tmp_path)
    assert [str(one) for one in found] == [
        f"{tmp_path}/OPS.ZIP: ops/messages.json",
        f"{tmp_path}/main.zip: messages.json",
        f"{tmp_path}/acme/deep/messages.json",
        f"{tmp_path}/unpacked/messages.json",
    ]
    assert [one.attachments for one in found] == [0, 1, 0, 1]
    assert all(b"".join(one.chunks()) == MESSAGES for one in found)


def test_only_files_that_came_with_the_messages_are_counted(tmp_path: Path) -> None:
    for name in ("main/messages.json", "main/ops/messages.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(MESSAGES)
    for name in ("main/a.png", "main/files/b.png", "main/ops/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"png")
    (main,) = find_exports(tmp_path / "main")
    (alone,) = find_exports(tmp_path / "main/messages.json")
    assert (main.attachments, alone.attachments) == (2, 0)

    both = {"main/messages.json": MESSAGES, "main/a": b"", "ops/messages.json": MESSAGES}
    export = packed(tmp_path / "both.zip", {**both, "ops/b": b"", "ops/c": b"", "readme": b""})
    assert [one.attachments for one in find_exports(export)] == [1, 2]


def test_a_zip_that_is_cut_off_is_told(tmp_path: Path) -> None:
    whole = packed(tmp_path / "main.zip", {"messages.json": MESSAGES})
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(
        ExportUnreadable, match=r"cut\.zip is not a complete zip: its end is missing"
    ):
        find_exports(cut)


def test_a_damaged_zip_is_told_with_the_place(tmp_path: Path) -> None:
    whole = packed(tmp_path / "main.zip", {"messages.json": MESSAGES}, method=zipfile.ZIP_STORED)
    content = bytearray(whole.read_bytes())
    content[1000] ^= 1
    whole.write_bytes(content)
    (export,) = find_exports(whole)
    with pytest.raises(ExportUnreadable, match=r"main\.zip: messages\.json is damaged near byte"):
        list(export.chunks())


def test_a_zip_of_a_kind_that_is_not_known_is_told(tmp_path: Path) -> None:
    newer = packed(tmp_path / "main.zip", {"messages.json": MESSAGES})
    content = bytearray(newer.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 99  # the version that is needed to extract it
    newer.write_bytes(content)
    with pytest.raises(ExportUnreadable, match=r"main\.zip is not a complete zip: .*version 9\.9"):
        find_exports(newer)


@pytest.mark.parametrize(
    "name", ["../messages.json", "/etc/messages.json", "a/../../b", "..\\b", "C:\\b"]
)
def test_a_path_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    bad = packed(tmp_path / "bad.zip", {"messages.json": MESSAGES, name: b"x"})
    with pytest.raises(ExportUnreadable, match="leads outside"):
        find_exports(bad)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target,
        target.open("messages.json", "w") as entry,
    ):
        for _ in range(101):
            entry.write(b" " * 1_000_000)
    with pytest.raises(ExportUnreadable, match="like a zip bomb"):
        find_exports(bomb)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_python_unpacks_at_once_is_refused_before_it_is_read(
    tmp_path: Path, method: int
) -> None:
    export = packed(tmp_path / "main.zip", {"messages.json": MESSAGES}, method=method)
    with pytest.raises(ExportUnreadable, match="compressed by another method than deflate"):
        find_exports(export)

    photo = packed(tmp_path / "main.zip", {"messages.json": MESSAGES})
    with zipfile.ZipFile(photo, "a", method) as target:
        target.writestr("photo.png", b"png")
    assert [one.attachments for one in find_exports(photo)] == [1]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_holds_two_files_of_one_name_is_refused(tmp_path: Path) -> None:
    export = packed(tmp_path / "main.zip", {"messages.json": MESSAGES})
    with zipfile.ZipFile(export, "a") as target:
        target.writestr("messages.json", b"[]")
    with pytest.raises(ExportUnreadable, match=r"has messages\.json 2 times"):
        find_exports(export)


def test_a_name_in_a_zip_may_be_empty(tmp_path: Path) -> None:
    export = packed(tmp_path / "main.zip", {"messages.json": MESSAGES})
    with zipfile.ZipFile(export, "a") as target, target.open(zipfile.ZipInfo(""), "w") as entry:
        entry.write(b"x")
    assert [one.size_bytes for one in find_exports(export)] == [len(MESSAGES)]


@pytest.mark.parametrize("entries", [{}, {"readme.txt": b"no export"}])
def test_a_zip_without_messages_is_no_export(tmp_path: Path, entries: dict[str, bytes]) -> None:
    with pytest.raises(ExportUnreadable, match=r"has no messages\.json"):
        find_exports(packed(tmp_path / "a.zip", entries))


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExportUnreadable, match=r"cannot read .*none: No such file"):
        find_exports(tmp_path / "none")
    with pytest.raises(ExportUnreadable, match=r"has no messages\.json and no zip"):
        find_exports(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '[{"id": 1, "nick": "ann", "email": "a@x", "extra": 1}, {"id": "2", "nick": "bob"}]',
        '{"1": {"nick": "ann", "email": "a@x"}, "2": "bob"}',
        "\ufeffID,Nick,Email\n1,ann,a@x\n2,bob,\n",
    ],
)
def test_people_are_read_from_json_and_csv(tmp_path: Path, text: str) -> None:
    file = tmp_path / "users"
    file.write_text(text, encoding="utf-8")
    found = [(one.id, one.nick, one.name, one.email) for one in read_users(file)]
    assert found == [("1", "ann", None, "a@x"), ("2", "bob", None, None)]


@pytest.mark.parametrize("text", ['{"1": "a\\u0000\\ud800b"}', "id,nick\n1,a\0\0b\n"])
def test_what_postgres_does_not_take_of_a_name_is_shown_as_unknown(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "users"
    file.write_text(text, encoding="utf-8")
    assert [one.nick for one in read_users(file)] == ["a\ufffd\ufffdb"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[{}]", "entry 1 is not a user"),
        (b'{"name": "Main flow", "users": [{"id": 1, "nick": "ann"}]}', "entry 2 is not a user"),
        (b'[{"id": 1', "is not JSON"),
        (b"nick\nann\n", "must name the column id"),
        (b"id,nick\n1,ann\n,bob\n", "line 3: no id"),
        (b"\xff", "not UTF-8: byte 0"),
        (b"[" * 100_000, "is not JSON: nested too deeply"),
        (b"id,nick\n1,ann\n2," + b"x" * 200_000, "line 3: field larger than"),
    ],
)
def test_lists_of_people_that_are_none_are_told(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "users"
    file.write_bytes(content)
    with pytest.raises(ArchiverError, match=told):
        read_users(file)
