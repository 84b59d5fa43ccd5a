"""Power cuts: a training that is killed again and again, at random moments, ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from device.kits import synthetic_set, write_kit

from edgeser_device.model.model import load_model, previous_path
from edgeser_device.train.trainer import checkpoint_path, load_checkpoint

KILLS = 50
STEPS = 300
PROGRAM = f"""
import sys
from pathlib import Path
from edgeser_device.kit.kit import read_kit
from edgeser_device.train.train import Settings, train
settings = Settings(steps={STEPS}, threads=1, checkpoint_seconds=0, resume=True)
train(read_kit(Path(sys.argv[1])), Path(sys.argv[2]), settings)
"""
"""A checkpoint after every step, so that many kills fall into the writing of one; steps take most of the time."""
COMPARED = ("weights.safetensors", "student.onnx", "student.tflite")


def start(kit: Path, model: Path) -> subprocess.Popen[bytes]:
    """In a session of its own: a power cut takes the children too."""
    command = [sys.executable, "-c", PROGRAM, str(kit), str(model)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)


def finish(child: subprocess.Popen[bytes]) -> None:
    _, stderr = child.communicate(timeout=600)
    assert child.returncode == 0, stderr.decode()


def ends_before(child: subprocess.Popen[bytes], moment: float) -> bool:
    """Whether the process ends by itself within ``moment`` seconds; killed otherwise."""
    try:
        _, stderr = child.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        return child.returncode != -signal.SIGKILL
    assert child.returncode == 0, stderr.decode()
    return True


def steps_kept(model: Path) -> int:
    """Steps that the next process goes on from; what lies there is whole."""
    if model.exists():
        whole = load_model(model)
        for name in whole.description["files"]:
            whole.read(name)
    path = checkpoint_path(model)
    return load_checkpoint(path).state.done if path.exists() else 0


def contents(model: Path) -> dict[str, bytes]:
    return {name: (model / name).read_bytes() for name in COMPARED}


@pytest.mark.slow
def test_a_training_killed_fifty_times_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    kit = write_kit(tmp_path, synthetic_set(per_class=2, views=4, steps=STEPS, batch=8)).path
    began = time.monotonic()
    finish(start(kit, tmp_path / "whole"))
    longest = time.monotonic() - began
    expected, random = contents(tmp_path / "whole"), np.random.default_rng(0)
    kills, trainings, gone_on = 0, 0, set()
    while kills < KILLS:
        trainings += 1
        folder = tmp_path / f"training{trainings}"
        folder.mkdir()
        model, before = folder / "model", 0
        while kills < KILLS and not ends_before(start(kit, model), random.uniform(0, longest)):
            kills += 1
            kept = steps_kept(model)
            assert kept >= before or model.exists(), "a kill took steps that were safe"
            before = kept
            gone_on.add(kept)
        finish(start(kit, model))
        assert contents(model) == expected
        assert not checkpoint_path(model).exists()
        assert {path.name for path in folder.iterdir()} <= {"model", previous_path(model).name}
    assert len(gone_on) > KILLS // 5, f"the kills met {sorted(gone_on)} only"
