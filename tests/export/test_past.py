"""An export as of a time tells what was known then, in every format, and nothing of later."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.dataset
import pytest

from archiver.cli.export import FORMATS
from tests.export.conftest import Export, content

BEFORE_THE_EDIT = datetime(2019, 12, 1, tzinfo=UTC)
AFTER_THE_EDIT = datetime(2020, 2, 1, tzinfo=UTC)
EDITED = re.compile(r"edited \W*(lt;)?b\b")
"""However a format writes the angle brackets in what a message came to say."""


def said(folder: Path, style: str) -> str:
    """All that is in the files but in the manifest, as text."""
    if style == "parquet":
        return str(
            pyarrow.dataset.dataset(folder, exclude_invalid_files=True).to_table().to_pylist()
        )
    files = content(folder)
    del files["manifest.json"]
    return "\n".join(data.decode() for data in files.values())


@pytest.mark.parametrize("style", FORMATS)
def test_nothing_of_later_is_in_an_export_of_the_past(
    export: Export, tmp_path: Path, style: str
) -> None:
    then = export(tmp_path / "then", style, as_of=BEFORE_THE_EDIT)
    told = said(tmp_path / "then", style)
    assert then.as_of == "2019-12-01T00:00:00+00:00"
    assert "soon edited" in told
    assert "soon deleted" in told
    assert not EDITED.search(told)
    assert "with a thread" not in told  # it was said in 2020
    assert "<T>" not in told
    assert "without a time" not in told

    later = export(tmp_path / "later", style, as_of=AFTER_THE_EDIT)
    told = said(tmp_path / "later", style)
    assert EDITED.search(told)
    assert "with a thread" in told
    assert ("soon edited" in told) == (style == "html")  # which alone shows what was said before
    assert later.rows > then.rows
