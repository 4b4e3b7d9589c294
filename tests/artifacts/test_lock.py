import os
import re
import subprocess
import sys
from socket import gethostname

import pytest

from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.errors import TransientError

HOLD = """
import sys
from pathlib import Path
from recsys_mtl.artifacts.lock import stage_lock
with stage_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_told_who_holds_it_and_exits_75(tmp_path):
    with stage_lock(tmp_path / "stage"):
        with pytest.raises(
            TransientError, match=r"stage: another run is writing it \(pid \d+"
        ) as e:
            with stage_lock(tmp_path / "stage"):
                pytest.fail("entered twice")
        assert e.value.exit_code == 75
        with stage_lock(tmp_path / "other"):
            pass


def test_the_owner_in_the_message_is_the_present_one_only(tmp_path):
    (tmp_path / ".stage.lock").write_text("pid 1234567890 on a-host-with-a-long-name\n" * 3)
    owner = re.escape(f"(pid {os.getpid()} on {gethostname()})")
    with stage_lock(tmp_path / "stage"):
        with pytest.raises(TransientError, match=owner), stage_lock(tmp_path / "stage"):
            pytest.fail("entered twice")


def test_the_lock_is_free_after_an_error_and_leaves_nothing_in_the_directory(tmp_path):
    (tmp_path / "stage").mkdir()
    with pytest.raises(RuntimeError), stage_lock(tmp_path / "stage"):
        raise RuntimeError
    with stage_lock(tmp_path / "stage"):
        assert list((tmp_path / "stage").iterdir()) == []


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "stage")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TransientError, match=f"pid {holder.pid} "):
            with stage_lock(tmp_path / "stage"):
                pytest.fail("entered while held")
    finally:
        holder.kill()
        holder.communicate()
    with stage_lock(tmp_path / "stage"):
        pass
