"""Files are whole or absent, whatever happens: real kills, a really full disk, a really read-only one."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeser_export.utilities import files
from edgeser_export.utilities.errors import EdgeserError, StorageError
from edgeser_export.utilities.files import (
    append_line,
    exchange_folders,
    hold,
    new_folder,
    remove_file,
    write_bytes,
    write_json,
)

WRITER = """
import sys
from pathlib import Path
from edgeser_export.utilities.files import write_bytes
path = Path(sys.argv[1])
for turn in range(10**9):
    write_bytes(path, bytes([turn % 256]) * 300_000)
    print(turn, flush=True)
"""

FOLDER_WRITER = """
import sys
from pathlib import Path
from edgeser_export.utilities.files import new_folder
for turn in range(10**9):
    with new_folder(Path(sys.argv[1])) as draft:
        for name in "abc":
            (draft / name).write_bytes(bytes([turn % 256]) * 50_000)
    print(turn, flush=True)
"""


def killed_in_the_middle(program: str, path: Path, delay: float) -> None:
    """Start ``program`` on ``path``, wait until it has written once, and pull the plug ``delay`` seconds later."""
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline(), "the writer did not start"
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.stdout.read()
        assert child.wait() == -signal.SIGKILL


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


# One file ------------------------------------------------------------------------------------------------------------


def test_a_file_appears_with_its_folders_and_nothing_beside_it(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "c.bin", b"whole")
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"whole"
    assert names_in(tmp_path / "a" / "b") == ["c.bin"]


def test_the_mode_is_what_the_umask_leaves(tmp_path: Path) -> None:
    older = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"")
        with new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(older)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "large-disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "large-disk" / "file")
    write_bytes(tmp_path / "link", b"there")
    assert (tmp_path / "link").is_symlink()
    assert names_in(tmp_path / "large-disk") == ["file"]


def test_json_is_text_that_one_can_read_and_never_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"uar": 0.5})
    assert (tmp_path / "x.json").read_text() == '{\n  "uar": 0.5\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"uar": float("nan")})
    assert (tmp_path / "x.json").read_text() == '{\n  "uar": 0.5\n}\n'


def test_lines_are_appended_whole_or_not_at_all(small_disk: Path) -> None:
    path = small_disk / "log"
    append_line(path, "first")
    append_line(path, "é")
    assert path.read_text(encoding="utf-8") == "first\né\n"
    with pytest.raises(StorageError, match=r"cannot write .*log: No space left"):
        append_line(path, "x" * 2_000_000)
    assert path.read_text(encoding="utf-8") == "first\né\n"
    append_line(path, "last")
    assert path.read_text(encoding="utf-8") == "first\né\nlast\n"


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.003, 0.01, 0.02])
def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "checkpoint"
    killed_in_the_middle(WRITER, path, delay)
    data = path.read_bytes()
    assert len(data) == 300_000
    assert len(set(data)) == 1


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    for _ in range(20):  # until one kill hits between the draft and its rename
        killed_in_the_middle(WRITER, path, 0.002)
        if len(names_in(tmp_path)) > 1:
            break
    else:
        (tmp_path / ".checkpoint.0123456789ab.part").write_bytes(b"half")
    write_bytes(path, b"next")
    assert names_in(tmp_path) == ["checkpoint"]


def test_removing_a_file_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.0123456789ab.part").write_bytes(b"half")
    (tmp_path / "checkpoints").write_bytes(b"another name")
    remove_file(tmp_path / "checkpoint")  # it never came to be
    write_bytes(tmp_path / "checkpoint", b"whole")
    remove_file(tmp_path / "checkpoint")
    assert names_in(tmp_path) == ["checkpoints"]


def test_a_living_writer_keeps_its_draft_and_others_keep_their_files(tmp_path: Path) -> None:
    (tmp_path / ".folder.notes.part").write_text("not ours: no random part of twelve letters")
    (tmp_path / ".folders.0123456789ab.part").write_text("another name")
    with new_folder(tmp_path / "folder") as draft:
        (draft / "slow").write_text("first")
        with new_folder(tmp_path / "folder") as second:
            (second / "fast").write_text("second")
        assert (draft / "slow").read_text() == "first"
    assert names_in(tmp_path / "folder") == ["slow"]
    assert names_in(tmp_path) == [".folder.notes.part", ".folders.0123456789ab.part", "folder"]


def test_many_writers_of_one_file_all_succeed(tmp_path: Path) -> None:
    failures: list[Exception] = []

    def write(letter: bytes) -> None:
        try:
            for _ in range(20):
                write_bytes(tmp_path / "file", letter * 10_000)
        except Exception as error:  # noqa: BLE001  (a thread's failure must reach the test)
            failures.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(set((tmp_path / "file").read_bytes())) == 1
    assert names_in(tmp_path) == ["file"]


def test_a_full_disk_keeps_the_older_file(small_disk: Path) -> None:
    write_bytes(small_disk / "file", b"old" * 1000)
    with pytest.raises(StorageError, match=r"file: No space left on device") as caught:
        write_bytes(small_disk / "file", b"new" * 1_000_000)
    assert "df -h" in caught.value.hint
    assert (small_disk / "file").read_bytes() == b"old" * 1000
    assert names_in(small_disk) == ["file"]


def test_a_read_only_disk_keeps_the_older_file(small_disk: Path) -> None:
    write_bytes(small_disk / "file", b"old")
    with new_folder(small_disk / "folder") as draft:
        (draft / "a").write_bytes(b"old")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="Read-only file system"):
        write_bytes(small_disk / "file", b"new")
    with pytest.raises(StorageError, match="Read-only file system"), new_folder(small_disk / "folder"):
        pytest.fail("the block must not start")
    assert (small_disk / "file").read_bytes() == b"old"
    assert names_in(small_disk) == ["file", "folder"]


def test_a_folder_without_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        write_bytes(tmp_path / "file", b"")


# A folder ------------------------------------------------------------------------------------------------------------


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with new_folder(path) as draft:
        (draft / "deep").mkdir()
        (draft / "deep" / "first").write_text("1")
        assert not path.exists()
    with new_folder(path) as draft:
        (draft / "second").write_text("2")
        assert (path / "deep" / "first").read_text() == "1"
    assert names_in(path) == ["second"]
    assert names_in(tmp_path) == ["run"]


def test_a_block_that_raises_leaves_the_older_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "run") as draft:
        (draft / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "run") as draft:
        (draft / "a").write_text("new")
        raise ZeroDivisionError
    assert (tmp_path / "run" / "a").read_text() == "old"
    assert names_in(tmp_path) == ["run"]


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.01, 0.03])
def test_a_killed_writer_leaves_a_whole_folder(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "run"
    killed_in_the_middle(FOLDER_WRITER, path, delay)
    contents = {(path / name).read_bytes() for name in "abc"}
    assert len(contents) == 1, "files of two turns"
    assert len(contents.pop()) == 50_000
    with new_folder(path):
        pass
    assert names_in(tmp_path) == ["run"]


def test_a_reader_finds_the_folder_at_every_moment(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with new_folder(path) as draft:
        (draft / "a").write_text("x")
    if not files._exchange(path, path):  # the same name twice: allowed where exchanging is known
        pytest.skip("this file system cannot exchange two names")
    stop, absent = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            absent.extend([] if path.is_dir() else [True])

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(100):
        with new_folder(path) as draft:
            (draft / "a").write_text("x")
    stop.set()
    reader.join()
    assert absent == []


def test_without_exchange_the_older_folder_comes_back_when_the_second_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    with new_folder(tmp_path / "run") as draft:
        (draft / "a").write_text("old")
    with new_folder(tmp_path / "run") as draft:
        (draft / "a").write_text("middle")
    assert (tmp_path / "run" / "a").read_text() == "middle"
    with pytest.raises(StorageError), new_folder(tmp_path / "run") as draft:
        draft.rmdir()
    assert (tmp_path / "run" / "a").read_text() == "middle"
    assert names_in(tmp_path) == ["run"]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("there", ["nothing", "empty", "old"])
def test_two_folders_exchange_their_names(
    known: bool, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not known:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (one / "new").touch()
    if there != "nothing":
        other.mkdir()
    if there == "old":
        (other / "old").touch()
    exchange_folders(one, other)
    assert names_in(other) == ["new"]
    assert names_in(tmp_path) == (["one", "other"] if there == "old" else ["other"])
    if there == "old":
        assert names_in(one) == ["old"]
    with pytest.raises(StorageError):
        exchange_folders(tmp_path / "none", other)
    assert names_in(other) == ["new"]


def test_a_full_disk_keeps_the_older_folder(small_disk: Path) -> None:
    with new_folder(small_disk / "run") as draft:
        (draft / "a").write_bytes(b"old")
    with pytest.raises(StorageError, match="No space left"), new_folder(small_disk / "run") as draft:
        (draft / "a").write_bytes(b"new" * 1_000_000)
    assert (small_disk / "run" / "a").read_bytes() == b"old"
    assert names_in(small_disk) == ["run"]


def test_a_linked_folder_is_replaced_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "large-disk" / "runs").mkdir(parents=True)
    (tmp_path / "run").symlink_to(tmp_path / "large-disk" / "runs", target_is_directory=True)
    with new_folder(tmp_path / "run") as draft:
        (draft / "a").write_text("x")
    assert (tmp_path / "run").is_symlink()
    assert names_in(tmp_path / "large-disk" / "runs") == ["a"]
    assert names_in(tmp_path) == ["large-disk", "run"]


def test_a_file_in_the_place_of_a_folder_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(StorageError, match="a file of that name"), new_folder(tmp_path / "run"):
        pytest.fail("the block must not start")
    assert (tmp_path / "run").read_text() == "mine"
    assert names_in(tmp_path) == ["run"]


def test_what_the_block_fails_to_read_elsewhere_is_no_matter_of_storage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "run"):
        (tmp_path / "corpus.wav").read_bytes()
    with pytest.raises(ConnectionResetError), new_folder(tmp_path / "run"):
        raise ConnectionResetError
    assert names_in(tmp_path) == []


# Locks ---------------------------------------------------------------------------------------------------------------


def test_a_lock_has_one_holder_and_leaves_nothing(tmp_path: Path) -> None:
    path, taken = tmp_path / "there" / "lock", EdgeserError("taken", "wait")
    with hold(path, taken):
        with pytest.raises(EdgeserError, match="taken"), hold(path, taken):
            pytest.fail("two hold it")
        assert path.exists()
    assert list(path.parent.iterdir()) == []
    with hold(path, taken):
        pass


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who held it removes the file between another's opening and locking it."""
    path, real, calls = tmp_path / "lock", files.fcntl.flock, []

    def flock(descriptor: int, how: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            path.unlink()
        real(descriptor, how)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with hold(path, EdgeserError("taken", "wait")):
        assert len(calls) == 2
        assert path.exists()


def test_many_processes_hold_a_lock_one_after_the_other(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from edgeser_export.utilities.errors import EdgeserError\n"
        "from edgeser_export.utilities.files import hold\n"
        "lock, count = Path('lock'), Path('count')\n"
        "for _ in range(40):\n"
        "    try:\n"
        "        with hold(lock, EdgeserError('taken', 'wait')):\n"
        "            busy = Path('busy')\n"
        "            busy.touch(exist_ok=False)\n"
        "            busy.unlink()\n"
        "    except EdgeserError:\n"
        "        pass\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path) for _ in range(3)]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []
