import hashlib
from pathlib import Path

import recsys_mtl
from recsys_mtl.artifacts import runkey
from recsys_mtl.artifacts.runkey import code_version, run_key, stage_dir


def test_run_key_is_the_hash_of_its_canonical_parts(monkeypatch):
    monkeypatch.setattr(runkey, "code_version", lambda: "1")
    text = b'{"code":"1","parts":{"data":"d","spec":"s"},"stage":"ingest"}'
    assert run_key("ingest", spec="s", data="d") == hashlib.sha256(text).hexdigest()


def test_run_key_changes_with_stage_parts_and_code(monkeypatch):
    keys = {run_key("ingest", a="1"), run_key("train", a="1"), run_key("ingest", a="2")}
    keys |= {run_key("ingest", b="1"), run_key("ingest", a="1", b="")}
    monkeypatch.setattr(runkey, "code_version", lambda: "other")
    keys.add(run_key("ingest", a="1"))
    assert len(keys) == 6


def test_code_version_changes_with_a_byte_and_with_a_name(tmp_path, monkeypatch):
    seen = []
    for name, text in (("a.py", "x = 1"), ("a.py", "x = 2"), ("b.py", "x = 2")):
        for old in tmp_path.glob("*.py"):
            old.unlink()
        (tmp_path / "__init__.py").touch()
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(recsys_mtl, "__file__", str(tmp_path / "__init__.py"))
        seen.append(code_version.__wrapped__())
    assert len(set(seen)) == 3
    assert all(version.startswith(f"{recsys_mtl.__version__}+") for version in seen)


def test_stage_dir_holds_the_first_sixteen_digits():
    key = "0123456789abcdef" * 4
    assert stage_dir(Path("out"), "feed", "train", key) == Path("out/feed/train/0123456789abcdef")
