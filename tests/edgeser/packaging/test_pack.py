"""Packing: the same run gives the same bytes, nothing of the machine leaks, and what is missing is named."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from device.kits import CARD, synthetic_set, write_run

from edgeser.config.values import changed, to_toml
from edgeser.corpora.fingerprint import speaker_hashes
from edgeser.distill.registry import METHODS
from edgeser.distill.starts import STARTS
from edgeser.errors import RunError, SettingsError
from edgeser.evaluation.intervals import around
from edgeser.packaging.card import BEGAN_AS, MADE_BY, origin
from edgeser.packaging.pack import PackReport, pack_kit, without_paths
from edgeser.packaging.targets import TARGETS, find_target
from edgeser.run import Run
from edgeser_device.kit.kit import MANIFEST, read_kit
from edgeser_device.machine import KNOWN_BAD_AARCH64
from edgeser_export.runtimes import RUNTIMES
from edgeser_export.utilities.errors import StorageError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> PackReport:
    return pack_kit(run, "rpi4", tmp_path_factory.mktemp("kits") / "one.edgeser")


def test_the_same_run_gives_the_same_bytes(run: Path, packed: PackReport, tmp_path: Path) -> None:
    moved = shutil.copytree(run, tmp_path / "elsewhere")
    again = pack_kit(moved, "rpi4", tmp_path / "two.edgeser")
    assert again.path.read_bytes() == packed.path.read_bytes()
    assert (again.sha256, again.bytes) == (packed.sha256, packed.path.stat().st_size)


def test_another_day_place_and_user_change_nothing(
    run: Path, packed: PackReport, tmp_path: Path, run_edgeser: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The program itself, in another folder, with another home, time zone and rights, on files of another date."""
    moved = shutil.copytree(run, tmp_path / "another place" / "run")
    for path in moved.rglob("*"):
        os.utime(path, (0, 0))
    old = os.umask(0o077)
    try:
        done = run_edgeser(
            "pack", moved, "--target", "rpi4", "--out", "k.edgeser", "--json",
            HOME=str(tmp_path), TZ="Pacific/Kiritimati", LANG="tr_TR.UTF-8", PYTHONHASHSEED="7",
        )  # fmt: skip
    finally:
        os.umask(old)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sha256"] == packed.sha256
    assert (tmp_path / "k.edgeser").read_bytes() == packed.path.read_bytes()
    assert found["ratio"] == round(1_000_000 / found["bytes"], 1)


def test_keys_are_made_used_and_shown(
    run: Path, tmp_path: Path, run_edgeser: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    made = json.loads(run_edgeser("keygen", "lab", "--days", 9, "--json", check=True).stdout)
    assert (tmp_path / "lab.key").stat().st_mode & 0o777 == 0o600
    run_edgeser("pack", run, "--target", "rpi4", "--out", "k.edgeser", "--sign", "lab.key", check=True)
    shown = json.loads(run_edgeser("inspect", "k.edgeser", "--verify", "lab.pub", "--json", check=True).stdout)
    assert shown["signature"] == {"signed": True, "verified": True}
    assert shown["signer"]["key"] == made["key"]
    run_edgeser("keygen", "other", check=True)
    for words in (
        ("inspect", "k.edgeser", "--verify", "other.pub"),
        ("train-on-device", "k.edgeser", "--out", "m", "--trust", "other.pub"),
    ):
        done = run_edgeser(*words)
        assert done.returncode == 2
        assert done.stderr.splitlines()[0].startswith(f"error: the kit is signed with key {made['key']}")
        assert len(done.stderr.splitlines()) == 2
    trusting = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    run_edgeser("device", "trust", "lab.pub", check=True, **trusting)
    run_edgeser("pack", run, "--target", "rpi4", "--out", "plain.edgeser", check=True)
    done = run_edgeser("train-on-device", "plain.edgeser", "--out", "m", **trusting)
    assert (done.returncode, done.stderr.splitlines()[0][:29]) == (2, "error: the kit is not signed,")
    assert not (tmp_path / "m").exists()


def test_the_card_names_baselines_intervals_and_what_was_not_audited(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["baselines"] = {"random_soft": {"uar_mean": 0.7, "uar_std": 0.02}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    report = pack_kit(run, "rpi4", tmp_path / "kit")
    card = read_kit(report.path).card
    bounds = around(0.7, 0.02 / 3**0.5, 2)
    for words in (
        f"random, soft: 0.700 ± 0.020, {bounds['low']:.3f} to {bounds['high']:.3f}",
        "Stands for 1.0 MB of training recordings (120 recordings)",
        "Not audited:",
        "membership",
    ):
        assert words in card, words


def test_the_card_says_what_an_audit_found(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    found = json.loads((Path(__file__).parents[1] / "privacy" / "example.json").read_text())
    (run / "audit.json").write_text(json.dumps(found))
    packed = read_kit(pack_kit(run, "rpi4", tmp_path / "kit").path)
    area = max(
        found["membership"]["sets"]["distilled"][threat]["utterance"][attack]["auc"]["value"]
        for threat in found["threat_models"]
        for attack in ("likelihood_ratio", "threshold")
    )
    assert f"AUC {area:.3f}, " in packed.card
    assert f"{found['membership']['shadows']} shadow runs" in packed.card
    nearer = found["copies"]["spaces"]["patterns"]["sets"]["distilled"]["below_least"]["count"]
    assert f"{nearer} by patterns" in packed.card
    assert "(membership): edgeser audit" not in packed.card
    (run / "audit.json").write_text(json.dumps({**found, "membership": None}))
    assert "(membership): edgeser audit" in read_kit(pack_kit(run, "rpi4", tmp_path / "other").path).card
    (run / "audit.json").write_text('{"copies": 3}')
    with pytest.raises(RunError, match="cannot be understood"):
        pack_kit(run, "rpi4", tmp_path / "third")


def test_the_archive_is_plain(packed: PackReport) -> None:
    with zipfile.ZipFile(packed.path) as archive:
        entries = archive.infolist()
    assert entries[0].filename == MANIFEST
    assert [entry.filename for entry in entries[1:]] == sorted(entry.filename for entry in entries[1:])
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    modes = {entry.filename: oct(entry.external_attr >> 16) for entry in entries}
    assert modes.pop("install.sh") == "0o100755"
    assert set(modes.values()) == {"0o100644"}
    assert set(packed.members) == {
        MANIFEST, "distilled.safetensors", "init.safetensors", "student.json", "frontend.npz", "golden.npz", "card.md",
        "install.sh", "steps/adamw-full-16.onnx", "steps/statistics-16.onnx",
    }  # fmt: skip


def test_a_kit_of_the_default_student_is_well_under_a_megabyte(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", synthetic_set(per_class=16, views=64, batch=32), width=1.0)
    assert pack_kit(run, "rpi4", tmp_path / "kit").bytes < 800_000


def test_the_manifest_says_where_it_comes_from(packed: PackReport) -> None:
    manifest = read_kit(packed.path).manifest
    assert manifest["labels"] == ["anger", "neutral", "sadness"]
    assert manifest["target"]["name"] == "rpi4"
    assert manifest["student"]["architecture"] == "edgenet"
    assert manifest["budgets"]["ipc"] == 4
    assert manifest["budgets"]["views"] == 96
    assert manifest["provenance"]["corpus"] == {key: value for key, value in CARD.items() if key != "access"}
    assert manifest["provenance"]["split"] == {
        "name": "quick",
        "train": {"speakers": 1},
        "dev": {"speakers": 1},
        "test": {"speakers": 1, "names": ["m5"]},
    }
    assert manifest["results"]["machine"]["cpu"] == "Test processor"
    config = manifest["provenance"]["config"]
    assert (config["corpus"], config["split"], config["ipc"]) == ("demo", "quick", 4)
    assert "folder" not in config
    assert manifest["results"]["distilled"]["uar_mean"] == 0.9


def test_no_path_and_no_date_is_stored(run: Path, packed: PackReport) -> None:
    for name, content in read_kit(packed.path).members.items():
        assert str(run).encode() not in content, name
        assert str(Path.home()).encode() not in content or name == "install.sh", name
    assert b"created" not in read_kit(packed.path).members[MANIFEST]


def test_paths_are_found_wherever_they_are() -> None:
    found = without_paths(
        {"a": "/data/x", "b": ["C:\\x", "kept", 1], "c": {"folder": "x", "d": True, "e": None}, "f": "a/b"}
    )
    assert found == {"b": ["kept", 1], "c": {"d": True, "e": None}, "f": "a/b"}


def test_the_card_says_what_must_be_said(packed: PackReport) -> None:
    card = read_kit(packed.path).card
    for words in (
        "Synthetic voices",
        "CC0-1.0",
        "anger, neutral, sadness",
        "https://example.org/licence",
        "A. Author 2024",
        "nobody speaks",
        "The items are log-mels of recordings",
        "1 train, 1 dev, 1 test speakers",
        "0.900 ± 0.010",
        "Seeds 0, 1, 2",
        "order of training",
        "Measured on Test processor, 2 cores, numpy 2.0",
        "at work or in education",
        "2024/1689",
    ):
        assert words in card, words


def test_the_card_warns_by_the_kind_of_the_corpus_and_not_by_its_name(tmp_path: Path) -> None:
    acted = write_run(tmp_path / "acted", corpus={"kind": "acted"})
    card = read_kit(pack_kit(acted, "rpi4", tmp_path / "a").path).card
    assert "Synthetic voices" not in card
    assert "Emotion: acted" in card
    synthetic = write_run(tmp_path / "synthetic", corpus={"name": "folder", "kind": "synthetic"})
    assert "Synthetic voices" in read_kit(pack_kit(synthetic, "rpi4", tmp_path / "b").path).card


@pytest.mark.parametrize(
    ("method", "start", "words"),
    [
        ("kcenter", "mix", "The items are log-mels of recordings"),
        ("mtt", "real", "The items began as log-mels of recordings"),
        ("invert", "mix", "The items began as sums of the powers"),
        ("match", "noise", "The items began as noise"),
        ("invert", "aligned", "The items began as sums of the powers of two recordings"),
        ("gan", "mix", "The items were drawn from a generator that learnt sums of a few"),
    ],
)
def test_the_card_says_what_the_items_are_made_of(tmp_path: Path, method: str, start: str, words: str) -> None:
    run = write_run(tmp_path / "run", method=method)
    settings = changed(Run(run).settings(), {"start": start})
    (run / "config.toml").write_text(to_toml(settings, settings))
    card = read_kit(pack_kit(run, "rpi4", tmp_path / "kit").path).card
    assert words in card
    assert ("made audible again" in card) == (method in ("kcenter", "gan") or start in ("real", "aligned"))


def test_the_card_says_what_the_budget_let_items_begin_as(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", method="invert", start="aligned")
    assert Run(run).settings().start == ""
    kit = read_kit(pack_kit(run, "rpi4", tmp_path / "kit").path)
    assert kit.manifest["provenance"]["config"]["start"] == "aligned"
    assert "The items began as sums of the powers of two recordings" in kit.card


@pytest.mark.parametrize("seeds", [[7], [7, 8]])
def test_too_few_seeds_have_no_deviation(seeds: list[int], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text()) | {"seeds": seeds}
    (run / "metrics.json").write_text(json.dumps(metrics))
    card = read_kit(pack_kit(run, "rpi4", tmp_path / "kit").path).card
    assert "- distilled: 0.900\n" in card
    assert "(too few trainings for a deviation)" in card


def test_methods_that_read_no_start_say_themselves_what_items_are() -> None:
    without = {name for name, method in METHODS.items() if not method.has_starts}
    assert without == set(MADE_BY)
    assert set(STARTS) == set(BEGAN_AS)
    assert {origin(method, start) for method in METHODS for start in STARTS} == {*MADE_BY.values(), *BEGAN_AS.values()}


PEOPLE = {part: {"speakers": [f"{name}-surname"]} for part, name in zip(("train", "dev", "test"), "abc", strict=True)}


def test_no_name_of_a_person_goes_into_a_kit(tmp_path: Path) -> None:
    own = {"name": "folder", "title": "surname", "folder": "/data/surname", "kind": "unknown"}
    run = write_run(tmp_path / "run", corpus=own, split={"name": "seed:0", **PEOPLE})
    kit = read_kit(pack_kit(run, "rpi4", tmp_path / "kit").path)
    for name, content in kit.members.items():
        assert b"surname" not in content, name
    provenance = kit.manifest["provenance"]
    assert provenance["corpus"]["title"] == "own recordings"
    assert provenance["split"]["train"] == {"speakers": 1}
    assert provenance["split"]["test"] == {"speakers": 1, "hashes": speaker_hashes(["c-surname"], "f" * 64)}


def test_a_student_that_surely_does_not_fit_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", synthetic_set(steps=1, batch=32), width=1.0, arch="cnn6")
    with pytest.raises(SettingsError, match=r"cnn6 at width 1 takes at least 447 MB; Raspberry Pi Zero 2 W") as caught:
        pack_kit(run, "rpi-zero2w", tmp_path / "kit")
    assert "--width" in caught.value.hint
    assert not (tmp_path / "kit").exists()
    find_target("rpi4").require_memory(447, "it")


def test_a_run_that_was_not_evaluated(tmp_path: Path) -> None:
    report = pack_kit(write_run(tmp_path / "run", evaluated=False), "rpi5", tmp_path / "kit")
    kit = read_kit(report.path)
    assert kit.manifest["results"] == {}
    assert "not measured" in kit.card


def test_the_steps_run_in_a_plain_onnxruntime(packed: PackReport) -> None:
    kit = read_kit(packed.path)
    names = {entry.name for entry in onnxruntime.InferenceSession(kit.step).get_inputs()}
    assert {"x", "labels", "learning_rate", "first.conv1.weight"} <= names
    assert np.isfinite(kit.golden.losses).all()
    assert len(kit.golden.losses) == 3


@pytest.mark.parametrize(
    "name", ["run.json", "config.toml", "student.json", "init.safetensors", "distilled.safetensors"]
)
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_missing_or_damaged_part_is_named(run: Path, tmp_path: Path, name: str, how: str) -> None:
    broken = shutil.copytree(run, tmp_path / "run")
    if how == "missing":
        (broken / name).unlink()
    else:
        (broken / name).write_bytes(b"\xff{garbage")
    with pytest.raises(RunError) as caught:
        pack_kit(broken, "rpi4", tmp_path / "kit")
    assert how != "missing" or name in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "kit").exists()


def test_a_description_without_its_keys(run: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(run, tmp_path / "run")
    description = json.loads((broken / "run.json").read_text())
    del description["budget"]
    (broken / "run.json").write_text(json.dumps(description))
    with pytest.raises(RunError, match="lacks budget"):
        pack_kit(broken, "rpi4", tmp_path / "kit")


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not there"):
        pack_kit(tmp_path / "none", "rpi4", tmp_path / "kit")


def test_an_unknown_target(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        pack_kit(run, "rpi44", tmp_path / "kit")
    assert "rpi4" in caught.value.hint


def test_a_place_that_cannot_be_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        pack_kit(run, "rpi4", tmp_path / "file" / "kit")


@pytest.mark.parametrize("name", TARGETS)
def test_a_target(name: str) -> None:
    target = find_target(name)
    assert target.name == name
    assert target.memory_mb >= 512
    assert target.threads >= 1
    assert target.runtime in RUNTIMES
    assert all("aarch64" in tag or "x86_64" in tag for tag in target.platforms)
    assert json.loads(json.dumps(target.to_json()))["title"] == target.title


def test_the_boards_of_the_contract_are_there() -> None:
    assert set(TARGETS) == {"rpi5", "rpi4", "rpi3", "rpi-zero2w", "jetson-orin-nano", "generic-aarch64", "x86-64"}
    assert TARGETS["rpi4"].known_bad == KNOWN_BAD_AARCH64


def test_golden_arrays_need_no_pickle(packed: PackReport) -> None:
    with np.load(io.BytesIO(read_kit(packed.path).members["golden.npz"]), allow_pickle=False) as golden:
        assert sorted(golden) == ["logits", "losses", "views"]
