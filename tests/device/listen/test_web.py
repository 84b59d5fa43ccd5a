"""The page's server: who may enter, what is streamed, which addresses are understood."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from edgeser_device.errors import ListenError, PortInUse
from edgeser_device.listen.events import Counters, Event, Status
from edgeser_device.listen.sinks.sink import Sink
from edgeser_device.listen.sinks.web import WAITING, Address, Feed, facts_of, page_url, parse_address, web_page
from edgeser_device.model.model import Model
from edgeser_device.model.predict import Recogniser

EVENT = Event(1.0, "anger", {"anger": 0.9, "neutral": 0.1}, True, -20.0, 5.0, "sure", 0.9, True, 0.2, 0.9)
STATUS = Status("listening", "listening to vmic", "vmic", None, Counters().to_json())


@contextmanager
def served(model: Model, capsys: pytest.CaptureFixture[str], address: str) -> Iterator[tuple[Sink, int, str]]:
    """(sink, port, the URL that was printed)"""
    with web_page(address, Recogniser.open(model, "onnx"), Counters(), facts_of(model)) as sink:
        url = capsys.readouterr().err.removeprefix("page: ").strip()
        yield sink, int(url.split("/?")[0].rstrip("/").rpartition(":")[2]), url


def ask(port: int, path: str = "/", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_the_page_needs_nothing_from_elsewhere(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    with served(model, capsys, "127.0.0.1:0") as (_, port, url):
        assert url == f"http://127.0.0.1:{port}/"
        for path in ("/", "/page.css", "/page.js", "/favicon.svg"):
            code, headers, body = ask(port, path)
            assert code == 200
            body = body.replace(
                b"http://www.w3.org/2000/svg", b""
            )  # a name of the format, from where nothing is loaded
            assert headers["Content-Security-Policy"].startswith("default-src 'self'")
            assert b"http" not in body
        assert ask(port, "/nothing")[0] == 404
        assert ask(port, "/../sink.py")[0] == 404


def test_without_a_token_only_this_machine_is_answered(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    with served(model, capsys, "127.0.0.1:0") as (_, port, _):
        assert ask(port, Host="evil.example")[0] == 421
        assert ask(port, Host=f"localhost:{port}")[0] == 200


def test_with_an_address_of_the_network_a_token_is_asked_for(
    model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGESER_WEB_TOKEN", raising=False)
    with served(model, capsys, "0.0.0.0:0") as (_, port, url):
        token = url.partition("?token=")[2]
        assert len(token) >= 20
        for path in ("/", "/events", "/metrics", "/page.js"):
            assert ask(port, path)[0] == 401
            assert ask(port, f"{path}?token=x{token[1:]}%C3%A9")[0] == 401
        code, headers, _ = ask(port, f"/?token={token}")
        assert code == 200
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert ask(port, "/page.js", Cookie=cookie.partition(";")[0])[0] == 200
        assert ask(port, "/metrics", Authorization=f"Bearer {token}")[0] == 200
    monkeypatch.setenv("EDGESER_WEB_TOKEN", "the same after each start")
    with served(model, capsys, "0.0.0.0:0") as (_, port, _):
        assert ask(port, "/", Authorization="Bearer the same after each start")[0] == 200
    monkeypatch.setenv("EDGESER_WEB_TOKEN", 'a+b&c=d; "e%ü')  # letters that mean something in an address or a cookie
    with served(model, capsys, "0.0.0.0:0") as (_, port, url):
        code, headers, _ = ask(port, f"/?token={url.partition('?token=')[2]}")
        assert code == 200
        assert ask(port, "/page.js", Cookie=headers["Set-Cookie"].partition(";")[0])[0] == 200


def test_events_are_streamed(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    with served(model, capsys, "127.0.0.1:0") as (sink, port, _):
        sink.status(STATUS)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/events")
        answer = connection.getresponse()
        assert answer.getheader("Content-Type") == "text/event-stream"
        assert message(answer) == ("model", facts_of(model))
        assert message(answer) == ("status", STATUS.to_json())
        sink.event(EVENT)
        kind, event = message(answer)
        assert kind == "event"
        assert event == {**EVENT.to_json(), "time": event["time"]}
        sink.sound(np.zeros(4 * 1024, np.float32))
        kind, sound = message(answer)
        assert kind == "sound"
        assert sound["bands"] == 64
        connection.close()


def message(answer: http.client.HTTPResponse) -> tuple[str, dict[str, object]]:
    kind = answer.readline().decode().removeprefix("event: ").strip()
    data = json.loads(answer.readline().decode().removeprefix("data: "))
    assert answer.readline() == b"\n"
    return kind, data


def test_metrics_are_those_of_the_listener(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    with served(model, capsys, "127.0.0.1:0") as (_, port, _):
        code, headers, body = ask(port, "/metrics")
        assert code == 200
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"edgeser_dropped_blocks_total 0\n" in body


def test_a_port_that_is_taken(model: Model) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        place = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(PortInUse, match=f"served at {place}: another program has it"):
            web_page(place, Recogniser.open(model, "onnx"), Counters(), facts_of(model)).__enter__()


@pytest.mark.parametrize(
    ("text", "host", "port", "local"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("localhost:0", "localhost", 0, True),
        ("[::1]:9", "::1", 9, True),
        ("0.0.0.0:8765", "", 8765, False),
        (":8765", "", 8765, False),
        ("raspberrypi.local:1", "raspberrypi.local", 1, False),
    ],
)
def test_addresses(text: str, host: str, port: int, local: bool) -> None:
    assert parse_address(text) == Address(host, port)
    assert parse_address(text).local is local


@pytest.mark.parametrize("text", ["8765", "host", "host:", "host:x", "host:99999", "::1:80", ""])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ListenError, match="is no address"):
        parse_address(text)


def test_urls() -> None:
    assert page_url(Address("::1", 0), 99, None) == "http://[::1]:99/"
    assert page_url(Address("pi.local", 0), 99, "t") == "http://pi.local:99/?token=t"


def test_a_reader_that_does_not_read_costs_nothing() -> None:
    feed = Feed()
    with feed.reader() as slow:
        for number in range(3 * WAITING):
            feed.send("event", {"n": number})
        text = slow.take(0).decode()
        assert text.count("data: ") == WAITING
        assert f'"n": {3 * WAITING - 1}' in text
        feed.close()
        assert slow.take(0) is None
    assert feed.readers == 0
    with feed.reader() as late:
        assert late.take(0) is None
