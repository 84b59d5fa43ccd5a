"""Kits of an encoder: packed with and without its file, trained without it, heard through it, refused when changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tomli_w
from device.kits import write_keys
from device.mutants import sealed
from numpy.typing import NDArray

from edgeser.config.values import settings_of
from edgeser.distill.pipeline import distill
from edgeser.encoders.store import card_bytes, open_encoder
from edgeser.packaging.deploy import Board, prepare
from edgeser.packaging.pack import pack_kit
from edgeser.packaging.targets import find_target
from edgeser.representation import representation_of
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.bench.bench_child import measure
from edgeser_device.data.audio import read_audio, read_blocks
from edgeser_device.encoder import Encoder
from edgeser_device.errors import EncoderError, GateFailed, KitDamaged, KitError, ModelError
from edgeser_device.install.doctor import check_encoders
from edgeser_device.install.slots import check_slot, describe, install_kit
from edgeser_device.kit.archive import open_archive
from edgeser_device.kit.kit import ENCODER, ENCODER_CARD, INITIAL, MANIFEST, Kit, read_kit
from edgeser_device.listen.gate import Gate
from edgeser_device.listen.live import Listener, ListenSettings
from edgeser_device.model import adaptation
from edgeser_device.model.adaptation import FEWEST, OwnVoice
from edgeser_device.model.inputs import LogMelInput, encoder_path, input_of, install_encoder
from edgeser_device.model.model import OWN, Model, load_model, require_replaceable, rollback
from edgeser_device.model.predict import Recogniser, clip_probabilities, predict_file
from edgeser_device.personal.fine_tune import PersonalSettings, fine_tune
from edgeser_device.personal.kept_clips import read_kept, remove_kept
from edgeser_device.personal.own_clips import read_clips
from edgeser_device.personal.student_parts import OF_VECTORS
from edgeser_device.train.train import Settings, train
from edgeser_export.graph.reference import run_reference
from edgeser_export.utilities.errors import EdgeserError

RATE = 16000
DEMO = Path(str(files("edgeser.corpora").joinpath("demo_data")))


SETTINGS = {
    "corpus": "demo",
    "method": "random",
    "arch": "mlp",
    "ipc": 2,
    "width": 0.25,
    "views": 4,
    "experts.count": 1,
    "experts.steps": 12,
    "steps": 12,
    "batch": 16,
}


@pytest.fixture(scope="module")
def run(tiny_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the demo corpus in vectors of the tiny encoder."""
    settings = settings_of({**SETTINGS, "encoder": tiny_encoder})
    return distill(settings, tmp_path_factory.mktemp("runs") / "run", Workers(1), resume=False, warn=lambda _: None)


@pytest.fixture(scope="module")
def kit(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A kit that brings its encoder."""
    return read_kit(pack_kit(run.folder, "x86-64", tmp_path_factory.mktemp("kit") / "with.edgeser").path)


@pytest.fixture(scope="module")
def apart(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A kit without it."""
    path = tmp_path_factory.mktemp("kit") / "apart.edgeser"
    return read_kit(pack_kit(run.folder, "x86-64", path, embed=False).path)


@pytest.fixture(scope="module")
def model(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """What it trains; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    train(kit, folder, Settings(threads=1))
    return load_model(folder)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any encoder."""
    monkeypatch.setenv("EDGESER_CACHE", str(tmp_path / "board"))
    return tmp_path


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of noise that grows louder."""
    path = tmp_path_factory.mktemp("sound") / "noise.wav"
    samples = np.random.default_rng(5).standard_normal(5 * RATE) * np.geomspace(0.003, 0.2, 5 * RATE)
    soundfile.write(path, samples.clip(-1, 1).astype(np.float32), RATE, subtype="FLOAT")
    return path


def test_a_kit_brings_its_encoder_or_only_the_card(run: Run, kit: Kit, apart: Kit) -> None:
    card, data = open_encoder(run.settings().encoder)
    stated = kit.manifest["members"][ENCODER]
    assert (kit.encoder, apart.encoder) == (card, card)
    assert (stated["bytes"], stated["sha256"]) == (len(data), card.sha256)
    assert (kit.read_encoder(), apart.read_encoder()) == (data, None)
    assert ENCODER not in kit.members
    assert f"Licence: {card.licence}" in kit.card
    assert "The items are an encoder's vectors of recordings" in kit.card
    assert kit.distilled.to_bytes() == run.stored_set().to_bytes()


def test_the_same_run_gives_the_same_kit(run: Run, kit: Kit, tmp_path: Path) -> None:
    again = pack_kit(run.folder, "x86-64", tmp_path / "again.edgeser")
    assert again.path.read_bytes() == kit.path.read_bytes()


def test_initial_weights_travel_as_their_seed(run: Run, kit: Kit, tmp_path: Path) -> None:
    assert len(kit.members[INITIAL]) < 100
    init = run.init()
    assert kit.weights.keys() == init.keys()
    assert all(np.array_equal(kit.weights[name], init[name]) for name in init)
    moved = Run(shutil.copytree(run.folder, tmp_path / "run"))
    init["logits.bias"] = init["logits.bias"] + np.float32(1)
    moved.save_student(moved.graph(), init)
    other = read_kit(pack_kit(moved.folder, "x86-64", tmp_path / "other.edgeser").path)
    assert np.array_equal(other.weights["logits.bias"], init["logits.bias"])


def test_a_changed_encoder_is_refused(run: Run, tmp_path: Path, kit: Kit) -> None:
    data = bytearray(kit.path.read_bytes())
    with open_archive(kit.path, first=MANIFEST) as archive:
        packed = b"".join(archive.chunks(ENCODER))
    data[bytes(data).index(packed) + len(packed) // 2] ^= 1
    (tmp_path / "changed.edgeser").write_bytes(data)
    with pytest.raises(KitDamaged, match=ENCODER):
        read_kit(tmp_path / "changed.edgeser")
    key = write_keys(tmp_path / "lab")
    signed = pack_kit(run.folder, "x86-64", tmp_path / "signed.edgeser", key).path
    assert read_kit(signed, (key.public,)).is_signed
    data = bytearray(signed.read_bytes())
    data[bytes(data).index(packed) + len(packed) // 2] ^= 1
    signed.write_bytes(data)
    with pytest.raises(KitDamaged) as caught:
        read_kit(signed, (key.public,))
    assert "use it only if --trust" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sha256": "0" * 64}, KitDamaged, "not the file"),
        ({"size": 33}, KitError, "no vectors"),
        ({"name": "../../x"}, KitDamaged, "impossible text"),
        ({"sha256": "../x"}, KitDamaged, "impossible text"),
        ({"frames": 10**9}, KitDamaged, "cannot be read"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    kit: Kit, tmp_path: Path, change: dict[str, object], error: type[Exception], words: str
) -> None:
    assert kit.encoder is not None
    members = {**kit.members, ENCODER: kit.read_encoder() or b""}
    card = {**kit.encoder.to_json(), **change}
    members[ENCODER_CARD] = tomli_w.dumps(card).encode()
    (tmp_path / "k").write_bytes(sealed(members, json.loads(members[MANIFEST])))
    with pytest.raises(error, match=words):
        read_kit(tmp_path / "k")


def test_an_encoder_without_a_card_and_one_that_names_files_are_refused(kit: Kit, tmp_path: Path) -> None:
    members = {**kit.members, ENCODER: b"location of another file"}
    card = replace(kit.encoder, sha256=sha256(members[ENCODER]).hexdigest())
    members[ENCODER_CARD] = card_bytes(card)
    (tmp_path / "k").write_bytes(sealed(members, json.loads(members[MANIFEST])))
    with pytest.raises(KitError, match="outside the kit"):
        read_kit(tmp_path / "k").read_encoder()
    del members[ENCODER_CARD]
    (tmp_path / "k").write_bytes(sealed(members, json.loads(members[MANIFEST])))
    with pytest.raises(EdgeserError):
        read_kit(tmp_path / "k")


def test_a_board_keeps_one_copy_and_trains_without_it(board: Path, kit: Kit, apart: Kit, spoken: Path) -> None:
    train(apart, board / "first", Settings(threads=1))
    first = load_model(board / "first")
    assert first.encoder == kit.encoder
    assert not encoder_path(kit.encoder).exists()
    with pytest.raises(EncoderError, match="is not there") as caught:
        Recogniser.open(first)
    assert "copy its encoder.onnx" in caught.value.hint
    train(kit, board / "second", Settings(threads=1))
    path = encoder_path(kit.encoder)
    assert [each for each in (board / "board").rglob("*") if each.is_file()] == [path]
    one, two = (predict_file(Recogniser.open(load_model(board / name)), spoken) for name in ("first", "second"))
    assert one == two
    path.write_bytes(b"another")
    with pytest.raises(EncoderError, match="not the file of that sha256"):
        Recogniser.open(first)


def test_predict_is_the_hosts_evaluation(run: Run, model: Model) -> None:
    settings = run.settings()
    features = representation_of(settings).of_run(settings, run.stored_set()).extract(settings, Workers(1))
    windows, owners = features.test.windows()
    expected = run_reference(model.recogniser, model.weights, windows)
    for name in model.formats[:2]:
        recogniser = Recogniser.open(model, name)
        for number, utterance in enumerate(features.test.utterances):
            found = predict_file(recogniser, utterance.path)
            mean = expected[owners == number].mean(axis=0)
            np.testing.assert_allclose(list(found.probabilities.values()), mean, atol=1e-4)


def test_the_final_answer_is_that_of_predict(model: Model, spoken: Path) -> None:
    recogniser = Recogniser.open(model)
    for gain in (0.0, None, 12.0):
        listener = Listener(recogniser, Gate(), ListenSettings(gain_db=gain))
        events = [event for block in read_blocks(spoken, RATE) for event in listener.push(block)]
        final = listener.finish()[-1]
        assert final.final
        assert final.probabilities == predict_file(recogniser, spoken).probabilities
        assert len(events) == 9


def test_answers_on_the_way_are_means_over_the_windows_of_a_clip(model: Model, spoken: Path) -> None:
    recogniser, samples = Recogniser.open(model), read_audio(spoken, RATE)
    listener = Listener(recogniser, Gate())
    events = [event for block in read_blocks(spoken, RATE) for event in listener.push(block)]
    encoder = Encoder.open(*open_encoder(model.encoder.name))
    each = recogniser(recogniser.reads._standardised(encoder(samples)))
    full = [event for event in events if event.t >= 3.0025]
    assert len(full) == len(each) - 1  # the last frame of a clip is whole only when it has ended
    for number, event in enumerate(full, start=1):
        np.testing.assert_allclose(list(event.probabilities.values()), each[:number].mean(axis=0), atol=1e-4)
    frames, real = encoder.windows(samples[: 51 * 160])[0]
    frames[:, 50:] = 0  # the first answer comes after fifty frames, half a second
    first = recogniser(recogniser.reads._standardised(encoder.window(frames, 50)))[0]
    assert real == 50
    np.testing.assert_allclose(list(events[0].probabilities.values()), first, atol=1e-4)


def test_listening_adapts_to_the_voice_and_keeps_what_it_learnt(
    model: Model, spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptation, "ONE_SIDED", 1.0)  # one recording again and again is one emotion
    own = load_model(Path(shutil.copytree(model.folder, tmp_path / "own")))
    plain = predict_file(Recogniser.open(own), spoken).probabilities
    recogniser = Recogniser.open(own)
    voice = OwnVoice.open(own, recogniser, anew=False)
    finals = []
    for _ in range(FEWEST + 1):
        listener = Listener(recogniser, Gate(), voice=voice)
        for block in read_blocks(spoken, RATE):
            listener.push(block)
        finals.append(listener.finish()[-1])
    assert [event.adapted for event in finals] == [False] * FEWEST + [True]
    assert all(event.probabilities == plain for event in finals[:FEWEST])
    assert finals[-1].probabilities != plain
    assert voice.utterances == FEWEST + 1
    voice.store()
    again = Recogniser.open(load_model(own.folder))
    assert OwnVoice.open(own, again, anew=False).utterances == FEWEST + 1
    np.testing.assert_allclose(again.reads.shift, recogniser.reads.shift, atol=1e-5)
    require_replaceable(own.folder)
    assert OwnVoice.open(own, again, anew=True).utterances == 0
    assert not again.reads.shift.any()
    assert predict_file(again, spoken).probabilities == plain


@pytest.mark.parametrize("length", [0, 1, 100, 600, 1024, 5000])
def test_short_sounds_are_answered(model: Model, length: int) -> None:
    samples = np.random.default_rng(0).standard_normal(length).astype(np.float32) / 10
    found, count = clip_probabilities(Recogniser.open(model), samples)
    assert count == 1
    assert found.sum() == pytest.approx(1, abs=1e-5)


def test_a_window_is_timed_with_its_encoder(model: Model) -> None:
    found = measure(model.folder, "onnx", "onnxruntime", 1, 3)
    assert 0 < found["model_ms_p50"] < 1000
    assert found["frontend_ms_p50"] > 0


SAID = ("anger", "neutral", "sadness")


def own_recordings(folder: Path, each: int = 2) -> Path:
    """Clips of a voice of the demonstration corpus, a folder an emotion."""
    for label in SAID:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for path in sorted(DEMO.glob(f"f1_{label}_*"))[:each]:
            shutil.copy(path, folder / label)
    return folder


class Deaf(LogMelInput):
    """An input that hears nothing, and counts how often it was asked."""

    asked = 0

    def items(self, samples: NDArray[np.float32], most: int) -> NDArray[np.float32]:
        self.asked += 1
        return np.zeros((1, 32, 1), np.float32)


EASY = PersonalSettings(replace(OF_VECTORS["full"], steps=60, own_views=96), max_forget=1.0)


@pytest.fixture(scope="module")
def personal(kit: Kit, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learnt six own clips; not to be changed. The recordings lie beside it."""
    folder = tmp_path_factory.mktemp("personal")
    shutil.copytree(model.folder, folder / "model")
    own = read_clips(own_recordings(folder / "clips"), kit.labels, input_of(kit))
    report = fine_tune(kit, folder / "model", own, EASY)
    assert report.installed, report.reason
    assert {label: right.clips for label, right in report.trial.emotions.items()} == dict.fromkeys(SAID, 2)
    return folder


@pytest.fixture
def learnt(personal: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(personal, tmp_path / "personal"))


def test_own_clips_are_kept_as_vectors_in_eight_bits(kit: Kit, personal: Path) -> None:
    model = load_model(personal / "model")
    kept, own = read_kept(model), read_clips(personal / "clips", kit.labels, input_of(kit))
    assert list(kept) == list(own.digests)
    assert np.array_equal(np.concatenate([windows for _, windows in kept.values()]), own.windows)
    assert [number for number, _ in kept.values()] == own.classes.tolist()
    assert (model.folder / OWN).stat().st_size < 2000 + 6 * 3 * 40
    assert kit.distilled.vectors is not None
    wave = np.concatenate([soundfile.read(path)[0] for path in sorted((personal / "clips").rglob("*.ogg"))])
    assert (model.folder / OWN).stat().st_size < len(wave) / 100
    assert Recogniser.open(model)(np.zeros((1, *kit.graph.input_shape), np.float32)).shape == (1, 4)


def test_a_kept_clip_is_not_heard_again_and_its_recording_may_go(kit: Kit, learnt: Path) -> None:
    kept, clips = read_kept(load_model(learnt / "model")), learnt / "clips"
    deaf = Deaf(kit.frontend)
    first = read_clips(clips, kit.labels, deaf, kept)
    assert deaf.asked == 0
    own_recordings(clips, each=3)
    for label in SAID:
        for path in sorted((clips / label).iterdir())[:2]:
            path.unlink()
    again = read_clips(clips, kit.labels, deaf, kept)
    assert deaf.asked == 3
    assert len(again) == 9
    assert set(first.digests) < set(again.digests)
    moved = own_recordings(learnt / "moved", each=3)
    name = next((moved / "anger").iterdir())
    name.rename(moved / "sadness" / name.name)
    numbers = read_clips(moved, kit.labels, deaf, kept).classes.tolist()
    assert [numbers.count(kit.labels.index(label)) for label in SAID] == [2, 3, 4]


def test_kept_clips_can_be_removed(kit: Kit, learnt: Path) -> None:
    folder = learnt / "model"
    own = read_clips(learnt / "clips", kit.labels, input_of(kit), read_kept(load_model(folder)))
    assert fine_tune(kit, folder, own, EASY).installed
    heard = load_model(folder).weights
    assert remove_kept(folder) == 2
    assert not list(learnt.rglob(OWN))
    assert read_kept(load_model(folder)) == {}
    assert all(np.array_equal(heard[name], value) for name, value in load_model(folder).weights.items())
    assert remove_kept(folder) == 0
    assert remove_kept(learnt / "none") == 0
    rollback(folder)
    train(kit, folder, Settings(threads=1))


@pytest.mark.parametrize("damage", ["bytes", "class", "size", "counts"])
def test_damaged_kept_clips_are_refused(learnt: Path, damage: str) -> None:
    from safetensors.numpy import load, save

    path = learnt / "model" / OWN
    found = load(path.read_bytes())
    match damage:
        case "class":
            found["classes"] = found["classes"] + np.uint8(3)
        case "size":
            found["levels"] = found["levels"][:, 1:].copy()
        case "counts":
            found["counts"] = found["counts"] + np.int32(1)
    path.write_bytes(b"junk" if damage == "bytes" else save(found))
    description = json.loads((learnt / "model" / "model.json").read_bytes())
    if damage != "bytes":
        description["files"][OWN] = sha256(path.read_bytes()).hexdigest()
        (learnt / "model" / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelError) as caught:
        read_kept(load_model(learnt / "model"))
    assert "\n" not in caught.value.message
    remove_kept(learnt / "model")
    assert read_kept(load_model(learnt / "model")) == {}


def test_a_window_is_estimated_for_the_board(run: Run, kit: Kit, tmp_path: Path) -> None:
    assert kit.encoder is not None
    report, row = pack_kit(run.folder, "rpi-zero2w", tmp_path / "k"), find_target("rpi-zero2w")
    assert report.window_ms == row.window_ms(kit.graph.multiply_accumulates + kit.encoder.multiply_accumulates) > 0
    assert report.hop_ms == 500
    two_blocks = 640_000_000
    assert row.window_ms(two_blocks) > 500 > find_target("rpi4").window_ms(two_blocks)
    assert "gflops" not in kit.manifest["target"]


def test_an_encoder_beside_its_kit_is_taken(board: Path, kit: Kit, apart: Kit) -> None:
    copy = Path(shutil.copy(apart.path, board / "k.edgeser"))
    (board / ENCODER).write_bytes(b"another")
    install_encoder(read_kit(copy))
    assert not encoder_path(kit.encoder).exists()
    (board / ENCODER).write_bytes(kit.read_encoder() or b"")
    install_encoder(read_kit(copy))
    assert encoder_path(kit.encoder).read_bytes() == kit.read_encoder()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the kits here are for x86-64")
def test_updates_share_one_encoder_and_status_and_doctor_know_it(board: Path, kit: Kit, apart: Kit) -> None:
    installation, path = board / "edgeser", encoder_path(kit.encoder)
    with pytest.raises(GateFailed, match="is not there"):
        install_kit(installation, apart.path)
    assert "none" in check_encoders().found
    install_kit(installation, kit.path)
    found = install_kit(installation, apart.path)
    assert found["encoder"] == {
        "name": kit.encoder.name, "sha256": kit.encoder.sha256, "path": str(path), "present": True
    }  # fmt: skip
    assert [each for each in board.rglob(ENCODER) if each.is_file()] == [path]
    assert (check_encoders().ok, check_encoders().found) == (True, kit.encoder.sha256[:12])
    path.write_bytes(b"another")
    assert not check_encoders().ok
    assert check_encoders().hint
    assert not describe(installation)["encoder"]["present"]
    assert "not the file of that sha256" in (check_slot(installation / "current") or "")


def test_a_kit_without_its_encoder_takes_it_along(
    apart: Kit, kit: Kit, board: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EncoderError, match="no encoder"), prepare(apart, Board("pi@host.invalid")):
        pass
    monkeypatch.setenv("EDGESER_CACHE", str(own_cache))
    with prepare(apart, Board("pi@host.invalid")) as deployment:
        parcels = {each.name: each.sha256 for each in deployment.parcels}
    assert parcels[ENCODER] == kit.encoder.sha256
    with prepare(kit, Board("pi@host.invalid")) as deployment:
        assert ENCODER not in {each.name for each in deployment.parcels}


def test_a_run_whose_encoder_is_gone_is_not_packed(run: Run, board: Path) -> None:
    with pytest.raises(EncoderError, match="no encoder"):
        pack_kit(run.folder, "x86-64", board / "k")


@pytest.mark.slow
def test_the_verbs(
    run: Run, board: Path, spoken: Path, run_edgeser: Callable[..., subprocess.CompletedProcess[str]], own_cache: Path
) -> None:
    packed = ("pack", run.folder, "--target", "x86-64", "--out", "k", "--encoder-file", "embed", "--json")
    run_edgeser(*packed, check=True, EDGESER_CACHE=str(own_cache))
    shown = json.loads(run_edgeser("inspect", "k", "--json", check=True).stdout)
    assert shown["members"][ENCODER]["sha256"] == shown["encoder"]["sha256"]
    run_edgeser("train-on-device", "k", "--out", "m", check=True)
    heard = json.loads(run_edgeser("predict", "m", spoken, "--json", check=True).stdout)
    lines = run_edgeser("listen", "m", "--wav", spoken, "--gate", "off", "--json", check=True).stdout.splitlines()
    assert json.loads(lines[-1])["probabilities"] == heard["predictions"][0]["probabilities"]
    for precision in ((), ("--int8",)):
        exported = run_edgeser("export", "m", "--format", "tflite", *precision, "--out", "f", "--json", check=True)
        found = json.loads(exported.stdout)
        assert (found["parity"]["passed"], found["drop"], found["uar"]) == (True, None, None)
    done = run_edgeser("export", "m", "--format", "onnx", "--max-drop", "0.1")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2)
    measured = json.loads(run_edgeser("bench", "m", "--threads", "1", "--repeat", "3", "--json", check=True).stdout)
    assert len(measured["results"]) == 4
    assert all(row["cosine"] > 0.999 for row in measured["results"])
    assert isinstance(measured["notes"], list)
    learn = ("train-on-device", "k", "--out", "m", "--clips", own_recordings(board / "clips"), "--json")
    done = run_edgeser(*learn)
    learnt = json.loads(done.stdout)["personal"]
    assert (done.returncode, learnt["clips"]) == (0 if learnt["installed"] else 1, 6)
    again = run_edgeser(*learn)
    assert ("keeps the vectors of 6 clips" in again.stderr) == learnt["installed"]
    gone = run_edgeser(*learn, "--forget-clips")
    assert ("removed the clips that" in gone.stderr, "keeps the vectors" in gone.stderr) == (True, False)
    adapted = run_edgeser("listen", "m", "--wav", spoken, "--gate", "off", "--adapt", "on", "--json", check=True)
    assert json.loads(adapted.stdout.splitlines()[-1])["adapted"] is False
