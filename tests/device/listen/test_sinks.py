"""What people and programs see of events: lines, bars, and Home Assistant's topics."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from io import StringIO
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeser_device.errors import ListenError
from edgeser_device.listen.events import Counters, Event, Status
from edgeser_device.listen.sinks.mqtt import Topics, discovery, home_assistant_id, parse_broker
from edgeser_device.listen.sinks.terminal import Complaints, Lines, json_line, picture, plain_line

SURE = Event(3.0, "anger", {"anger": 0.9, "joy": 0.1}, True, -20.0, 5.0, "sure", 0.9)
FINAL = replace(SURE, t=4.0, final=True, began=2.0, ended=3.6)
QUIET = replace(SURE, t=5.0, speech=False, emotion=None, state="no_speech", confidence=0.0)
STATUS = Status("listening", "listening to vmic", "vmic", None, Counters().to_json())


def test_lines_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    sink = Lines(json_line)
    for event in (SURE, FINAL, QUIET):
        sink.event(event)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["state"] for row in rows] == ["sure", "sure", "no_speech"]
    assert set(rows[0]) >= {"t", "emotion", "probabilities", "speech", "level_db", "latency_ms"}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (SURE, "    3.00 s   anger 90%              -20.0 dB"),
        (replace(FINAL, clip="a.wav"), "    4.00 s = anger 90%              -20.0 dB  stored: a.wav"),
        (replace(SURE, state="uncertain"), "    3.00 s   anger? 90%             -20.0 dB"),
        (QUIET, "    5.00 s   (no speech)            -20.0 dB"),
    ],
)
def test_lines_for_people(event: Event, expected: str) -> None:
    assert plain_line(event) == expected


def test_the_microphone_is_spoken_of_when_something_changes(capsys: pytest.CaptureFixture[str]) -> None:
    sink = Complaints()
    for status in (STATUS, STATUS, replace(STATUS, condition="lost", words="gone"), STATUS):
        sink.status(status)
    assert capsys.readouterr().err.splitlines() == ["listening to vmic", "gone", "listening to vmic"]


def drawn(event: Event | None, status: Status | None, finals: tuple[Event, ...] = ()) -> str:
    from rich.console import Console

    out = StringIO()
    Console(file=out, width=100).print(picture(event, status, finals))
    return out.getvalue()


def test_bars_and_what_was_said() -> None:
    text = drawn(SURE, replace(STATUS, storing="clips"), (FINAL,))
    assert "anger █████" in text
    assert "2.0 s to 3.6 s  anger 90%" in text
    assert "what is said is stored in clips" in text
    assert drawn(None, None) == ""


def test_adaptation_is_shown() -> None:
    assert "adapted to the last 7" in drawn(SURE, replace(STATUS, adapted="adapted to the last 7 utterances"), (FINAL,))
    assert "  adapted" in plain_line(replace(FINAL, adapted=True))
    assert "adapted" not in plain_line(FINAL)


def test_labels_and_files_are_not_markup() -> None:
    """A label comes from a kit, and a kit from anywhere."""
    name = "anger[/bold]"
    event = replace(SURE, emotion=name, probabilities={name: 0.5, "joy": 0.5})
    text = drawn(event, replace(STATUS, words="[red]x", storing="[/b]"), (replace(event, final=True),))
    assert f"{name} " in text
    assert "[red]x" in text
    assert "[/b]" in text


# MQTT ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://host", ("host", 1883, False, None, None)),
        ("mqtts://host", ("host", 8883, True, None, None)),
        ("mqtt://u@h:99/a/b", ("h", 99, False, "u", None)),
        ("mqtts://u%40x:p%2F@h/a", ("h", 8883, True, "u@x", "p/")),
        ("mqtt://[::1]:5/x", ("::1", 5, False, None, None)),
    ],
)
def test_brokers(url: str, expected: tuple[object, ...]) -> None:
    found = parse_broker(url, {})
    assert (found.host, found.port, found.tls, found.user, found.password) == expected
    assert found.topic


def test_the_password_of_the_environment_goes_first() -> None:
    assert parse_broker("mqtt://u:seen@h", {"EDGESER_MQTT_PASSWORD": "hidden"}).password == "hidden"


@pytest.mark.parametrize(
    "url", ["http://h", "h", "mqtt://", "mqtt://h:x", "mqtt://h:99999", "mqtt://h/a/#", "mqtt://h/+", "mqtt://[::1", "mqtt://h..x",
     f"mqtt://{'h' * 64}", "mqtt://h/line%0abreak", "mqtt://h/\udce9", f"mqtt://h/{'a' * 201}"],
)  # fmt: skip
def test_no_brokers(url: str) -> None:
    with pytest.raises(ListenError):
        parse_broker(url, {})


def test_a_wrong_url_does_not_show_the_password() -> None:
    with pytest.raises(ListenError) as caught:
        parse_broker("http://u:secret@h", {})
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


@given(st.text(), st.text())
@example("home/desk", "home_desk")
@example("küche", "kuche")
@example("", "-")
@example("a" * 41, "a" * 40)
def test_ids_are_those_that_home_assistant_takes_and_stay_distinct(one: str, other: str) -> None:
    # The pattern of Home Assistant's discovery: (?P<node_id>[a-zA-Z0-9_-]+); other topics are dropped.
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,53}", home_assistant_id(name)) for name in (one, other))
    assert (home_assistant_id(one) == home_assistant_id(other)) == (one == other)


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=50))
def test_every_topic_that_is_taken_is_discovered(topic: str) -> None:
    try:
        broker = parse_broker(f"mqtt://h/{quote(topic, safe='')}", {})
    except ListenError:
        return
    for place, row in discovery(broker, ["anger"]).items():
        assert re.fullmatch("homeassistant/[a-z_]+/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/config", place)
        assert re.fullmatch("[a-zA-Z0-9_-]+", row["unique_id"])


def test_discovery_names_what_is_published() -> None:
    node = home_assistant_id("home/desk")
    rows = discovery(parse_broker("mqtt://h/home/desk", {}), ["anger", "joy"])
    assert set(rows) == {
        f"homeassistant/{kind}/{node}/{name}/config"
        for kind, name in (
            ("sensor", "emotion"), ("sensor", "confidence"), ("sensor", "level"),
            ("binary_sensor", "microphone"), ("binary_sensor", "storing"), ("sensor", "adapted"),
        )
    }  # fmt: skip
    assert len({row["unique_id"] for row in rows.values()}) == 6
    assert {row["availability_topic"] for row in rows.values()} == {"home/desk/status"}
    emotion = rows[f"homeassistant/sensor/{node}/emotion/config"]
    assert emotion["options"] == ["anger", "joy", "uncertain", "no_speech", "too_short"]
    assert emotion["state_topic"] == "home/desk/state"


def test_what_is_heard_is_published_when_it_changes() -> None:
    sent: list[tuple[str, str]] = []

    class Client:
        def publish(self, topic: str, value: str, **_: object) -> None:
            sent.append((topic, value))

    topics = Topics(Client(), parse_broker("mqtt://h/t", {}), ["anger", "joy"], Counters())
    for event in (QUIET, QUIET, SURE, SURE, FINAL, QUIET):
        topics.event(event)
    assert [topic for topic, _ in sent] == ["t/state", "t/state", "t/state", "t/utterance", "t/state"]
    assert [json.loads(value)["shown"] for _, value in sent] == ["no_speech", "anger", "anger", "anger", "no_speech"]
