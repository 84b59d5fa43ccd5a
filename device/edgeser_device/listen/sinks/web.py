"""A page with live bars, the log-mel as it scrolls and what was heard, by server-sent events; /metrics; recordings.

The server is the standard library's. It binds to 127.0.0.1 unless an address is given; then a token is asked for: in
the address once (it becomes a cookie), or as ``Authorization: Bearer`` (Prometheus). Without a token, requests for any
host but this machine are refused, so that a page elsewhere cannot read this one through a name of its own.

Messages go through a ``Feed``: many readers, and who writes waits for none of them. ``POST /classify`` takes a WAV and
gives the answer of ``edgeser predict``, where ``edgeser serve`` runs the page. docs/reference/http.md has all of it.
"""

from __future__ import annotations

import base64
import errno
import hmac
import json
import os
import re
import secrets
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from queue import Empty, Queue
from typing import Any, TypeAlias
from urllib.parse import parse_qs, quote, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import ListenError, PortInUse
from edgeser_device.frontend import FrontendSpec, FrontendStream
from edgeser_device.listen.events import Counters, Event, Status, prometheus_text
from edgeser_device.listen.gate import level_db
from edgeser_device.listen.sinks.sink import Sink
from edgeser_device.model.model import Model
from edgeser_device.model.predict import Recogniser
from edgeser_export.utilities.errors import EdgeserError

DEFAULT_ADDRESS = "127.0.0.1:8765"
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
TOKEN = "EDGESER_WEB_TOKEN"  # noqa: S105  the name of a variable
"""A token that stays the same from start to start; without it, each start makes one."""
TOKEN_BYTES = 18
SHOWN_DB = (-90.0, 0.0)
"""Levels of the log-mel that are black and white."""
COLUMNS_AT_ONCE = 3
"""Frames in one message: about ten messages a second."""
HEARTBEAT_SECONDS = 10.0
WAITING = 200
"""Messages that may wait for one reader; the oldest are thrown away for a slow one."""
REPLAYED = 20
"""Answers that a page shows which is opened later."""
MOST_BYTES = 10 << 20
"""Size of a recording that is taken: five minutes at 16 kHz in 16 bits."""
UPLOADS = 4
"""Recordings that are taken at once; more wait for a moment, and are then refused."""
UPLOAD_SECONDS = 10.0
DRAINED = 8 * MOST_BYTES
"""Bytes of a refused recording that are read, so that who sends it gets the answer instead of a broken connection."""
JSON = "application/json"
Classify: TypeAlias = Callable[[bytes], Mapping[str, Any]]
"""The answer to the content of a WAV file, as JSON values; raises an EdgeserError where there is none."""
PAGES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Address:
    """The address of the page.

    Attributes:
        host: Name or number; "" for every address of the machine.
        port: 0 for any that is free.
    """

    host: str
    port: int

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOCAL


def parse_address(text: str) -> Address:
    """HOST:PORT, or :PORT for every address of the machine; IPv6 in brackets.

    Raises:
        ListenError: It is none of these.
    """
    host, separator, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not separator or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535 or (":" in bare and bare == host):
        raise ListenError(f"{text!r} is no address", "give HOST:PORT, such as 0.0.0.0:8765")
    return Address("" if bare in ("0.0.0.0", "*") else bare, int(port))  # noqa: S104  the user asked for it


class WebPage(Sink):
    """Turns what is heard into messages for the open pages."""

    def __init__(self, feed: Feed, spec: FrontendSpec, counters: Counters) -> None:
        self._feed, self._spec, self._counters = feed, spec, counters
        self._stream: FrontendStream | None = None
        self._columns: list[NDArray[np.uint8]] = []
        self._level = 0.0

    def event(self, event: Event) -> None:
        """Send it; an answer also to pages that open later."""
        self._feed.send("event", event.to_json(), replay=event.final)

    def status(self, status: Status) -> None:
        """Send it; a page that opens later gets it too."""
        self._counters.web_clients = self._feed.readers
        self._feed.send("status", status.to_json(), keep=True)

    def sound(self, samples: NDArray[np.float32]) -> None:
        """Send its log-mels; nothing is computed while no page is open."""
        if not self._feed.readers:
            self._stream = None
            return
        if self._stream is None:
            self._stream, self._columns = FrontendStream(self._spec), []
        low, high = SHOWN_DB
        frames = self._stream.push(samples[-8 * self._spec.rate :])
        shown = np.clip((frames - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
        self._columns.extend(shown.T)
        if len(self._columns) >= COLUMNS_AT_ONCE:
            data = base64.b64encode(np.concatenate(self._columns).tobytes()).decode()
            level = round(level_db(samples), 1)
            self._feed.send("sound", {"bands": self._spec.mels, "columns": data, "level_db": level})
            self._columns = []


def facts_of(model: Model) -> dict[str, Any]:
    """What a visitor should know of a model, as plain JSON values.

    "uar" is its unweighted average recall: where "uar_here" is true, as measured on this machine, else as it was
    expected when the kit was packed; None where neither is known. "synthetic" says that a program spoke the corpus.
    """
    known = model.description
    corpus, tested = known.get("provenance", {}).get("corpus", {}), known.get("tested")
    uar = tested["uar"] if tested else known.get("uar_packed")
    return {
        "schema": 1, "model": model.words, "labels": list(model.labels), "corpus": corpus.get("title"),
        "language": corpus.get("language"), "synthetic": corpus.get("kind") == "synthetic", "uar": uar,
        "uar_here": bool(tested), "tested_on": tested["corpus"] if tested else None,
    }  # fmt: skip


@contextmanager
def web_page(
    address: str | None,
    recogniser: Recogniser,
    counters: Counters,
    facts: Mapping[str, Any],
    classify: Classify | None = None,
) -> Iterator[Sink]:
    """Serve the page while the block runs, and say on stderr where it is.

    Args:
        address: HOST:PORT; None for the usual one.
        recogniser: What is listened with.
        counters: The numbers on /metrics.
        facts: What the page says of the model; see :func:`facts_of`.
        classify: What answers recordings that are posted; None where none are taken. It runs in any thread.

    Raises:
        ListenError: The address cannot be understood.
        PortInUse: It is taken, or not ours.
    """
    place = parse_address(address or DEFAULT_ADDRESS)
    token = None if place.local else os.environ.get(TOKEN) or secrets.token_urlsafe(TOKEN_BYTES)
    feed = Feed()
    feed.send("model", facts, keep=True)
    server = _bind(place, token, feed, counters, classify)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="web", daemon=True)
    thread.start()
    sys.stderr.write(f"page: {page_url(place, server.server_address[1], token)}\n")
    sys.stderr.flush()
    try:
        yield WebPage(feed, recogniser.frontend, counters)
    finally:
        feed.close()
        server.shutdown()
        server.server_close()
        thread.join()


def page_url(place: Address, port: int, token: str | None) -> str:
    """The page's URL, as it is typed into a browser."""
    host = place.host or socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={quote(token, safe='')}" if token else "")


def _bind(place: Address, token: str | None, feed: Feed, counters: Counters, classify: Classify | None) -> PageServer:
    try:
        return PageServer(place, token, feed, counters, classify)
    except UnicodeError as error:  # a name that is too long, or has letters that no network takes
        raise ListenError(f"{place.host!r} is no name of a host", "give HOST:PORT, such as 0.0.0.0:8765") from error
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "another program has it" if taken else str(error.strerror or error)
        raise PortInUse(
            f"the page cannot be served at {place.host or '0.0.0.0'}:{place.port}: {reason}",  # noqa: S104
            "choose another one: --web-address 127.0.0.1:8766",
        ) from error


class PageServer(ThreadingHTTPServer):
    """One thread a connection; they end with the program."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self, place: Address, token: str | None, feed: Feed, counters: Counters, classify: Classify | None
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        self.place, self.token, self.feed, self.counters = place, token, feed, counters
        self.classify, self.uploads = classify, threading.BoundedSemaphore(UPLOADS)
        super().__init__((place.host, place.port), PageHandler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves is nothing to talk about."""


class PageHandler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Answer a request."""
        path = urlsplit(self.path).path
        if refusal := self._refusal():
            self._answer(refusal[0], f"{refusal[1]}\n".encode())
        elif path in PAGES:
            name, kind = PAGES[path]
            page = files("edgeser_device.listen.sinks").joinpath("page", name).read_bytes()
            self._answer(HTTPStatus.OK, page, kind)
        elif path == "/events":
            self._stream_events()
        elif path == "/metrics":
            text = prometheus_text(self.server.counters.to_json())
            self._answer(HTTPStatus.OK, text.encode(), "text/plain; version=0.0.4; charset=utf-8")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"nothing here\n")

    def do_POST(self) -> None:
        """Answer a recording."""
        length = self.headers.get("Content-Length", "")
        if refusal := self._refusal() or self._upload_refusal():
            self._complain(*refusal, unread=int(length) if _is_length(length) else 0)
        elif not self.server.uploads.acquire(timeout=UPLOAD_SECONDS):
            self._complain(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many recordings at once", "send it again later", int(length)
            )
        else:
            try:
                self._classify(self.rfile.read(int(length)))
            finally:
                self.server.uploads.release()

    def handle_expect_100(self) -> bool:
        """Refuse a recording before it is sent, where the sender asks first."""
        refusal = self._refusal() or self._upload_refusal()
        if refusal is None:
            return super().handle_expect_100()
        self._complain(*refusal)
        return False

    def _classify(self, data: bytes) -> None:
        if self.server.classify is None:
            raise RuntimeError("no recording is read before it is known that it is answered")
        try:
            found = self.server.classify(data)
        except EdgeserError as error:
            self._complain(HTTPStatus.UNPROCESSABLE_ENTITY, error.message, error.hint)
        else:
            self._answer(HTTPStatus.OK, json.dumps({"schema": 1, **found}, allow_nan=False).encode(), JSON)

    def _complain(self, code: HTTPStatus, message: str, hint: str | None = None, unread: int = 0) -> None:
        """Refuse a recording in JSON, and throw away the ``unread`` bytes of it that are still sent."""
        self.close_connection = True
        body = json.dumps({"schema": 1, "error": message, "hint": hint}).encode()
        self._answer(code, body, JSON)
        left = min(unread, DRAINED)
        while left > 0 and (read := self.rfile.read(min(left, 1 << 16))):
            left -= len(read)

    def _refusal(self) -> tuple[HTTPStatus, str] | None:
        """The answer to a request that nobody may make; None for all others."""
        if not self._host_is_ours():
            return HTTPStatus.MISDIRECTED_REQUEST, "another host"
        if not self._may_enter():
            return HTTPStatus.UNAUTHORIZED, "the token is missing or wrong"
        return None

    def _upload_refusal(self) -> tuple[HTTPStatus, str] | None:
        """The answer to a recording that is not read at all; None for all others."""
        origin = self.headers.get("Origin")
        length = self.headers.get("Content-Length", "")
        if urlsplit(self.path).path != "/classify" or self.server.classify is None:
            return HTTPStatus.NOT_FOUND, "recordings are answered at /classify of edgeser serve"
        if self.server.token is None and origin is not None and urlsplit(origin).netloc != self.headers.get("Host"):
            return HTTPStatus.FORBIDDEN, "a page of another place may not send recordings"
        if not _is_length(length) or "Transfer-Encoding" in self.headers:
            return HTTPStatus.LENGTH_REQUIRED, "send the WAV as the body, with its Content-Length"
        if int(length) > MOST_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the recording has more than {MOST_BYTES} bytes"
        return None

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Visits are not logged."""

    def _host_is_ours(self) -> bool:
        # With a token nobody else can read anything; without one a name that resolves to 127.0.0.1 must not help.
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        return self.server.token is not None or name in LOCAL

    def _may_enter(self) -> bool:
        token = self.server.token
        return token is None or any(hmac.compare_digest(given.encode(), token.encode()) for given in self._given())

    def _given(self) -> Iterator[str]:
        yield from parse_qs(urlsplit(self.path).query).get("token", [])
        yield self.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get("edgeser")
        except CookieError:
            cookie = None
        if cookie is not None:
            yield unquote(cookie.value)

    def _head(self, code: HTTPStatus, kind: str, length: int | None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if code == HTTPStatus.OK and self.server.token is not None:
            self.send_header(
                "Set-Cookie", f"edgeser={quote(self.server.token, safe='')}; HttpOnly; SameSite=Strict; Path=/"
            )
        self.end_headers()

    def _answer(self, code: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self._head(code, kind, len(body))
        self.wfile.write(body)

    def _stream_events(self) -> None:
        self.close_connection = True
        self._head(HTTPStatus.OK, "text/event-stream", None)
        with self.server.feed.reader() as messages:
            while (message := messages.take(HEARTBEAT_SECONDS)) is not None:
                self.wfile.write(message or b": still here\n\n")
                self.wfile.flush()


def _is_length(text: str) -> bool:
    return re.fullmatch("[0-9]{1,15}", text) is not None


class Reader:
    """The messages that one open page has not read yet."""

    def __init__(self) -> None:
        self._messages: Queue[bytes | None] = Queue(WAITING)

    def put(self, message: bytes | None) -> None:
        """Add a message, in the place of the oldest one where too many wait; None says that nothing more comes."""
        if self._messages.full():
            with suppress(Empty):
                self._messages.get_nowait()
        self._messages.put(message)

    def take(self, timeout: float) -> bytes | None:
        """All messages as one; empty if none came within ``timeout`` seconds; None when nothing more comes."""
        found = []
        with suppress(Empty):
            found.append(self._messages.get(timeout=timeout))
            while found[-1] is not None:
                found.append(self._messages.get_nowait())
        if found[1:] and found[-1] is None:
            self._messages.put(None)
        return None if found == [None] else b"".join(message for message in found if message is not None)


class Feed:
    """Server-sent events for every open page."""

    def __init__(self) -> None:
        self._readers: frozenset[Reader] = frozenset()
        self._kept: dict[str, bytes] = {}
        self._replayed: deque[bytes] = deque(maxlen=REPLAYED)
        self._lock = threading.Lock()
        self._closed = False

    @property
    def readers(self) -> int:
        """Open pages."""
        return len(self._readers)

    def send(self, kind: str, value: Any, keep: bool = False, replay: bool = False) -> None:
        """Send ``value`` as JSON to all.

        Those that come later get it too: with ``keep`` the latest of its kind, with ``replay`` the last ``REPLAYED``
        values, as events of the kind ``past``.
        """
        if not self._readers and not keep and not replay:
            return
        data = f"data: {json.dumps(value, allow_nan=False, ensure_ascii=False)}\n\n"
        message = f"event: {kind}\n{data}".encode()
        with self._lock:
            if keep:
                self._kept[kind] = message
            if replay:
                self._replayed.append(f"event: past\n{data}".encode())
            for reader in self._readers:
                reader.put(message)

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """A reader of all that comes while the block runs, and of what was kept."""
        reader = Reader()
        with self._lock:
            for message in (*self._kept.values(), *self._replayed):
                reader.put(message)
            self._readers |= {reader}
            if self._closed:
                reader.put(None)
        try:
            yield reader
        finally:
            with self._lock:
                self._readers -= {reader}

    def close(self) -> None:
        """End every reader."""
        with self._lock:
            self._closed = True
            for reader in self._readers:
                reader.put(None)
