"""The stream that orders views is numpy's, word for word."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeser_device.data.schedule import raw_words

SEEDS = st.lists(st.integers(0, 2**70), min_size=1, max_size=7)


@given(SEEDS, st.integers(0, 50))
def test_words_are_numpys(seed, count):
    expected = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count)
    assert (raw_words(seed, count) == expected).all()
    assert raw_words(seed, count).dtype == np.uint64


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="not below 0"):
        raw_words((-1,), 3)


def test_a_training_does_without_numpys_generators():
    program = """
import sys
import edgeser_device.train.train
from edgeser_device.data.schedule import epoch_order
print(epoch_order(3072, 0, 0)[:3].tolist())
for name in ("numpy.random", "hashlib", "importlib.metadata", "onnx", "argparse"):
    assert name not in sys.modules, name
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
