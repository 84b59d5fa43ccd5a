"""Download the corpora whose licence lets anyone.

    folder = download("ravdess", Path("data/ravdess"))

The archive is fetched beside the folder and goes on where it stopped; it is checked, unpacked into a draft, read as the
corpus it should be, and only then put in place.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any

from edgeser.corpora.errors import CorpusError, DownloadError, DownloadInterrupted, UnsafeArchive
from edgeser.corpora.table import CORPORA, load_corpus
from edgeser_export.utilities.errors import StorageError
from edgeser_export.utilities.files import new_folder, sync_file, sync_folder, write_bytes
from edgeser_export.utilities.outside import expand

BLOCK = 1 << 16
ATTEMPTS = 4
"""Tries in one call; each goes on where the last one stopped."""
TIMEOUT_S = 60
"""Seconds without a byte after which a connection is given up."""
Progress = Callable[[int, int | None], None]
"""A function of the bytes so far and the bytes in all, None where the server does not say."""


def fetch_file(
    address: str,
    path: Path,
    *,
    progress: Progress | None = None,
    pause_s: float = 1.0,
) -> Path:
    """Fetch ``address`` to ``path``; a file that is already there is taken as whole.

    Args:
        address: http or https.
        path: The name that the file gets, by rename, once it is whole.
        progress: Called with the bytes so far and in all.
        pause_s: Seconds before the second attempt; doubled each time.

    Raises:
        DownloadInterrupted: The server refused, or every attempt stopped early. What arrived is kept.
        StorageError: It cannot be written.
    """
    if not address.startswith(("http://", "https://")):
        raise DownloadInterrupted(address, "is no http or https address")
    if path.exists():
        return path
    attempts = 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _attempt(address, path, progress)
            return path
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            attempts += 1
            if _is_final(error) or attempts == ATTEMPTS:
                raise DownloadInterrupted(address, _reason(error)) from error
            time.sleep(pause_s * 2 ** (attempts - 1))
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(
                f"cannot write {path}: {error.strerror or error}",
                "check the free space and the permissions of that folder",
            ) from error


def _attempt(address: str, path: Path, progress: Progress | None) -> None:
    """Ask for the rest of the file, or for all of it where the server cannot go on."""
    part, tag = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.tag")
    have = part.stat().st_size if part.is_file() else 0
    mark = tag.read_text() if tag.is_file() else ""
    headers = {"User-Agent": "edgeser", "Accept-Encoding": "identity"}
    if have and mark and not mark.startswith("W/"):  # a weak mark does not promise equal bytes
        headers |= {"Range": f"bytes={have}-", "If-Range": mark}
    request = urllib.request.Request(address, headers=headers)  # noqa: S310  (http or https: fetch_file checked)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()  # longer than the file, or complete but unmarked: the next attempt begins again
        raise
    with response:
        done, total = _read_header(response)
        if done > have:
            raise http.client.HTTPException("the server sent a later part than was asked for")
        write_bytes(tag, (response.headers.get("ETag") or response.headers.get("Last-Modified") or "").encode())
        with part.open("r+b" if done else "wb") as file:
            file.seek(done)
            file.truncate()
            while block := _read(response):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, total)
    if total is not None and done < total:
        raise http.client.HTTPException(f"the connection closed after {done} of {total} bytes")
    sync_file(part)
    os.replace(part, path)
    tag.unlink(missing_ok=True)
    sync_folder(path.parent)


def _read(response: Any) -> bytes:
    """The next bytes that the server sends; an error of the connection is none of the disk's."""
    try:
        return bytes(response.read(BLOCK))
    except OSError as error:
        raise http.client.HTTPException(str(error)) from error


def _read_header(response: Any) -> tuple[int, int | None]:
    """The place in the file where the server's bytes begin, and the length of the whole file, if the server says."""
    start, total = 0, response.headers.get("Content-Length")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None:
            raise http.client.HTTPException("the server sent a part without saying which")
        start, total = int(match[1]), match[2]
    return start, int(total) if total and total.isdigit() else None


def _is_final(error: Exception) -> bool:
    """Say whether trying again is of no use: the server answered that it will not."""
    again = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS, 416)
    return isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500 and error.code not in again


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    return str(getattr(error, "reason", None) or error) or type(error).__name__


@dataclass(frozen=True, slots=True)
class Source:
    """The address at which a corpus is published, and the facts that verify its archive."""

    address: str
    utterances: int
    """Number of utterances that the corpus has after unpacking."""
    size: int | None
    """Bytes of the archive, where its publisher states them."""
    algorithm: str | None
    """The checksum that the publisher states; None where there is none."""
    checksum: str | None


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "ravdess": Source(
            address="https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1",
            utterances=1440,
            size=208_468_073,
            algorithm="md5",
            checksum="bc696df654c87fed845eb13823edef8a",
        ),
        "emodb": Source(
            address="http://emodb.bilderbar.info/download/download.zip",
            utterances=535,
            size=None,
            algorithm=None,
            checksum=None,
        ),
    }
)
"""Every corpus that `download` can get."""


def download(name: str, folder: Path, *, base_url: str | None = None, progress: Progress | None = None) -> Path:
    """Download a corpus into ``folder``.

    Args:
        name: A key of `SOURCES`; other corpora must be asked for, and the error says where.
        folder: A new or empty folder. A complete corpus there is left as it is.
        base_url: A mirror that holds the archive under the same file name.
        progress: Called while bytes arrive.

    Returns:
        ``folder``.

    Raises:
        UnknownCorpus: No format has that name.
        DownloadInterrupted: The server cannot be reached or closed early; a second call goes on.
        UnsafeArchive: It is damaged, or would write outside ``folder``.
        DownloadError: The corpus is not open, ``folder`` holds something else, the archive is not the published one
            and was removed, or it holds fewer or more utterances than the corpus.
        StorageError: The disk is full or read-only.
    """
    source = SOURCES.get(name)
    if source is None:
        raise DownloadError(f"corpus {name!r} cannot be downloaded for you", _access(name))
    folder = expand(folder)
    if _utterances(name, folder) == source.utterances:
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DownloadError(f"{folder} is not empty and is not the complete corpus", "name a new or an empty folder")
    file = source.address.rpartition("/")[2].partition("?")[0]
    archive = folder.parent / f".{folder.name}.{file}"
    address = f"{base_url.rstrip('/')}/{file}" if base_url else source.address
    _need_space(folder, source)
    fetch_file(address, archive, progress=progress)
    if source.algorithm and source.checksum:
        _verify(address, archive, source.algorithm, source.checksum)
    try:
        with new_folder(folder) as draft:
            unpack(archive, draft)
            if (found := _utterances(name, draft)) != source.utterances:
                raise DownloadError(
                    f"corpus {name!r} has {found} utterances after unpacking, expected {source.utterances}",
                    "nothing was put in place; the published archive may have changed",
                )
    except CorpusError:
        archive.unlink(missing_ok=True)  # whole and yet wrong: going on from it would not help
        raise
    archive.unlink()
    return folder


def _access(name: str) -> str:
    if name not in CORPORA:
        load_corpus(name)  # raises the error that knows similar names
    return CORPORA[name].card.access


def _utterances(name: str, folder: Path) -> int:
    """Number of utterances of a corpus that a folder holds; 0 for a folder that is none."""
    try:
        return len(load_corpus(name, folder).utterances)
    except CorpusError:
        return 0


def _need_space(folder: Path, source: Source) -> None:
    """Refuse early when archive and recordings will not fit; recordings hardly shrink in an archive."""
    if source.size is None:
        return
    place = folder.parent
    while not place.exists():
        place = place.parent
    free, needed = shutil.disk_usage(place).free, 4 * source.size
    if free < needed:
        raise StorageError(
            f"{place} has {free / 1e6:.0f} MB free, and this download needs about {needed / 1e6:.0f} MB",
            "free some space, or name a folder on another disk",
        )


def _verify(address: str, archive: Path, algorithm: str, expected: str) -> None:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, partial(hashlib.new, algorithm, usedforsecurity=False))
    if digest.hexdigest() != expected:
        archive.unlink()
        raise DownloadError(
            f"{address}: {algorithm} is {digest.hexdigest()}, expected {expected}",
            "the damaged file was removed; run the command again, and report it if it happens twice",
        )


# Unpacking what a stranger made: nothing leaves the folder, nothing fills the disk ---------------------------------

LARGEST = 8 * 1024**3
"""Bytes after unpacking; the largest corpus here has under one."""
LARGEST_RATIO = 50
"""Unpacked size over packed size; recordings reach about ten at most."""


def unpack(archive: Path, folder: Path) -> None:
    """Unpack every file of ``archive`` into ``folder``.

    Raises:
        UnsafeArchive: It is no ZIP archive, is damaged or encrypted, holds a link, names a path outside ``folder``, or
            would unpack to far more than it is large.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            _check(archive, file.infolist())
            file.extractall(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UnsafeArchive(archive.name, f"cannot be unpacked ({error})") from error


def _check(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    if len({member.filename for member in members}) < len(members):
        raise UnsafeArchive(archive.name, "cannot be unpacked (it holds two files of one name)")
    for member in members:
        name = member.filename
        windows = PureWindowsPath(name)
        if PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in name:
            raise UnsafeArchive(archive.name, f"{name!r} would be written outside the folder")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UnsafeArchive(archive.name, f"{name!r} is a link")
        if member.flag_bits & 0x1:
            raise UnsafeArchive(archive.name, f"{name!r} is encrypted")
    unpacked = sum(member.file_size for member in members)
    if unpacked > min(LARGEST, LARGEST_RATIO * max(archive.stat().st_size, 1 << 20)):
        raise UnsafeArchive(archive.name, f"would unpack to {unpacked / 1e6:.0f} MB")
