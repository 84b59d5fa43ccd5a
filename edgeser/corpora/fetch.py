"""Fetch one file over HTTP, going on where an earlier attempt stopped.

What has arrived lies in ``NAME.part``; ``NAME.part.tag`` keeps the server's mark of that version, so that two versions
are never joined. Both are gone when the file is whole.
"""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeser.corpora.errors import DownloadInterrupted
from edgeser_export.errors import StorageError
from edgeser_export.files import sync_file, sync_folder, write_bytes

BLOCK = 1 << 16
ATTEMPTS = 4
"""Tries in one call; each goes on where the last one stopped."""
TIMEOUT_S = 60
"""Seconds without a byte after which a connection is given up."""


@dataclass(frozen=True)
class _Answer:
    """What the server's header says: where its bytes begin, and how long the whole file is."""

    start: int
    total: int | None


def fetch_file(
    address: str,
    path: Path,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    pause_s: float = 1.0,
) -> Path:
    """Fetch ``address`` to ``path``; a file that is already there is taken as whole.

    Args:
        address: http or https.
        path: Where the file goes, by rename, once it is whole.
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(ATTEMPTS):
            try:
                _attempt(address, path, progress)
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                if _is_final(error) or attempt == ATTEMPTS - 1:
                    raise DownloadInterrupted(address, _reason(error)) from error
                time.sleep(pause_s * 2**attempt)
            else:
                return path
    except (DownloadInterrupted, StorageError):
        raise
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}", "check the free space and the permissions of that folder"
        ) from error
    raise DownloadInterrupted(address, "no attempt was made")


def _attempt(address: str, path: Path, progress: Callable[[int, int | None], None] | None) -> None:
    part, tag = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.tag")
    with _open(address, part, tag) as response:
        answer = _read_header(response)
        if answer.start > (part.stat().st_size if part.is_file() else 0):
            raise http.client.HTTPException("the server sent a later part than was asked for")
        mark = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        write_bytes(tag, mark.encode())
        done = answer.start
        with part.open("r+b" if answer.start else "wb") as file:
            file.seek(answer.start)
            file.truncate()
            for block in _blocks(response):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, answer.total)
    if answer.total is not None and done < answer.total:
        raise http.client.HTTPException(f"the connection closed after {done} of {answer.total} bytes")
    sync_file(part)
    os.replace(part, path)
    tag.unlink(missing_ok=True)
    sync_folder(path.parent)


def _blocks(response: Any) -> Iterator[bytes]:
    """Yield what the server sends; an error of the connection is none of the disk's."""
    while True:
        try:
            block = response.read(BLOCK)
        except OSError as error:
            raise http.client.HTTPException(str(error)) from error
        if not block:
            return
        yield block


def _open(address: str, part: Path, tag: Path) -> Any:
    """Ask for the rest of the file, or for all of it where the server cannot go on."""
    have = part.stat().st_size if part.is_file() else 0
    mark = tag.read_text() if tag.is_file() else ""
    headers = {"User-Agent": "edgeser", "Accept-Encoding": "identity"}
    if have and mark and not mark.startswith("W/"):  # a weak mark does not promise equal bytes
        headers |= {"Range": f"bytes={have}-", "If-Range": mark}
    request = urllib.request.Request(address, headers=headers)  # noqa: S310  (http or https: fetch_file checked)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        part.unlink()  # longer than the file, or complete but unmarked: begin again
        whole = urllib.request.Request(address, headers={"User-Agent": "edgeser"})  # noqa: S310
        return urllib.request.urlopen(whole, timeout=TIMEOUT_S)  # noqa: S310


def _read_header(response: Any) -> _Answer:
    length = response.headers.get("Content-Length")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None:
            raise http.client.HTTPException("the server sent a part without saying which")
        return _Answer(int(match[1]), int(match[2]) if match[2] != "*" else None)
    return _Answer(0, int(length) if length and length.isdigit() else None)


def _is_final(error: Exception) -> bool:
    """Say whether trying again is of no use: the server answered that it will not."""
    return isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500 and error.code not in (408, 429)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    return str(getattr(error, "reason", None) or "") or str(error) or type(error).__name__
