"""Any legal label and title, from a run to a kit, a model, and everything that shows an answer."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from device.kits import synthetic_set, write_kit, write_run
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgeser.cli.entry import main
from edgeser.packaging.pack import pack_kit
from edgeser_device.errors import KitError
from edgeser_device.kit.kit import read_kit
from edgeser_device.listen.sinks.mqtt import discovery, parse_broker
from edgeser_device.model.inputs import input_of
from edgeser_device.model.model import load_model
from edgeser_device.personal.own_clips import read_clips
from edgeser_device.train.train import Settings, train
from edgeser_export.utilities.outside import is_label, require_text, tidy

labels = st.text(max_size=40).map(tidy).filter(is_label)
titles = st.text(max_size=200).map(tidy).filter(lambda text: not any(ord(sign) < 32 for sign in text))


def printed(capfd: pytest.CaptureFixture[str], *words: object) -> str:
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    said = capfd.readouterr()
    assert not ended.value.code, said.err
    return said.out


@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(labels, min_size=3, max_size=3, unique_by=str.casefold), titles)
@example(["幸せ", 'so-so, "neutral"', "a[bold]|b[x]"], "Ünser $x_{$ <Küche> | `*_")
@example(["😮\u200d💨", "\u0628\u06cc\u200c\u062a", "a 'b'; c,d"], "x" * 4000)
def test_labels_and_titles_survive(
    capfd: pytest.CaptureFixture[str], recording: Path, names: list[str], title: str
) -> None:
    try:
        require_text(title, "")
    except ValueError:
        title = "plain"
    names = sorted(names)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        texts = dict.fromkeys(("title", "licence", "citation", "consent", "notes", "language"), title)
        distilled = replace(synthetic_set(steps=4), names=tuple(names))
        kit = read_kit(write_kit(folder, distilled, corpus={"name": "folder", **texts}).path)
        assert list(kit.labels) == names
        assert kit.manifest["provenance"]["corpus"]["notes"] == title
        shown = json.loads(printed(capfd, "inspect", kit.path, "--json"))
        assert shown["labels"] == names
        assert printed(capfd, "inspect", kit.path)
        train(kit, folder / "model", Settings(threads=1))
        model = load_model(folder / "model")
        assert list(model.labels) == names
        found = json.loads(printed(capfd, "predict", model.folder, recording, "--json"))
        assert found["labels"] == names
        assert list(found["predictions"][0]["probabilities"]) == names
        assert found["predictions"][0]["emotion"] in (None, *names)
        rows = list(csv.reader(io.StringIO(printed(capfd, "predict", model.folder, recording, "--csv"))))
        assert rows[0] == ["file", "emotion", "state", *names]
        assert printed(capfd, "predict", model.folder, recording)
        told = discovery(parse_broker("mqtt://here/a"), names)
        assert json.loads(json.dumps(told))["homeassistant/sensor/a/emotion/config"]["options"][:3] == names
        for number, name in enumerate(names):
            (folder / "clips" / name).mkdir(parents=True, exist_ok=True)
            for take in "ab":
                noise = np.random.default_rng([number, ord(take)]).normal(0, 0.1, 16_000)
                soundfile.write(folder / "clips" / name / f"{take}.wav", noise, 16_000)
        own = read_clips(folder / "clips", kit.labels, input_of(kit))
        assert own.classes.tolist() == sorted([0, 1, 2] * 2, key=lambda place: names[place])


@pytest.mark.parametrize("label", ["a/b", "a\u200eb", "cole\u0301re", " anger", "", "x" * 49])
def test_a_kit_with_another_label_is_refused_and_does_not_stay(tmp_path: Path, label: str) -> None:
    run = write_run(tmp_path / "run", replace(synthetic_set(), names=(label, "b", "c")))
    kept = tmp_path / "a.edgeser"
    kept.write_bytes(b"the one before")
    with pytest.raises(KitError, match="impossible 'labels'"):
        pack_kit(run, "rpi4", kept)
    assert kept.read_bytes() == b"the one before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.edgeser", "run"]
