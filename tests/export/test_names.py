"""Flows become names of files, whatever they are called."""

from pathlib import PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from archiver.export.writing import path_of

parts = st.text(min_size=1) | st.sampled_from(
    [".", "..", "...", "a\\b", "\0", "~", "C:", "é" * 200]
)
flows = st.lists(parts.map(lambda part: part.replace("/", "")), min_size=1, max_size=3)


@given(flows)
def test_no_name_leads_out_of_the_folder(flow: list[str]) -> None:
    segments = [part for part in flow if part]
    path = path_of("/".join(segments)) if segments else "x"
    names = PurePosixPath(path).parts
    assert len(names) == max(1, len(segments))
    assert not {"", ".", "..", "/"} & set(names)
    assert all(name.isascii() and name.isprintable() and len(name) < 250 for name in names)
    assert not any(letter in path for letter in '\\:*?"<>|')
