"""Files are read where they are files and no larger than they may be; pipes, devices and folders are not, whatever links lead there."""

import os
import tracemalloc

import pytest
import torch

from wgf import limits

CPU = torch.device("cpu")


def test_a_file_and_a_link_to_one_are_read_up_to_their_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert limits.contents(tmp_path / "file", 5) == limits.contents(tmp_path / "link") == b"12345"
    with pytest.raises(ValueError, match=r"file has 0\.0 MiB, and at most 0\.0 MiB are read of it"):
        limits.contents(tmp_path / "file", 4)


def test_a_file_that_says_it_is_empty_is_read_up_to_its_limit():
    """As the files of /proc do, whose size is 0 to stat."""
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("no /proc here")
    assert os.stat("/proc/self/maps").st_size == 0
    with pytest.raises(ValueError, match=r"maps is larger than 0\.0 MiB, the most that is read of it"):
        limits.contents("/proc/self/maps", 100)


def test_a_small_file_takes_little_memory_whatever_its_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    tracemalloc.start()
    assert limits.contents(tmp_path / "file", 10**9) == b"12345"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**6


def test_a_file_that_grows_meanwhile_is_read_to_its_end(tmp_path, monkeypatch):
    path, looks = tmp_path / "file", []
    path.write_bytes(b"12345")
    monkeypatch.setattr(limits, "_regular", lambda *about: looks.append(about) or (len(looks) == 2 and path.write_bytes(b"1234567890")))
    assert limits.contents(path) == b"1234567890"


def test_a_file_that_grows_meanwhile_beyond_the_most_is_refused(tmp_path, monkeypatch):
    path, looks = tmp_path / "file", []
    path.write_bytes(b"12345")
    monkeypatch.setattr(limits, "_regular", lambda *about: looks.append(about) or (len(looks) == 2 and path.write_bytes(b"1234567890")))
    with pytest.raises(ValueError, match="file is larger than"):
        limits.contents(path, 9)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero", "."):
        with pytest.raises(ValueError, match="is no regular file; only such files are read"):
            limits.contents(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        limits.contents(tmp_path / "nothing")


def test_a_file_exchanged_for_a_pipe_after_a_look_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    before = os.stat(tmp_path / "file")
    monkeypatch.setattr(limits.os, "stat", lambda path: before)
    with pytest.raises(ValueError, match="is no regular file"):
        limits.contents(tmp_path / "pipe")


def test_a_file_larger_than_a_third_of_the_free_memory_is_not_read(tmp_path, monkeypatch):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**40)  # takes no disk
    with pytest.raises(ValueError, match=r"sparse has 1,024\.0 GiB, and at most .* GiB are read of it"):
        limits.contents(tmp_path / "sparse")
    monkeypatch.setattr(limits, "free_memory", lambda: 30)
    (tmp_path / "file").write_bytes(b"0123456789")
    assert len(limits.contents(tmp_path / "file")) == 10
    (tmp_path / "file").write_bytes(b"0123456789A")
    with pytest.raises(ValueError, match="at most"):
        limits.contents(tmp_path / "file")


def test_memory_is_the_least_of_machine_and_container(monkeypatch):
    files = {"/proc/meminfo": "MemTotal:  9000 kB\nMemFree: 10 kB\nMemAvailable:   5000 kB\n"}
    monkeypatch.setattr(limits, "_read", lambda path: files.get(path, ""))
    assert limits.free_memory(CPU) == 5000 * 1024
    files |= {"/sys/fs/cgroup/memory.max": "max\n", "/sys/fs/cgroup/memory.current": "1000"}
    assert limits.free_memory(CPU) == 5000 * 1024
    files |= {"/sys/fs/cgroup/memory.max": "4000\n"}
    assert limits.free_memory(CPU) == 3000
    files.clear()
    monkeypatch.setattr(limits.os, "sysconf", {"SC_PHYS_PAGES": 700, "SC_PAGE_SIZE": 4096}.get)
    assert limits.free_memory(CPU) == 700 * 4096


def test_memory_is_that_of_the_device(monkeypatch):
    assert limits.free_memory(CPU) > 2**20  # of this machine
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: {1: (5, 9)}[device.index])
    assert limits.free_memory(torch.device("cuda", 1)) == 5


def test_what_a_process_holds_is_in_the_second_word_of_its_pages(monkeypatch):
    monkeypatch.setattr(limits, "_read", {"/proc/self/statm": "900 300 50 1 0 7 0\n"}.get)
    monkeypatch.setattr(limits.os, "sysconf", {"SC_PAGE_SIZE": 4096}.get)
    assert limits.resident() == 300 * 4096
    monkeypatch.setattr(limits, "_read", lambda path: "")
    assert limits.resident() == 0


@pytest.mark.parametrize(("count", "words"), [(0, "0.0 MiB"), (2**20, "1.0 MiB"), (2**30 - 1, "1,024.0 MiB"), (1.5 * 2**30, "1.5 GiB")])
def test_sizes_are_written_for_a_person(count, words):
    assert limits.size(count) == words
