"""Flows become file names, whatever they are called."""

import ntpath
from io import BytesIO
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archiver.export.book import Unit
from archiver.export.folder import Folder, Shelf
from archiver.export.names import path_of
from archiver.export.parquet import partition_of

ODD = [
    ".", "..", "...", "a\\b", "\0", "~", "C:", "é" * 200, "search", "AUX", "nul.x", "con .x", "x.",
    "x ",
]  # fmt: skip
parts = st.text() | st.sampled_from(ODD)
flows = st.lists(parts.map(lambda part: part.replace("/", "")), min_size=1, max_size=3)


def is_reserved(name: str) -> bool:
    """Tell whether *name* is reserved on Windows."""
    asked = getattr(ntpath, "isreserved", None)  # new in Python 3.13, where the other is deprecated
    return bool(asked(name) if asked else PureWindowsPath(name).is_reserved())


@given(flows)
@example(["", "etc"])
@example(["acme", "", "main"])
def test_no_name_leads_out_of_the_folder(flow: list[str]) -> None:
    path = path_of("/".join(flow))
    names = PurePosixPath(path).parts
    assert len(names) == len(flow)
    assert not {"", ".", "..", "/"} & set(names)
    assert all(name.isascii() and name.isprintable() and len(name) < 250 for name in names)
    assert not any(letter in path for letter in '\\:*?"<>|')
    assert not any(map(is_reserved, names))
    assert not path.startswith(("search", "assets", "manifest"))


@pytest.mark.parametrize("path", ["/etc/x", "../x", "acme/../../x"])
def test_a_path_that_leads_out_of_the_folder_is_refused_all_the_same(
    tmp_path: Path, path: str
) -> None:
    folder = Folder(tmp_path / "out", BytesIO(), {})
    shelf = Shelf(folder, Unit(name="unit", files=[], seen_at=""))
    with pytest.raises(ValueError, match="leads out of the export"), shelf.file(path):
        pass


def test_readers_of_parquet_are_told_a_name_that_a_file_system_takes():
    assert partition_of("acme/main") == "flow=acme%2Fmain"
    cut, other = (partition_of(f"acme/{'é' * 200}{end}") for end in "ab")
    assert cut != other
    assert max(len(cut), len(other)) < 250


@given(flows)
def test_a_name_can_be_read_from_its_path(flow: list[str]) -> None:
    path = "/".join(part for part in flow if part) or "x"
    assert unquote(path_of(path)) == path or "~" in path_of(path)
