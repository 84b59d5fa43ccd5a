"""Downloads go on where they stopped, are verified, and put a folder in place whole or not at all."""

from __future__ import annotations

import hashlib
import io
import re
import stat
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgeser.corpora import load_corpus
from edgeser.corpora.downloads import LARGEST_RATIO, download, fetch_file, unpack
from edgeser.corpora.errors import DownloadError, DownloadInterrupted, UnknownCorpus, UnsafeArchive
from edgeser.corpora.formats.emodb import EMOTION_OF_LETTER
from edgeser_export.utilities.errors import StorageError


@dataclass
class Server:
    """A real HTTP server on this machine, and how it behaves."""

    address: str = ""
    data: bytes = b""
    tag: str | None = '"one"'
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    """For each coming answer, the bytes after which the connection closes."""
    status: list[int] = field(default_factory=list)
    """For each coming answer, an error to send instead, or 0."""
    asked: list[str | None] = field(default_factory=list)
    """The Range header of every request."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    behaviour = Server()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.asked.append(self.headers.get("Range"))
            if behaviour.status and (code := behaviour.status.pop(0)):
                self.send_error(code)
                return
            start = 0
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            same = self.headers.get("If-Range") == behaviour.tag
            if wanted and behaviour.ranges and same:
                start = int(wanted[1])
                if start >= len(behaviour.data):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(behaviour.data) - 1}/{len(behaviour.data)}")
            else:
                self.send_response(200)
            body = behaviour.data[start:]
            self.send_header("Content-Length", str(len(body)))
            if behaviour.tag:
                self.send_header("ETag", behaviour.tag)
            self.end_headers()
            self.wfile.write(body[: behaviour.cut_after.pop(0)] if behaviour.cut_after else body)

        def log_message(self, *arguments: object) -> None:
            """Stay silent."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    behaviour.address = f"http://127.0.0.1:{listener.server_port}"
    yield behaviour
    listener.shutdown()
    thread.join()
    listener.server_close()


def fetch(server: Server, path: Path) -> bytes:
    return fetch_file(f"{server.address}/file", path, pause_s=0).read_bytes()


DATA = bytes(range(256)) * 2000


class TestFetch:
    def test_a_whole_file_with_progress(self, server: Server, tmp_path: Path) -> None:
        server.data = DATA
        seen: list[tuple[int, int | None]] = []
        fetch_file(f"{server.address}/file", tmp_path / "deep" / "file", progress=lambda *state: seen.append(state))
        assert (tmp_path / "deep" / "file").read_bytes() == DATA
        assert seen[-1] == (len(DATA), len(DATA))
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]

    def test_a_truncated_answer_is_continued(self, server: Server, tmp_path: Path) -> None:
        server.data, server.cut_after = DATA, [100_000, 50_000]
        assert fetch(server, tmp_path / "file") == DATA
        assert server.asked == [None, "bytes=100000-", "bytes=150000-"]

    def test_a_second_call_goes_on(self, server: Server, tmp_path: Path) -> None:
        server.data, server.cut_after = DATA, [1000, 0, 0, 0]
        with pytest.raises(DownloadInterrupted, match=f"closed after 1000 of {len(DATA)} bytes") as caught:
            fetch(server, tmp_path / "file")
        assert "goes on where it stopped" in caught.value.hint
        assert not (tmp_path / "file").exists()
        server.asked.clear()
        assert fetch(server, tmp_path / "file") == DATA
        assert server.asked == ["bytes=1000-"]

    def test_a_server_without_ranges_starts_again(self, server: Server, tmp_path: Path) -> None:
        server.data, server.cut_after, server.ranges = DATA, [100_000], False
        assert fetch(server, tmp_path / "file") == DATA

    def test_two_versions_are_never_joined(self, server: Server, tmp_path: Path) -> None:
        server.data, server.cut_after = DATA, [1000, 0, 0, 0]
        with pytest.raises(DownloadInterrupted):
            fetch(server, tmp_path / "file")
        server.data, server.tag = bytes(len(DATA)), '"two"'
        assert fetch(server, tmp_path / "file") == bytes(len(DATA))

    @pytest.mark.parametrize("tag", [None, 'W/"weak"'])
    def test_without_a_strong_mark_it_starts_again(self, server: Server, tmp_path: Path, tag: str | None) -> None:
        server.data, server.tag, server.cut_after = DATA, tag, [1000]
        assert fetch(server, tmp_path / "file") == DATA
        assert server.asked == [None, None]

    def test_more_than_the_file_starts_again(self, server: Server, tmp_path: Path) -> None:
        server.data = DATA
        (tmp_path / "file.part").write_bytes(DATA + b"more")
        (tmp_path / "file.part.tag").write_text('"one"')
        assert fetch(server, tmp_path / "file") == DATA
        assert server.asked == [f"bytes={len(DATA) + 4}-", None]

    def test_a_busy_server_is_asked_again(self, server: Server, tmp_path: Path) -> None:
        server.data, server.status = DATA, [503, 429]
        assert fetch(server, tmp_path / "file") == DATA

    def test_a_refusal_is_final(self, server: Server, tmp_path: Path) -> None:
        server.status = [404]
        with pytest.raises(DownloadInterrupted, match="the server answered 404"):
            fetch(server, tmp_path / "file")
        assert len(server.asked) == 1

    def test_no_server(self, tmp_path: Path, server: Server) -> None:
        with pytest.raises(DownloadInterrupted, match="refused"):
            fetch_file("http://127.0.0.1:9/file", tmp_path / "file", pause_s=0)

    @pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://host/file"])
    def test_other_protocols_are_refused(self, address: str, tmp_path: Path) -> None:
        with pytest.raises(DownloadInterrupted, match="no http or https"):
            fetch_file(address, tmp_path / "file")

    def test_a_folder_that_cannot_be_written(self, server: Server, tmp_path: Path) -> None:
        (tmp_path / "blocked").write_text("a file")
        with pytest.raises(StorageError, match="cannot write"):
            fetch(server, tmp_path / "blocked" / "file")


def zipped(names: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in names.items():
            file.writestr(name, content)
    return data.getvalue()


class TestUnpack:
    def unpack(self, tmp_path: Path, data: bytes) -> list[str]:
        (tmp_path / "a.zip").write_bytes(data)
        (tmp_path / "out").mkdir()
        unpack(tmp_path / "a.zip", tmp_path / "out")
        return sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.wav"))

    def test_files_in_folders(self, tmp_path: Path) -> None:
        assert self.unpack(tmp_path, zipped({"wav/": b"", "wav/a.wav": b"1", "b.wav": b"2"})) == ["b.wav", "wav/a.wav"]

    @pytest.mark.parametrize("name", ["../evil.wav", "a/../../evil.wav", "/evil.wav", "C:/evil.wav", "..\\evil.wav"])
    def test_nothing_leaves_the_folder(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UnsafeArchive, match="outside the folder"):
            self.unpack(tmp_path, zipped({"fine.wav": b"", name: b"x"}))
        assert not list(tmp_path.rglob("*.wav"))

    def test_links_are_refused(self, tmp_path: Path) -> None:
        data = io.BytesIO()
        link = zipfile.ZipInfo("link.wav")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(data, "w") as file:
            file.writestr(link, "/etc/passwd")
        with pytest.raises(UnsafeArchive, match="is a link"):
            self.unpack(tmp_path, data.getvalue())

    def test_an_archive_that_would_fill_the_disk(self, tmp_path: Path) -> None:
        with pytest.raises(UnsafeArchive, match="would unpack to 100 MB"):
            self.unpack(tmp_path, zipped({"zeros.wav": bytes(100_000_000)}))
        assert LARGEST_RATIO == 50

    @pytest.mark.parametrize("data", [b"", b"<html>not found</html>", zipped({"a.wav": DATA})[:2000]])
    def test_no_archive(self, tmp_path: Path, data: bytes) -> None:
        with pytest.raises(UnsafeArchive, match="cannot be unpacked"):
            self.unpack(tmp_path, data)

    def test_a_flipped_bit(self, tmp_path: Path) -> None:
        data = bytearray(zipped({"a.wav": hashlib.sha256(b"x").digest() * 1000}))
        data[60] ^= 1
        with pytest.raises(UnsafeArchive, match="cannot be unpacked"):
            self.unpack(tmp_path, bytes(data))

    def test_a_name_twice(self, tmp_path: Path) -> None:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as file:
            file.writestr("a.wav", "1")
            with pytest.warns(UserWarning, match="Duplicate"):
                file.writestr("a.wav", "2")
        with pytest.raises(UnsafeArchive, match="cannot be unpacked"):
            self.unpack(tmp_path, data.getvalue())


def emodb_archive(utterances: int) -> bytes:
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    texts = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03")
    names = [f"wav/{one}{text}{letter}a.wav" for one in speakers for text in texts for letter in EMOTION_OF_LETTER]
    return zipped(dict.fromkeys(names[:utterances], b"sound") | {"erklaerung.txt": b"hello", "lablaut/a.lablaut": b""})


class TestDownload:
    def test_a_corpus_without_a_published_checksum(self, server: Server, tmp_path: Path) -> None:
        server.data = emodb_archive(535)
        (tmp_path / "emodb").mkdir()
        folder = download("emodb", tmp_path / "emodb", base_url=f"{server.address}/")
        assert len(load_corpus("emodb", folder).utterances) == 535
        assert [path.name for path in tmp_path.iterdir()] == ["emodb"]

    def test_a_complete_corpus_is_left_alone(self, server: Server, tmp_path: Path) -> None:
        server.data = emodb_archive(535)
        download("emodb", tmp_path / "emodb", base_url=server.address)
        server.asked.clear()
        assert download("emodb", tmp_path / "emodb", base_url=server.address) == tmp_path / "emodb"
        assert server.asked == []

    @pytest.mark.parametrize("utterances", [0, 534, 560])
    def test_not_the_whole_corpus(self, server: Server, tmp_path: Path, utterances: int) -> None:
        server.data = emodb_archive(utterances)
        with pytest.raises(DownloadError, match=f"has {utterances} utterances after unpacking, expected 535"):
            download("emodb", tmp_path / "emodb", base_url=server.address)
        assert list(tmp_path.iterdir()) == []

    def test_an_unsafe_archive_leaves_nothing(self, server: Server, tmp_path: Path) -> None:
        server.data = zipped({"../evil.wav": b""})
        with pytest.raises(UnsafeArchive):
            download("emodb", tmp_path / "data" / "emodb", base_url=server.address)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    def test_a_wrong_checksum(self, server: Server, tmp_path: Path) -> None:
        server.data = DATA
        with pytest.raises(DownloadError, match=r"md5 is .* expected bc696df654c87fed845eb13823edef8a"):
            download("ravdess", tmp_path / "ravdess", base_url=server.address)
        assert list(tmp_path.iterdir()) == []

    def test_an_interrupted_download_keeps_what_arrived(self, server: Server, tmp_path: Path) -> None:
        server.data, server.cut_after, server.status = emodb_archive(535), [3000], [0, 403]
        with pytest.raises(DownloadInterrupted):
            download("emodb", tmp_path / "emodb", base_url=server.address)
        assert (tmp_path / ".emodb.download.zip.part").stat().st_size == 3000
        download("emodb", tmp_path / "emodb", base_url=server.address)
        assert server.asked[-1] == "bytes=3000-"

    def test_a_folder_with_other_things_is_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(DownloadError, match="not empty"):
            download("emodb", tmp_path)
        assert (tmp_path / "thesis.txt").read_text() == "years of work"

    @pytest.mark.parametrize(
        ("name", "way"),
        [
            ("iemocap", "release form"),
            ("demos", "zenodo.org/records/2544829"),
            ("cremad", "git-lfs"),
            ("urdu", "research"),
        ],
    )
    def test_a_gated_corpus_says_where_to_ask(self, name: str, way: str, tmp_path: Path) -> None:
        with pytest.raises(DownloadError) as caught:
            download(name, tmp_path)
        assert way in caught.value.hint

    def test_an_unknown_corpus(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownCorpus, match="emodbb"):
            download("emodbb", tmp_path)
