"""``edgeser serve`` as a program: the answers of predict, what it refuses, and what its page and counters then say."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeser_device.listen.serve import MOST_SECONDS
from edgeser_device.listen.sinks.web import MOST_BYTES, REPLAYED
from edgeser_device.model.model import Model
from edgeser_device.model.predict import Recogniser, predict_file


class Service:
    """``edgeser serve MODEL`` at a free port."""

    def __init__(self, model: Path, host: str = "127.0.0.1") -> None:
        words = [sys.executable, "-m", "edgeser", "serve", str(model), "--web-address", f"{host}:0"]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.url = self.process.stderr.readline().removeprefix("page: ").strip()
        self.port = int(self.url.split("/?")[0].rstrip("/").rpartition(":")[2])

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def end(self) -> str:
        """End it as systemd does; what it had printed on stdout."""
        self.process.terminate()
        printed, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return printed


@pytest.fixture(scope="module")
def service(model: Model) -> Iterator[Service]:
    running = Service(model.folder)
    yield running
    assert running.end() == ""


def test_a_recording_gets_the_answer_of_predict(service: Service, model: Model, recording: Path) -> None:
    code, body = service.ask("POST", "/classify", recording.read_bytes())
    expected = predict_file(Recogniser.open(model), recording).to_json()
    assert code == 200
    assert json.loads(body) == {"schema": 1, **expected, "file": None}


def wav(samples: int, subtype: str, folder: Path, rate: int = 16000) -> bytes:
    path = folder / f"{subtype}.wav"
    soundfile.write(path, np.zeros(samples, np.float32), rate, subtype=subtype)
    return path.read_bytes()


def test_what_is_no_recording_is_refused_in_json(service: Service, tmp_path: Path) -> None:
    long = wav(int(8001 * MOST_SECONDS), "GSM610", tmp_path, rate=8000)
    assert len(long) < MOST_BYTES
    flac = tmp_path / "a.flac"
    soundfile.write(flac, np.zeros(1600, np.float32), 16000)
    for code, words, body, headers in [
        (422, "is no WAV", b"", {}),
        (422, "is no WAV", flac.read_bytes(), {}),
        (422, "cannot be decoded", b"RIFF" + bytes(100), {}),
        (422, "holds no samples", wav(0, "PCM_16", tmp_path), {}),
        (422, "longer than", long, {}),
        (411, "Content-Length", b"x", {"Transfer-Encoding": "chunked"}),
        (413, "more than", bytes(MOST_BYTES + 1), {}),
        (403, "another place", b"x", {"Origin": "http://elsewhere.example"}),
        (421, "another host", b"x", {"Host": "elsewhere.example"}),
    ]:
        found, text = service.ask("POST", "/classify", body, **headers)
        assert (found, words in json.loads(text)["error"]) == (code, True), text
    assert service.ask("POST", "/", b"x")[0] == 404
    assert service.ask("GET", "/classify")[0] == 404


def test_a_large_recording_is_refused_before_it_is_sent(service: Service) -> None:
    head = f"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MOST_BYTES + 1}\r\n"
    with socket.create_connection(("127.0.0.1", service.port), 30) as connection:
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_the_page_and_the_counters_know_the_answers(service: Service, recording: Path) -> None:
    for _ in range(REPLAYED + 1):
        assert service.ask("POST", "/classify", recording.read_bytes())[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    connection.request("GET", "/events")
    answer, kinds = connection.getresponse(), list[str]()
    while kinds.count("past") < REPLAYED:
        kinds.append(answer.readline().decode().removeprefix("event: ").strip())
        event = json.loads(answer.readline().decode().removeprefix("data: "))
        answer.readline()
    assert kinds[:2] == ["model", "status"]
    assert event["final"]
    assert event["time"].startswith("20")
    service.ask("POST", "/classify", recording.read_bytes())
    until = time.monotonic() + 20
    while answer.readline() != b"event: event\n":
        assert time.monotonic() < until
    connection.close()
    metrics = service.ask("GET", "/metrics")[1].decode()
    count = next(line for line in metrics.splitlines() if line.startswith("edgeser_utterances_total "))
    assert int(count.split()[1]) >= REPLAYED + 2


def test_in_a_network_the_token_is_asked_for(model: Model, recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESER_WEB_TOKEN", "known")
    service = Service(model.folder, "0.0.0.0")
    assert service.url.endswith("/?token=known")
    assert service.ask("POST", "/classify", recording.read_bytes())[0] == 401
    assert service.ask("POST", "/classify", recording.read_bytes(), Authorization="Bearer known")[0] == 200
    assert service.end() == ""
