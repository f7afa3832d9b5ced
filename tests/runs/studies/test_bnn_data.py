"""Fetching the sets from a real server on this machine, whose files are right, altered, missing or cut."""

import functools
import hashlib
import http.server
import io
import socket
import threading
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from wgf.bnn import data
from wgf.runs.command import cli
from wgf.runs.studies.bnn_data import fetch

ROWS = np.arange(12.0).reshape(4, 3)


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """A server of toy sets under the standard names; ``origin.folder`` is what it serves."""
    known = hashlib.sha256(ROWS.astype("<f8").tobytes()).hexdigest()
    for name in ("boston", "concrete"):
        monkeypatch.setitem(data.SETS, name, data.Set(4, 2, "nothing", known))
    monkeypatch.setitem(data.SETS, "naval", data.Set(2, 16, "nothing", None))
    monkeypatch.setitem(data.SETS, "year", replace(data.SETS["year"], rows=2, features=2))
    served = tmp_path / "served"
    for folder in ("bostonHousing", "concrete", "naval-propulsion-plant"):
        (served / folder / "data").mkdir(parents=True)
    np.savetxt(served / "bostonHousing" / "data" / "data.txt", ROWS)
    np.savetxt(served / "concrete" / "data" / "data.txt", ROWS + 1.0)
    np.savetxt(served / "naval-propulsion-plant" / "data" / "data.txt", np.arange(36.0).reshape(2, 18))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("YearPredictionMSD.txt", "2001,1,2\n1999,3,4\n")
    (served / "year.zip").write_bytes(packed.getvalue())

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=served))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url, server.folder = f"http://127.0.0.1:{server.server_port}", served
    yield server
    server.shutdown()


def get(origin, folder, *names):
    said = []
    fetch(folder, names, said.append, origin.url, f"{origin.url}/year.zip")
    return said


def test_what_is_right_is_kept_and_not_fetched_again(origin, tmp_path):
    home = tmp_path / "home"
    assert get(origin, home, "boston") == [f"boston: 4 rows of 2 features, in {home}/boston/data.txt"]
    np.testing.assert_array_equal(np.column_stack(data.load(home, "boston")), ROWS)
    (origin.folder / "bostonHousing" / "data" / "data.txt").unlink()
    assert get(origin, home, "boston") == [f"boston: already in {home}"]
    assert [p.name for p in home.iterdir()] == ["boston"]


def test_the_second_target_of_naval_is_left_out_and_year_is_unpacked(origin, tmp_path):
    get(origin, tmp_path / "home", "naval", "year")
    np.testing.assert_array_equal(data.load(tmp_path / "home", "naval").y, [16.0, 34.0])
    np.testing.assert_array_equal(data.load(tmp_path / "home", "year").y, [2001.0, 1999.0])
    (tmp_path / "home" / "year" / "YearPredictionMSD.txt").write_text("2001,1,2\n1999,3,5\n")  # one number is another
    with pytest.raises(ValueError, match="holds other numbers than those that were fetched"):
        data.load(tmp_path / "home", "year")


def test_more_than_a_set_can_have_is_not_taken(origin, tmp_path):
    (origin.folder / "bostonHousing" / "data" / "data.txt").write_bytes(b"1 2 3\n" * 100_000)
    with pytest.raises(ValueError, match=r"boston cannot be fetched from .*: it has more than 0.1 MiB, and no such set has"):
        get(origin, tmp_path / "home", "boston")
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("YearPredictionMSD.txt", b"1" * 10_000_000)
    (origin.folder / "year.zip").write_bytes(bomb.getvalue())
    with pytest.raises(ValueError, match=r"year cannot be fetched from .*: it unpacks to 9.5 MiB, and the set has at most 0.1 MiB"):
        get(origin, tmp_path / "home", "year")
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


def test_altered_numbers_are_refused_and_nothing_is_kept(origin, tmp_path):
    with pytest.raises(ValueError, match=r"concrete/data.txt holds other numbers than the published concrete"):
        get(origin, tmp_path / "home", "concrete")
    assert not (tmp_path / "home" / "concrete" / "data.txt").exists()


def test_what_is_not_there_is_named_with_its_address(origin, tmp_path):
    (origin.folder / "bostonHousing" / "data" / "data.txt").unlink()
    (origin.folder / "year.zip").write_bytes(b"PK no")
    home = tmp_path / "home"
    address = f"{origin.url}/bostonHousing/data/data.txt"
    with pytest.raises(
        ValueError,
        match=rf"boston cannot be fetched from {address}: HTTP Error 404: .*; put the file there by hand, as {home}/boston/data.txt",
    ):
        get(origin, home, "boston")
    with pytest.raises(ValueError, match=r"year cannot be fetched from .*/year.zip: File is not a zip file"):
        get(origin, home, "year")
    assert not home.exists()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"no HTTP at all\r\n\r\n", "no HTTP at all"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n0 1 2\r\n", "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0 1 2\n", "has 1 lines; boston has 4 rows"),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "HTTP Error 302"),
    ],
)
def test_an_answer_that_is_cut_or_is_none_is_one_line_and_leaves_nothing(origin, tmp_path, answer, words):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        caller, _ = server.accept()
        caller.recv(4096)
        caller.sendall(answer)
        caller.close()

    threading.Thread(target=serve, daemon=True).start()
    with pytest.raises(ValueError, match=words) as caught:
        fetch(tmp_path / "home", ["boston"], print, f"http://127.0.0.1:{server.getsockname()[1]}")
    server.close()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "home").exists()


def test_an_archive_that_zipfile_does_not_take_is_one_line(origin, tmp_path):
    packed = bytearray((origin.folder / "year.zip").read_bytes())
    packed[6] |= 1  # encrypted, in both of its heads
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    (origin.folder / "year.zip").write_bytes(packed)
    with pytest.raises(ValueError, match=r"year cannot be fetched from .*is encrypted, password required"):
        get(origin, tmp_path / "home", "year")


def test_an_altered_file_at_home_is_not_overwritten(origin, tmp_path):
    (tmp_path / "home" / "boston").mkdir(parents=True)
    (tmp_path / "home" / "boston" / "data.txt").write_text("1 2 3\n")
    with pytest.raises(ValueError, match=r"boston/data.txt has 1 lines; boston has 4 rows"):
        get(origin, tmp_path / "home", "boston")
    assert (tmp_path / "home" / "boston" / "data.txt").read_text() == "1 2 3\n"


def test_an_unknown_set_is_one_line(tmp_path, capsys):
    assert cli.run(["bnn-data", "--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "wgf: bnn-data needs a word first, as in: wgf bnn-data fetch --data DIR\n"
    assert cli.run(["bnn-data", "fetch", "--data", str(tmp_path), "--sets", "bostn"]) == 2
    assert capsys.readouterr().err.startswith("wgf: set 'bostn' is unknown; choose from boston, concrete")
