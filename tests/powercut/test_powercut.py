"""Tests of how a power cut is judged; ``./run powercut`` does the cutting."""

import platform

import pytest

from tests.powercut import needs
from tests.powercut.evidence import Evidence, false_claims, lost_claims, lost_events
from tests.powercut.initramfs import in_order, packed


def seen(*ids: int, claims=()) -> Evidence:
    return Evidence(forms={("acme/main", id_, "as received") for id_ in ids}, claims=list(claims))


def test_an_event_that_was_seen_and_is_not_there_is_lost():
    assert lost_events(seen(1, 2, 3), seen(1, 3, 4)) == {("acme/main", 2)}
    assert lost_events(seen(1, 2, 3), seen(1, 2, 3, 4)) == set()


def test_an_event_that_is_there_otherwise_than_it_was_seen_is_lost():
    after = seen(1)
    after.forms.add(("acme/main", 2, "something else"))
    assert lost_events(seen(1, 2), after) == {("acme/main", 2)}


def test_a_range_may_grow_and_may_not_shrink():
    def claimed(last: int) -> Evidence:
        return seen(claims=[("acme/main", "list", 1, 5), ("acme/main", "stream", 8, last)])

    assert lost_claims(claimed(20), claimed(30)) == []
    assert lost_claims(claimed(20), claimed(19)) == [("acme/main", "stream", 8, 20)]


def test_what_is_claimed_and_listed_must_be_held():
    flow = {"kind": "flow", "flow": "acme/main", "members": ["1"]}
    listed = [{"kind": "message", "flow": "acme/main", "id": id_} for id_ in (1, 2, 3)]
    evidence = seen(1, claims=[("acme/main", "list", 1, 2)])
    assert list(false_claims(evidence, [flow, *listed])) == [("acme/main", 2)]


def test_all_that_is_missing_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(needs, "SYSTEM_PATH", str(tmp_path))
    monkeypatch.setattr(needs, "BOOT", tmp_path)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    packages = f"qemu-system-x86 nbdkit e2fsprogs util-linux busybox-static {needs.KERNEL}"
    with pytest.raises(needs.NotInstalled, match=f"apt-get install .* {packages}"):
        needs.find_tools()


def test_the_newest_kernel_that_has_its_modules_is_taken(tmp_path):
    for release in ("6.1", "6.2"):
        (tmp_path / f"vmlinuz-{release}").touch()
    assert needs.find_kernel(tmp_path, tmp_path) is None
    index = tmp_path / "6.1" / "modules.dep"
    index.parent.mkdir()
    index.write_text("kernel/drivers/virtio/virtio_pci.ko:\n")
    assert needs.find_kernel(tmp_path, tmp_path) == tmp_path / "vmlinuz-6.1"


def test_modules_come_after_those_that_they_need():
    index = "fs/ext4.ko.xz: fs/jbd2.ko.xz lib/crc16.ko.xz\nfs/jbd2.ko.xz:\nlib/crc16.ko.xz:\n"
    assert list(in_order(("built_in", "ext4"), index)) == [
        "lib/crc16.ko.xz",
        "fs/jbd2.ko.xz",
        "fs/ext4.ko.xz",
    ]


def test_an_archive_has_directories_first_and_an_end():
    archive = packed({"a/b/c": b"x"})
    assert len(archive) % 4 == 0
    names = [archive.index(name + b"\0") for name in (b"a", b"a/b", b"a/b/c", b"TRAILER!!!")]
    assert names == sorted(names)
