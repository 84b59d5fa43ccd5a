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
from collections.abc import Callable
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


def _attempt(address: str, path: Path, progress: Callable[[int, int | None], None] | None) -> None:
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
    """Where the server's bytes begin in the file, and how long the whole file is, if the server says."""
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
