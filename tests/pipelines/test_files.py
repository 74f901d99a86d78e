"""Files and folders that appear whole or not at all, whatever was killed before."""

import errno
import gc
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import files

ROOT = Path(__file__).resolve().parents[2]
# Begins to write what it is told to, says so, and waits to be killed.
WRITER = """
import sys, time
from pathlib import Path
from pipelines import files
with getattr(files, sys.argv[1])(sys.argv[2]) as temporary:
    (temporary / "half" if temporary.is_dir() else temporary).write_text("half")
    print(temporary, flush=True)
    time.sleep(600)
"""
KINDS = ("replacing", "appearing")


@pytest.fixture
def writer():
    """A function from kind and target to a process that is writing it."""
    processes = []

    def start(kind, target):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, kind, str(target)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        processes.append(process)
        process.temporary = Path(process.stdout.readline().strip())
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def write(kind, target, text="whole"):
    with getattr(files, kind)(target) as temporary:
        (temporary / "x" if kind == "appearing" else temporary).write_text(text)


def content(target):
    return (
        {path.name: path.read_text() for path in target.iterdir()} if target.is_dir() else target.read_text()
    )


WHOLE = {"replacing": "whole", "appearing": {"x": "whole"}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_writer_s_part_goes_with_the_next_write(tmp_path, monkeypatch, writer, kind):
    killed = writer(kind, tmp_path / "7")
    killed.kill()
    killed.wait()
    assert killed.temporary.exists()
    assert os.listdir(tmp_path) == [killed.temporary.name]
    monkeypatch.setattr(os, "getpid", lambda: killed.pid)  # as in another container
    write(kind, tmp_path / "7")
    assert content(tmp_path / "7") == WHOLE[kind]
    assert os.listdir(tmp_path) == ["7"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_running_writer_keeps_its_part(tmp_path, monkeypatch, writer, kind):
    running = writer(kind, tmp_path / "7")
    monkeypatch.setattr(os, "getpid", lambda: running.pid)
    write(kind, tmp_path / "7")
    write(kind, tmp_path / "8")
    files.remove_parts(tmp_path)
    assert running.poll() is None
    assert sorted(os.listdir(tmp_path)) == sorted(["7", "8", running.temporary.name])
    running.kill()
    running.wait()
    files.remove_parts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["7", "8"]


def test_a_killed_scratch_folder_goes_with_the_next(tmp_path, writer):
    killed, running = (writer("scratch", tmp_path / "drawing") for _ in range(2))
    killed.kill()
    killed.wait()
    with files.scratch(tmp_path / "drawing") as folder:
        assert sorted(os.listdir(tmp_path)) == sorted([folder.name, running.temporary.name])
        assert os.listdir(folder) == [files.LOCK_NAME]
    assert os.listdir(tmp_path) == [running.temporary.name]


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_that_raises_leaves_nothing(tmp_path, kind):
    write("replacing", tmp_path / "other")
    with pytest.raises(ZeroDivisionError), getattr(files, kind)(tmp_path / "7") as temporary:
        (temporary / "x" if kind == "appearing" else temporary).write_text(str(1 / 0))
    assert os.listdir(tmp_path) == ["other"]


def test_a_file_is_left_as_it_was_when_the_block_raises(tmp_path):
    write("replacing", tmp_path / "7", "old")
    with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "7"):
        1 / 0  # noqa: B018
    assert content(tmp_path / "7") == "old"


def test_what_older_releases_left_goes_and_other_names_stay(tmp_path):
    (tmp_path / "9.1.part").mkdir()
    (tmp_path / "9.1.part" / "saved_model.pb").touch()
    (tmp_path / "metrics.csv.77.part").touch()
    for name in ("9.part", "video.mp4.part", ".5.0123abcd.part"):  # the last one has no lock yet
        (tmp_path / name).mkdir()
    files.remove_parts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".5.0123abcd.part", "9.part", "video.mp4.part"]


def test_a_folder_that_cannot_be_read_has_no_parts(tmp_path):
    files.remove_parts(tmp_path / "absent")
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / "absent" / "x"):
        pass


@pytest.mark.parametrize(("age", "left"), [(0, 1), (2 * files.STALE_SECONDS, 0)])
def test_without_locks_age_decides(tmp_path, monkeypatch, age, left):
    monkeypatch.setattr(files, "_locked", lambda descriptor, wait=False: None)
    part = tmp_path / "x.0123abcd.part"
    part.touch()
    written = time.time() - age
    os.utime(part, (written, written))
    write("replacing", tmp_path / "x")
    assert len(list(tmp_path.glob("*.part"))) == left


def test_a_part_that_was_swept_before_it_was_locked_is_begun_anew(tmp_path, monkeypatch):
    locked, swept = files._locked, []

    def late(descriptor, *, wait=False):
        if wait and not swept:
            swept.extend(path for path in tmp_path.iterdir())
            for path in swept:
                path.unlink()
        return locked(descriptor, wait=wait)

    monkeypatch.setattr(files, "_locked", late)
    write("replacing", tmp_path / "x")
    assert len(swept) == 1
    assert content(tmp_path / "x") == "whole"


def test_rights_are_those_of_an_ordinary_file(tmp_path):
    write("replacing", tmp_path / "x")
    (tmp_path / "y").write_text("")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


def _writes(folder, number):
    for _ in range(20):
        write("replacing", folder / "x", f"{number}" * 1000)


def test_many_writers_of_one_file(tmp_path):
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_writes, args=(tmp_path, number)) for number in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0, 0]
    assert os.listdir(tmp_path) == ["x"]
    assert set(content(tmp_path / "x")) <= {"0", "1", "2"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_ends_with_its_process(tmp_path, writer, number):
    holder = writer("replacing", tmp_path / "x")
    holder.send_signal(number)
    holder.wait()
    files.remove_parts(tmp_path)
    assert os.listdir(tmp_path) == []


def test_numbered_entries_are_those_of_ascii_digits(tmp_path):
    for name in ("1", "007", "12", "\N{ARABIC-INDIC DIGIT THREE}", "-4", "1.0", "v2", "3.part"):
        (tmp_path / name).mkdir()
    assert files.numbered(tmp_path) == {1: tmp_path / "1", 7: tmp_path / "007", 12: tmp_path / "12"}


@pytest.fixture
def small_files():
    """As on a full disk, writing fails once a file has 200 kB; what fails names no file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


NOISE = np.random.default_rng(0).integers(0, 256, (1000, 1000), np.uint8)


def append(path):
    with path.open("wb") as file, files.naming(path):
        file.write(NOISE.tobytes())


@pytest.mark.parametrize("target", ["file", "folder"])
@pytest.mark.parametrize(
    "fill",
    [
        lambda path: path.write_text("x" * 1_000_000),
        lambda path: np.savez(path.open("wb"), noise=NOISE),
        lambda path: Image.fromarray(NOISE).save(path, "PNG"),
        append,
    ],
    ids=["text", "npz", "png", "naming"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files that fill leaves open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_error_of_writing_names_its_file(tmp_path, small_files, fill, target):
    with pytest.raises(OSError, match="File too large") as caught:  # noqa: PT012 - the error is the block's
        if target == "file":
            with files.replacing(tmp_path / "whole") as temporary:
                fill(temporary)
        else:
            with files.appearing(tmp_path / "whole") as temporary:
                fill(temporary / "x")
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename.startswith(str(tmp_path / "whole"))
    assert list(tmp_path.iterdir()) == []
    del caught
    gc.collect()  # what is left open warns here, and not in another test


def test_the_error_of_a_pipe_names_no_file(tmp_path):
    with pytest.raises(BrokenPipeError) as caught, files.replacing(tmp_path / "x"):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert caught.value.filename is None


def test_a_name_that_is_taken_is_an_error_of_its_own(tmp_path):
    (tmp_path / "1" / "in").mkdir(parents=True)
    with pytest.raises(FileExistsError, match=r"'.*/1'"), files.appearing(tmp_path / "1") as folder:
        (folder / "x").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_names_that_are_no_text_are_escaped_in_small_files(tmp_path):
    files.write_text(tmp_path / "f.txt", "赤狐 caf\udce9\n")
    assert (tmp_path / "f.txt").read_text(encoding="utf-8") == "赤狐 caf\\xe9\n"
