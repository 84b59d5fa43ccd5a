"""The table of the generative distiller, on the demo corpus with untrained networks: measured once, then read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from distillation_runs import Request, update
from generative import illustrate, speakers, together
from generative_cells import Cell, Draw, Opened, bench_of, measure_draw, measure_generator, open_cell, shipped_bytes
from generative_speakers import halves, parts_of

from edgeser.privacy.item_sounds import sound_of
from edgeser.workers import Workers
from edgeser_device.data.generated import GENERATOR, PROBE
from edgeser_device.frontend import log_mel

SMALL = {"experts": 1, "expert_steps": 4, "label_width": 0.25, "steps": 3, "iterations": 2, "latent": 4}


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> Request:
    return Request(Path(), tmp_path_factory.mktemp("generative"), 1, 1, (), SMALL, Workers(1))


@pytest.fixture(scope="module")
def opened(request_: Request) -> Opened:
    return open_cell(Cell("demo", "all", 0), request_)


@pytest.mark.slow
def test_every_set_is_measured_once(opened: Opened, request_: Request) -> None:
    drawn = [Draw("2"), Draw("3", ratio="original"), Draw("2", labels="soft"), Draw("2", fresh=True)]
    first = [measure_draw(opened, draw, request_) for draw in drawn]
    assert [cell["items"] for cell in first] == [8, 12, 8, 8]
    assert all(len(cell["uar"]) == 1 for cell in first)
    broken = replace_files(opened)
    assert [measure_draw(broken, draw, request_) for draw in drawn] == first  # nothing is drawn again
    assert together(first)["uar_mean"] == pytest.approx(np.mean([cell["uar"][0] for cell in first]))
    stored = [len(bench_of(opened, draw).distilled.to_bytes()) for draw in drawn]
    carried = sum(len(content) for name, content in opened.files.items() if name != PROBE)
    assert [cell["bytes"] for cell in first] == [*stored[:3], carried]
    size = measure_generator(opened, request_)
    assert size["generator_bytes"] < 1_000_000
    assert measure_generator(broken, request_) == size
    row = speakers(opened, Draw("2"), request_)
    assert row["chance"] == pytest.approx(1 / row["speakers"])
    assert set(row["retrained"]) == {"sampled", "real_subset"}
    assert row["items"] == min(2 * 8, len(opened.bench.task.clips) // 4)  # an item holds two log-mels
    assert row["scored"] < len(opened.bench.task.clips) / 2
    update(opened.cell.folder(request_) / "speakers.json", Draw("2").name, {"real": 2.0})
    assert speakers(opened, Draw("2"), request_) == row  # what an earlier version scored counts for nothing


def replace_files(opened: Opened) -> Opened:
    return replace(opened, files={}, state={})


@pytest.mark.slow
def test_picture_and_sounds(opened: Opened, tmp_path: Path) -> None:
    illustrate(opened, tmp_path / "samples.png", tmp_path / "sounds")
    assert (tmp_path / "samples.png").read_bytes().startswith(b"\x89PNG")
    names = opened.bench.distilled.names
    assert len(list((tmp_path / "sounds").iterdir())) == 2 * 4 * len(names)
    sound, rate = soundfile.read(tmp_path / "sounds" / f"{names[0]}-clip-0.wav")
    frontend = opened.bench.distilled.frontend
    assert rate == frontend.rate
    assert 0.5 < np.abs(sound).max() <= 0.9


@pytest.mark.slow
def test_a_sound_has_nearly_the_log_mel_that_it_was_made_of(opened: Opened) -> None:
    frontend = opened.bench.distilled.frontend
    item = opened.bench.task.clips[0, 0]
    heard = log_mel(sound_of(item, frontend), frontend)
    frames = min(heard.shape[1], item.shape[1])
    levels = item * frontend.std + frontend.mean
    pair = [np.maximum(each, each.max() - 50)[:, 2 : frames - 2].ravel() for each in (heard, levels)]  # no silence
    assert np.corrcoef(pair)[0, 1] > 0.8


def test_halves_are_apart_and_hold_every_speaker() -> None:
    speakers_of = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2])
    first, other = halves(speakers_of)
    assert sorted([*first, *other]) == list(range(9))
    assert set(speakers_of[first]) == set(speakers_of[other]) == {0, 1, 2}


def test_lent_clips_are_neither_learnt_by_the_judge_nor_scored() -> None:
    speakers_of = np.repeat(np.arange(6), [8, 8, 9, 10, 4, 5])
    for most, expected in ((3, 3), (6, 6), (500, 11)):
        first, lent, scored = parts_of(speakers_of, most)
        assert len(lent) == expected
        assert len({*first, *lent, *scored}) == len(first) + len(lent) + len(scored)
        assert set(speakers_of[first]) == set(speakers_of[scored]) == set(range(6))
        assert np.array_equal(scored, parts_of(speakers_of, 1)[2])  # every number of items is scored on the same clips


def test_fresh_points_weigh_what_a_kit_carries_to_draw_them() -> None:
    class Stored:
        distilled = type("Bytes", (), {"to_bytes": lambda _: b"0123456789"})()

    opened = Opened(
        Cell("demo", "all", 0), None, {}, {GENERATOR: b"1234", "generator/labeller-0.onnx": b"12", PROBE: b"1"}
    )
    assert shipped_bytes(opened, Draw("2", fresh=True), Stored()) == 6
    assert shipped_bytes(opened, Draw("2"), Stored()) == 10
