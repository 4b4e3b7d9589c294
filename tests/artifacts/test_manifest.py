import os

import pytest

from recsys_mtl.artifacts.commit import FileEntry, atomic_write, entry_of
from recsys_mtl.artifacts.manifest import MANIFEST, is_published, open_artifact, publish
from recsys_mtl.artifacts.sealed import seal
from recsys_mtl.errors import IntegrityError


@pytest.fixture
def artifact(tmp_path):
    directory = tmp_path / "artifact"
    (directory / "fit").mkdir(parents=True)
    atomic_write(directory / "b.bin", b"bbb")
    atomic_write(directory / "fit" / "a.bin", b"aa")
    return directory


def entries(directory):
    return [entry_of(directory / name, directory) for name in ("fit/a.bin", "b.bin")]


def forge(directory, *listed):
    """A manifest with a right seal over wrong contents."""
    record = {
        "files": [dict(zip(("path", "sha256", "bytes", "rows"), f, strict=True)) for f in listed]
    }
    (directory / MANIFEST).write_bytes(seal({**record, "meta": {}}))


def test_a_directory_without_manifest_is_refused(artifact):
    assert not is_published(artifact)
    for directory in (artifact, artifact / "absent", artifact / "b.bin"):
        with pytest.raises(IntegrityError, match=r"there is no MANIFEST\.json") as caught:
            open_artifact(directory)
    assert caught.value.exit_code == 5


def test_open_gives_what_publish_gave(artifact):
    published = publish(artifact, entries(artifact), {"seed": 7, "splits": {"train": [1, 2]}})
    assert is_published(artifact)
    assert open_artifact(artifact) == published
    assert [(f.path, f.bytes) for f in published.files] == [("b.bin", 3), ("fit/a.bin", 2)]
    assert published.meta == {"seed": 7, "splits": {"train": [1, 2]}}
    assert published.path("fit/a.bin").read_bytes() == b"aa"


def test_manifest_bytes_do_not_depend_on_the_order_of_files_or_keys(artifact):
    first = publish(artifact, entries(artifact), {"a": 1, "b": 2})
    again = publish(artifact, entries(artifact)[::-1], {"b": 2, "a": 1})
    assert first == again


def test_a_file_that_is_not_listed_has_no_path(artifact):
    manifest = publish(artifact, entries(artifact), {})
    with pytest.raises(IntegrityError, match=r"lists no file 'c\.bin'"):
        manifest.path("c.bin")


def test_changed_bytes_of_equal_length_are_found_unless_verification_is_off(artifact):
    publish(artifact, entries(artifact), {})
    (artifact / "b.bin").write_bytes(b"bbB")
    with pytest.raises(IntegrityError, match=r"b\.bin: sha256 is .*says 3e744b9dc393"):
        open_artifact(artifact)
    assert open_artifact(artifact, verify=False).path("b.bin").exists()


def test_other_size_and_absence_are_found_even_without_verification(artifact):
    publish(artifact, entries(artifact), {})
    (artifact / "b.bin").write_bytes(b"bb")
    with pytest.raises(IntegrityError, match=r"b\.bin: has 2 bytes, MANIFEST.json says 3"):
        open_artifact(artifact, verify=False)
    (artifact / "b.bin").unlink()
    with pytest.raises(IntegrityError, match=r"b\.bin: is listed in the manifest but absent"):
        open_artifact(artifact, verify=False)


@pytest.mark.parametrize(
    "name", ["extra.bin", "fit/extra.bin", "fit/_extra.bin", "new/deep/extra.bin"]
)
def test_an_unlisted_file_is_refused_by_writer_and_reader(artifact, name):
    before = publish(artifact, entries(artifact), {})
    (artifact / name).parent.mkdir(parents=True, exist_ok=True)
    (artifact / name).touch()
    with pytest.raises(IntegrityError, match=rf"{name}: is not listed"):
        open_artifact(artifact)
    with pytest.raises(IntegrityError, match=rf"{name}: is not listed"):
        publish(artifact, entries(artifact), {})
    (artifact / name).unlink()
    assert open_artifact(artifact) == before


def test_working_state_stays_outside_the_manifest(artifact):
    for name in ("timing.jsonl", "_LOCK", ".hidden", "ckpt/step-1/data", "_work/index.arrow"):
        (artifact / name).parent.mkdir(parents=True, exist_ok=True)
        (artifact / name).touch()
    published = publish(artifact, entries(artifact), {})
    assert open_artifact(artifact) == published
    assert len(published.files) == 2


def test_publish_removes_unfinished_writes_and_readers_ignore_them(artifact):
    stale = artifact / "fit" / f"a.bin.{'0' * 32}.tmp"
    stale.touch()
    publish(artifact, entries(artifact), {})
    assert not stale.exists()
    stale.touch()
    open_artifact(artifact)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "fit/../../secret", "./b.bin", "fit//a.bin", ".", ""]
)
def test_a_path_that_leaves_the_directory_is_refused(artifact, name):
    (artifact.parent / "secret").write_bytes(b"bbb")
    forge(artifact, (name, "0" * 64, 3, None))
    with pytest.raises(IntegrityError, match="a path outside the directory"):
        open_artifact(artifact)
    with pytest.raises(IntegrityError, match="a path outside the directory"):
        publish(artifact, [FileEntry(name, "0" * 64, 3)], {})


def test_a_link_that_leaves_the_directory_is_refused(artifact):
    listed = entries(artifact)
    os.rename(artifact / "b.bin", artifact.parent / "b.bin")
    (artifact / "b.bin").symlink_to(artifact.parent / "b.bin")
    with pytest.raises(IntegrityError, match="is a link that leaves"):
        publish(artifact, listed, {})


def test_an_unlisted_linked_folder_is_refused(artifact):
    publish(artifact, entries(artifact), {})
    (artifact / "more").symlink_to(artifact.parent)
    with pytest.raises(IntegrityError, match="more: is not listed"):
        open_artifact(artifact)


def test_a_file_listed_twice_is_refused(artifact):
    first = entries(artifact)[0]
    with pytest.raises(IntegrityError, match="twice"):
        publish(artifact, [first, first], {})


def test_a_manifest_that_lists_itself_is_refused(artifact):
    publish(artifact, entries(artifact), {})
    itself = entry_of(artifact / MANIFEST, artifact)
    with pytest.raises(IntegrityError, match="or itself"):
        publish(artifact, [*entries(artifact), itself], {})


def test_a_manifest_of_wrong_form_is_an_integrity_error(artifact):
    for record in ({}, {"files": [{"name": "a"}], "meta": {}}, {"files": 3, "meta": {}}):
        (artifact / MANIFEST).write_bytes(seal(record))
        with pytest.raises(IntegrityError, match=r"MANIFEST\.json"):
            open_artifact(artifact)
