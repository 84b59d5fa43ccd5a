"""Several corpora, the whole way: distilled as one, told apart in the figures, packed, and one of them left out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeser.cli.entry import main
from edgeser.cli.host import measure_there
from edgeser.config.settings import Settings
from edgeser.config.values import settings_of
from edgeser.corpora.joined import corpus_in
from edgeser.corpora.table import load_corpus
from edgeser.distill.pipeline import distill, prepare
from edgeser.errors import RunError, SettingsError
from edgeser.evaluation.cross_corpus import measure_across, open_other
from edgeser.evaluation.evaluate import Plan, evaluate
from edgeser.evaluation.model_score import find_test_part
from edgeser.packaging.pack import pack_kit
from edgeser.report.tables import across_table, evaluation_tables
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.kit.kit import read_kit
from edgeser_device.model.model import load_model
from edgeser_device.train.train import Settings as BoardSettings
from edgeser_device.train.train import train

ALONE = Workers(1)
VOICES = {"women": ("f1", "f2", "f3"), "men": ("m1", "m2", "m3"), "others": ("f4", "f5", "m4", "m5")}
TINY = {
    "corpus": "corpora", "method": "random", "ipc": 2, "width": 0.25, "views": 4, "experts.count": 1,
    "experts.width": 0.25, "experts.steps": 12, "steps": 12, "batch": 16, "leave_out": "others", "split": "seed:0",
}  # fmt: skip


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three corpora of voices of the built-in one, and the file that names them."""
    place = tmp_path_factory.mktemp("corpora")
    tables = []
    for name, voices in VOICES.items():
        (place / name).mkdir()
        for utterance in load_corpus("demo").utterances:
            if utterance.path.name.startswith(voices):
                shutil.copy(utterance.path, place / name)
        drop = 'labels = { sadness = "" }\n' if name == "men" else ""
        tables.append(f'[[corpora]]\nname = "{name}"\ncorpus = "demo"\nfolder = "{name}"\n{drop}')
    (place / "corpora.toml").write_text("".join(tables))
    return place / "corpora.toml"


@pytest.fixture(scope="module", params=["log-mel", "encoder"])
def run(
    request: pytest.FixtureRequest, corpora: Path, tiny_encoder: str, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    of = {"encoder": tiny_encoder} if request.param == "encoder" else {}
    settings = settings_of({**TINY, "folder": str(corpora), **of})
    return distill(settings, tmp_path_factory.mktemp("several") / "run", ALONE, resume=False, warn=lambda _: None)


def test_a_run_describes_every_corpus_and_keeps_their_file(run: Run) -> None:
    described = run.description()
    assert [each["name"] for each in described["corpus"]["corpora"]] == ["women", "men"]
    assert described["weights"] == {"women": 1.0, "men": 1.0}
    for part in ("train", "dev", "test"):
        assert {corpus_in(each) for each in described["split"][part]["speakers"]} == {"women", "men"}
    assert run.settings().folder == str(run.folder / "corpora.toml")
    assert run.settings().leave_out == "others"


def test_the_loss_is_balanced(run: Run) -> None:
    task = prepare(run.settings(), ALONE).task
    by_emotion = task.hard_labels.sum(0)
    assert by_emotion == pytest.approx(np.full(4, by_emotion.mean()), rel=1e-3)
    assert task.of(np.array([3, 1])).hard_labels.tolist() == task.hard_labels[[3, 1]].tolist()


def test_the_figures_tell_the_corpora_apart(run: Run) -> None:
    found = evaluate(run, Plan((0, 1), ("distilled", "full")), ALONE)
    assert set(found["distilled"]["corpora"]) == {"women", "men"} == set(found["full"]["corpora"])
    details = found["details"]["distilled"]["speakers"]
    assert len({corpus_in(speaker) for speaker in details}) == 2
    (women,) = (value for speaker, value in details.items() if corpus_in(speaker) == "women")
    assert found["distilled"]["corpora"]["women"] == pytest.approx(np.mean(women["uar"]), abs=1e-5)
    assert len(evaluation_tables(found).renderables) == 2


def test_a_kit_lists_every_licence_and_is_tested_on_its_test_speakers(run: Run, corpora: Path, tmp_path: Path) -> None:
    kit = read_kit(pack_kit(run.folder, "x86-64", tmp_path / "k").path)
    assert kit.card.count("- Licence: ") - ("## Encoder" in kit.card) == 2
    assert str(corpora.parent) not in json.dumps(kit.manifest)
    train(kit, tmp_path / "m", BoardSettings(threads=1))
    for name in ("women", "men"):
        part = find_test_part(load_model(tmp_path / "m"), corpora.parent / name, "demo")
        tested = {f"{name}/{each.speaker}" for each in part.utterances}
        assert tested == {each for each in run.description()["split"]["test"]["speakers"] if corpus_in(each) == name}


def test_it_is_scored_on_the_corpus_that_was_left_out_and_on_no_other(run: Run, corpora: Path) -> None:
    other = open_other(run, "demo", corpora.parent / "others", (), ALONE)
    adapt = 5 if run.settings().encoder else 0
    (entry,) = measure_across(run, [other], (0, 1), ALONE, adapt=adapt)
    assert entry["speakers"] == 4
    if adapt:
        assert set(entry["adapted"]) >= {"uar_mean", "clips", "plain", "refused"}
        assert entry["adapted"]["clips"] == adapt
        assert measure_across(run, [other], (0, 1), ALONE, adapt=adapt) == [entry]
    else:
        with pytest.raises(SettingsError, match="has none"):
            measure_there(run, Plan((0,), ("distilled",)), (corpora.parent / "others", "demo", ()), ALONE, "", 5)
    assert len(across_table([entry]).rows) == 1
    for name in ("women", "men"):
        with pytest.raises(SettingsError, match="is a corpus that the run"):
            open_other(run, "demo", corpora.parent / name, (), ALONE)


def test_another_weight_is_another_run(run: Run, corpora: Path, tmp_path: Path) -> None:
    begun = Path(shutil.copytree(run.folder, tmp_path / "run"))
    (begun / "distilled.safetensors").unlink()
    heavier = corpora.with_name("heavier.toml")
    heavier.write_text(corpora.read_text().replace('folder = "men"', 'folder = "men"\nweight = 3'))
    same = replace(run.given(), folder=str(corpora))
    with pytest.raises(RunError, match="other weights"):
        distill(replace(same, folder=str(heavier)), begun, ALONE, resume=True, warn=lambda _: None)
    again = distill(same, begun, ALONE, resume=True, warn=lambda _: None)
    assert again.stored_set().to_bytes() == run.stored_set().to_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--corpora", "FILE", "--corpus", "demo"), "stands instead of a corpus"),
        (("--corpora", "none.toml"), "cannot be read"),
        (("--corpora", "FILE", "--leave-out", "womem"), "no corpus 'womem' to leave out"),
        (("--corpus", "demo", "--leave-out", "demo"), "no effect without --corpora"),
    ],
)
def test_wrong_words_are_refused_in_two_lines(
    corpora: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(corpora) if word == "FILE" else word for word in words]
    with pytest.raises(SystemExit) as caught:
        main(["distill", *given, "--ipc", "1", "--dry-run"])
    lines = capsys.readouterr().err.splitlines()
    assert (caught.value.code, len(lines)) == (2, 2)
    assert message in lines[0]


def test_settings_of_several_name_a_file() -> None:
    assert Settings("corpora", folder="x.toml", leave_out="a", ipc=1).leave_out == "a"
