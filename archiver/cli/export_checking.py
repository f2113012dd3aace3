"""``archiver export --check``: check whether an export is still as its manifest says."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from archiver.cli.progress import shown_progress
from archiver.cli.tables import counted, first_of
from archiver.cli.terminal import make_safe
from archiver.export.book import File
from archiver.export.manifest import check, read_manifest
from archiver.export.writing import total_bytes

TOLD_FINDINGS = 20


def check_export(export: Path, *, as_json: bool) -> int:
    """Compare *export* with its manifest and print the findings; returns the exit status.

    Raises:
        ArchiverError: there is no export, or it is not finished.
    """
    manifest = read_manifest(export)
    good_bytes = 0
    findings = []
    size = max(1, total_bytes(manifest.files))
    with shown_progress(quiet=as_json) as tell:
        for found in check(export, manifest):
            if isinstance(found, File):
                good_bytes += found.size_bytes
                tell(good_bytes / size, found.path)
            else:
                findings.append(found)
    if as_json:
        told: dict[str, Any] = {
            "files": len(manifest.files),
            "bytes": good_bytes,
            "findings": [{"file": one.path, "trouble": one.trouble} for one in findings],
        }
        click.echo(json.dumps(told))
    else:
        _tell_findings([f"{one.path}: {one.trouble}" for one in findings], len(manifest.files))
    return 1 if findings else 0


def _tell_findings(findings: Sequence[str], files: int) -> None:
    for told in first_of(findings, TOLD_FINDINGS):
        click.echo(make_safe(told))
    verdict = f"{counted(len(findings), 'finding')}" if findings else "all as the manifest says"
    click.echo(f"{counted(files, 'file')}: {verdict}")
