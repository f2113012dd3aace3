"""An export as of a time shows what was known then, in every format, and nothing later."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.dataset
import pytest

from archiver.cli.export import FORMATS
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from tests.export.conftest import JULY, JUNE, Export, content
from tests.ingest.arriving import NOW, edit, frame, listed, query, running, streamed

BEFORE_THE_EDIT = datetime(2019, 12, 1, tzinfo=UTC)
AFTER_THE_EDIT = datetime(2020, 1, 1, 0, 0, 0, 40_000, tzinfo=UTC)
EDITED = re.compile(r"edited \W*(lt;)?b\b")
"""The edited text, however a format escapes its angle brackets."""


@pytest.fixture(scope="module", autouse=True)
def edited_again(archive_url: str) -> None:
    """Edit the edited message again, ten milliseconds after the latest of the times above."""
    ((key,),) = query(archive_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")
    with running(archive_url) as (run, engine):
        change = streamed(edit(50, 23, "and once more"), key)
        run(apply(engine, Batch(now=NOW, arrivals=[change])))


def said(folder: Path, style: str) -> str:
    """The text of all files but the manifest."""
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
    assert ("soon edited" in told) == (style == "html")  # the only format that shows earlier texts
    assert "once more" not in told
    assert later.rows > then.rows


@pytest.mark.parametrize("style", FORMATS)
def test_what_nobody_knows_to_have_been_said_is_not_told_as_nothing(
    export: Export, archive_url: str, tmp_path: Path, style: str
) -> None:
    """A message was first listed after an edit, and no event told what it had said before."""
    ((key,),) = query(archive_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")
    with running(archive_url) as (run, engine):
        shown = frame(60, sent=JUNE + 60, user="60", content="shown late", edited=JULY + 60)
        run(apply(engine, Batch(now=NOW, arrivals=[listed(shown, key, as_of=60)])))
    before = datetime.fromtimestamp(JUNE / 1000 + 1, UTC)
    export(tmp_path / "then", style, as_of=before)
    told = said(tmp_path / "then", style)
    assert "shown late" not in told
    phrase = {
        "html": '<p class="gone">changed before the archive saw it</p>',
        "text": "user 60 (changed before the archive saw it):\n",
        "markdown": "**user 60** \\(changed before the archive saw it\\)",
        "jsonl": '"sent":"2019-06-01T00:00:00.06+00:00","content":null',
        "csv": '2019-06-01 00:00:00.06+00,,"[]"',
        "parquet": "'content': None",
    }.get(style)
    assert (phrase or "") in told
    if style == "slack":
        assert "flowdock-60" not in told
