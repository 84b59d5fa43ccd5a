"""Log-mel statistics of the demo corpus through the table of vectors."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from vectors import measure, sheet, statistics, write_statistics


def test_statistics_of_a_steady_log_mel() -> None:
    steady = np.repeat(np.arange(4, dtype=np.float32)[:, None], 9, axis=1)
    expected = [[0, 1, 2, 3], [0] * 4, [0, 1, 2, 3], [0] * 4]
    assert np.allclose(statistics(steady), np.concatenate(expected))


@pytest.mark.slow
def test_generated_vectors_of_the_demo_corpus_teach(tmp_path: Path) -> None:
    file = write_statistics("demo", Path(), tmp_path / "demo.npz")
    found = measure(file, argparse.Namespace(out=tmp_path, seeds=2, distillations=1))
    for share in ("0.056", "0.112"):
        rows = found[share]["rows"]
        assert rows["full"]["uar_mean"] > 0.5
        assert rows["distilled"]["uar_mean"] > 0.75 * rows["full"]["uar_mean"]
    assert len(sheet({"demo": found}).lines) == 2
