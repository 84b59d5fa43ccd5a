"""Pictures and sounds of items: the right way up, the right shift, and named by item where items hold several."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
from PIL import Image

from edgeser.privacy.copies import best_shifts, shifted
from edgeser.report.gallery import make_gallery, picture_uri
from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.sample_storage import fold


def picture_of(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2]))).convert("L")


def test_low_frequencies_are_below_and_time_runs_to_the_right() -> None:
    item = np.zeros((64, 96), np.float32)
    item[0, 95] = 1.0
    image = picture_of(picture_uri(item, (0.0, 1.0)))
    assert image.size == (96, 64)
    assert image.getpixel((95, 63)) > 200
    assert image.getpixel((0, 0)) < 10


def test_a_recording_is_shifted_to_where_it_is_nearest() -> None:
    random = np.random.default_rng(0)
    clips = random.standard_normal((3, 64, 96)).astype(np.float32)
    items = np.stack([np.roll(clip, shift, axis=1) for clip, shift in zip(clips, (0, 17, 95), strict=True)])
    assert np.array_equal(shifted(clips, best_shifts(items, clips)), items)


def test_items_are_counted_and_not_their_log_mels(distilled: DistilledSet) -> None:
    levels, scale, offset = fold(np.resize(distilled.items(), (24, 64, 96)), 8)
    classes = np.arange(3, dtype=np.uint8)
    several = replace(distilled, levels=levels, scale=scale, offset=offset, classes=classes, samples_per_item=8)
    gallery = make_gallery(several, None, most=3)
    assert gallery.total == 24
    assert gallery.distances == {}
    titles = [own.title for own, other in gallery.pairs if other is None]
    assert titles == [f"item {number}, {distilled.names[number]}" for number in (0, 1, 2)]
    assert [own.notes for own, _ in gallery.pairs] == [(f"log-mel {part} of 8",) for part in (1, 5, 8)]
    plain = make_gallery(distilled, None, most=1)
    assert (plain.total, plain.pairs[0][0].notes) == (12, ())
