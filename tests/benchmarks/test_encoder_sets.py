"""The demo corpus through the table of encoder sets, with a tiny random encoder; folds are compared in pairs."""

from __future__ import annotations

import argparse
from pathlib import Path

import emobox
import pytest
from encoder_sets import ROWS, measure, measure_run, sheet


@pytest.mark.slow
def test_a_set_of_the_demo_corpus_is_measured_once(tmp_path: Path, tiny_encoder: str) -> None:
    options = argparse.Namespace(out=tmp_path, seeds=1, distillations=1, encoder=tiny_encoder, jobs=1, labels="bank")
    found = measure("demo", "", "herding", 2, options)
    assert set(found["rows"]) == set(ROWS)
    assert found["rows"]["full"]["uar_mean"] > 0.3
    assert len(sheet({"demo": {"herding, 2": found}}).lines) == 1
    before = (tmp_path / "demo-quick-herding-2-0" / "metrics.json").stat().st_mtime_ns
    measure_run("demo", "", "herding", 2, 0, options)
    assert (tmp_path / "demo-quick-herding-2-0" / "metrics.json").stat().st_mtime_ns == before


def test_folds_are_compared_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds differ far more than rows do: only the paired error is small."""

    def fold(_name: str, split: str, *_more: object) -> dict[str, object]:
        level = 0.5 + 0.05 * int(split[-1])
        return {"rows": {row: {"uar_mean": level + 0.01 * place} for place, row in enumerate(ROWS)}}

    monkeypatch.setattr(emobox, "measure", fold)
    found = emobox.paired("herding", argparse.Namespace(ipc=[6]))
    assert found["difference"]["full"]["mean"] == pytest.approx(0.01)
    assert found["difference"]["full"]["standard_error"] == pytest.approx(0, abs=1e-9)
    assert found["ratio"] == pytest.approx(found["uar_mean"]["distilled"] / found["uar_mean"]["full"])
    assert len(emobox.sheet({"herding": found}).lines) == 1
