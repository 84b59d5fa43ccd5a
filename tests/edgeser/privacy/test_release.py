"""--privacy: no clip moves more than is promised, the noise is the accountant's, small classes have fewer items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from scipy.stats import beta, norm

from edgeser.config.settings import Settings
from edgeser.config.values import settings_of
from edgeser.distill.methods.noisy_match import DELTA
from edgeser.distill.pipeline import distill, label_experts, prepare
from edgeser.distill.registry import require_possible
from edgeser.errors import RunError, SettingsError
from edgeser.models.experts import Task
from edgeser.models.students import build
from edgeser.packaging.card import write_card
from edgeser.packaging.pack import pack_kit
from edgeser.privacy import release as module
from edgeser.privacy.audit import AuditPlan, audit
from edgeser.privacy.release import (
    CENTRE_NORM,
    CENTRE_SHARE,
    DRAWN,
    Released,
    centre_of,
    class_sums,
    deviations,
    fewer_items,
    limited,
    most_items,
    promise,
    release,
)
from edgeser.representation.encoded import Encoded
from edgeser.workers import Workers
from edgeser_device.data.vector_set import Scale
from edgeser_device.kit.kit import read_kit

SIZE, NAMES = 12, ("anger", "joy", "calm")
FAST = {"experts.steps": 20, "steps": 30, "experts.count": 1, "views": 4, "kip.iterations": 3}


def asked(privacy: str, **more: object) -> Settings:
    return settings_of({"corpus": "demo", "encoder": "tiny", "ipc": 4, "privacy": privacy, **more})


def made_up(per_class: tuple[int, ...] = (40, 30, 20), speakers: int = 4) -> Task:
    """Vectors of three classes with means of their own, and vectors of synthetic speech beside them."""
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), per_class)
    clips = random.standard_normal((len(labels), SIZE)) + 2 * np.eye(3, SIZE)[labels]
    scale = Scale(np.zeros(SIZE, np.float32), np.ones(SIZE, np.float32), np.zeros(SIZE, np.bool_))
    spoken = Encoded(scale=scale, synthetic=random.standard_normal((30, SIZE)).astype(np.float32))
    names = tuple(f"s{number % speakers}" for number in range(len(labels)))
    graph = build("mlp", 3, 1.0, (SIZE, 1, 1))
    return Task(graph, clips.astype(np.float32)[:, :, None, None], labels, 3, spoken, names)


def silent(words: str) -> None:
    """What the budget decided matters to nobody here."""


@pytest.mark.parametrize(("epsilon", "limit", "clips"), [(0.5, 3.0, 840), (8.0, 0.7, 128)])
def test_both_noises_together_are_what_the_exact_formula_asks_for(epsilon: float, limit: float, clips: int) -> None:
    wide, near = deviations(epsilon, limit, clips)
    distance = np.hypot(2 * CENTRE_NORM * limit / clips / wide, 2 * limit / near)
    # Balle and Wang 2018, theorem 8, of two normal distributions at this distance
    delta = norm.cdf(distance / 2 - epsilon / distance) - np.exp(epsilon) * norm.cdf(-distance / 2 - epsilon / distance)
    assert 0.9 * DELTA <= delta <= DELTA * 1.001


@given(
    clip=arrays(np.float64, SIZE, elements=st.floats(-1e6, 1e6)),
    place=st.integers(0, 89),
    limit=st.floats(0.01, 100),
)
@settings(max_examples=60, deadline=None)
def test_a_replaced_clip_moves_no_more_than_its_norm_allows(clip: np.ndarray, place: int, limit: float) -> None:
    task = made_up()
    before = task.clips[:, :, 0, 0].astype(np.float64)
    after = before.copy()
    after[place] = clip
    moved = class_sums(after, task, limit) - class_sums(before, task, limit)
    own = task.labels[place]
    assert np.linalg.norm(moved[own]) <= 2 * limit + 1e-9
    assert not np.delete(moved, own, axis=0).any(), "other classes do not move"
    centres = centre_of(after, limit) - centre_of(before, limit)
    assert np.linalg.norm(centres) <= 2 * CENTRE_NORM * limit / len(before) + 1e-9
    assert np.linalg.norm(limited(after, limit), axis=1).max() <= limit + 1e-9


def test_the_noise_is_drawn_as_wide_as_that_and_no_seed_repeats_it() -> None:
    task, own = made_up(), asked("dp:2", **{"release.rank": 6})
    drawn = [release(task, NAMES, own) for _ in range(60)]
    inverse = np.linalg.pinv(drawn[0].factors)
    apart = np.stack([(each.means - each.means.mean(0)) @ inverse for each in drawn]) * np.array([40, 30, 20])[:, None]
    _, near = deviations(2.0, 6**0.5, 90)
    counts = np.array([40, 30, 20])
    left = near * counts * np.sqrt((4 / 9) / counts**2 + ((1 / counts**2).sum() - 1 / counts**2) / 9)
    assert apart.std(0).mean(1) == pytest.approx(left, rel=0.2)
    assert np.abs(drawn[0].means - drawn[1].means).min() > 0


def lower_bound(task: Task, other: Task, own: Settings, rounds: int) -> float:
    """The epsilon that telling two corpora apart shows that differ in a clip; two bounds of 95 % each."""
    inverse = np.linalg.pinv(release(task, NAMES, own).factors)
    seen = [
        np.array([(release(each, NAMES, own).means @ inverse)[2, 0] for _ in range(rounds)]) for each in (task, other)
    ]
    bound = np.median(np.concatenate([values[: rounds // 2] for values in seen]))
    first, second = (values[rounds // 2 :] > bound for values in seen)
    if first.mean() > second.mean():
        first, second = second, first
    count = len(second)
    hits = beta.ppf(0.05, second.sum(), count - second.sum() + 1)
    false = beta.ppf(0.95, first.sum() + 1, count - first.sum()) if first.sum() < count else 1.0
    return float(np.log(max(hits - DELTA, 1e-12) / false))


def test_an_attack_shows_less_than_epsilon_and_more_where_noise_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    task, own = made_up((6, 6, 3)), asked("dp:1", **{"release.rank": 2})
    worst, other = task.clips.copy(), task.clips.copy()
    direction = release(task, NAMES, own).factors[0][:, None, None]
    worst[-1], other[-1] = 100 * direction, -100 * direction
    near = replace(task, clips=worst), replace(task, clips=other)
    assert lower_bound(*near, own, 300) <= 1.0
    monkeypatch.setattr(module, "noise_multiplier", lambda _: 0.05)
    assert lower_bound(*near, own, 300) > 1.0


def test_an_aggregate_gives_an_item_for_so_many_clips() -> None:
    task, own = replace(made_up(), weights=np.ones(90, np.float32)), asked("aggregate")
    assert most_items(task, NAMES, own).tolist() == [4, 3, 2]
    found = release(task, NAMES, own)
    drawn = found.task(task, seed=0)
    assert drawn.most_items == (4, 3, 2)
    assert drawn.clips.shape == (3 * DRAWN, SIZE, 1, 1)
    assert drawn.speakers == ()
    assert drawn.hard_labels.sum() == 3 * DRAWN, "weights of clips are not those of what is drawn"
    assert fewer_items(found, NAMES, 4) == [
        "joy has 3 items and not 4: its clips allow no more",
        "calm has 2 items and not 4: its clips allow no more",
    ]
    np.testing.assert_array_equal(drawn.clips, found.task(task, seed=0).clips)


@pytest.mark.parametrize(
    ("task", "message"), [(made_up((40, 30, 9)), "9 training clips"), (made_up(speakers=2), "2 sp")]
)
def test_a_class_that_hides_nobody_is_refused(task: Task, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        release(task, NAMES, asked("aggregate"))


def test_a_long_clip_moves_an_aggregate_no_further_than_one_of_the_largest_norm() -> None:
    task, own = made_up(), asked("aggregate", **{"release.rank": SIZE})
    far = task.clips.copy()
    far[0] *= 1e4
    moved = release(replace(task, clips=far), NAMES, own).means[0] - release(task, NAMES, own).means[0]
    assert np.linalg.norm(moved) <= 2 * SIZE**0.5 / 40 + 1e-6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": ""}, "works on an encoder's vectors"),
        ({"method": "random"}, "goes with centroids, kip, gradmatch"),
        ({"start": "mix"}, "begins items as centroids"),
        ({"init_epoch": 1}, "an initialisation of no clip"),
        ({"check_every": 1, "privacy": "dp:8"}, "no choice on dev speakers"),
    ],
)
def test_what_contradicts_it_is_refused_in_one_line(values: dict[str, object], message: str) -> None:
    own = {"corpus": "demo", "encoder": "tiny", "ipc": 2, "method": "kip", "privacy": "aggregate", **values}
    with pytest.raises(SettingsError, match=message) as caught:
        require_possible(settings_of(own))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["dp", "dp:0", "dp:-1", "dp:nan", "dp:inf", "dp:x", "all", ""])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--privacy is"):
        asked(text)


def test_a_promise_names_what_it_does_not_cover() -> None:
    found = promise(asked("dp:3"))
    assert found is not None
    assert (found["epsilon"], found["delta"]) == (3.0, DELTA)
    assert any("a speaker" in line for line in found["not_covered"])
    assert promise(asked("aggregate")) is None
    assert 0 < CENTRE_SHARE < 1


@pytest.mark.slow
def test_a_run_goes_on_with_the_noise_that_it_drew(tiny_encoder: str, tmp_path: Path) -> None:
    own = settings_of({"corpus": "demo", "encoder": tiny_encoder, "ipc": 2, "privacy": "dp:8", **FAST})
    run = distill(own, tmp_path / "run", Workers(1), resume=False, warn=silent)
    kept, bytes_of = (run.folder / "released.safetensors").read_bytes(), run.folder / "distilled.safetensors"
    first = bytes_of.read_bytes()
    bytes_of.unlink()
    distill(own, tmp_path / "run", Workers(1), resume=True, warn=silent)
    assert (run.folder / "released.safetensors").read_bytes() == kept
    assert bytes_of.read_bytes() == first
    assert run.description()["dp"]["epsilon"] == 8.0
    kit = read_kit(pack_kit(run.folder, "x86-64", tmp_path / "kit.edgeser").path)
    assert kit.manifest["provenance"]["privacy"] == "dp:8"
    assert "Epsilon 8" in kit.card
    expert = run.trajectories / "label-expert-0.safetensors"
    trained = expert.read_bytes()
    expert.unlink()
    label_experts(run, prepare(run.settings(), Workers(1)), Workers(1))
    assert expert.read_bytes() == trained, "an expert that is missing learns from the same release"
    (run.folder / "released.safetensors").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"released\.safetensors"):
        Released.load(run.folder / "released.safetensors")


@pytest.mark.slow
def test_shadows_learn_from_a_release_of_their_own_half(tiny_encoder: str, tmp_path: Path) -> None:
    own = {"corpus": "demo", "encoder": tiny_encoder, "ipc": 2, "privacy": "aggregate", "release.min_clips": 20, **FAST}
    said: list[str] = []
    run = distill(settings_of(own), tmp_path / "run", Workers(1), resume=False, warn=said.append)
    found = audit(run, AuditPlan(shadows=4, sounds=False), Workers(1))
    assert found["run"]["privacy"] == "aggregate"
    releases = sorted(run.folder.glob("audit/shadows-*/*/released.safetensors"))
    assert len(releases) == 4
    assert len({path.read_bytes() for path in releases}) == 4
    assert found["membership"]["sets"]["distilled"]["set"]["utterance"]["likelihood_ratio"]["auc"]


def test_the_card_tells_utility_beside_attack_and_what_is_covered() -> None:
    results = {
        "distilled": {"uar_mean": 0.7},
        "full": {"uar_mean": 0.8},
        "audit": {
            "shadows": 4,
            "membership": {"value": 0.55, "low": 0.5, "high": 0.6, "attack": "threshold", "threat_model": "set"},
            "items": 8,
            "nearer": {},
            "sources": None,
            "controls": {"found": 1, "of": 1},
        },
    }
    manifest = {
        "edgeser": "0",
        "labels": ["a", "b"],
        "target": {"title": "a board"},
        "student": {"architecture": "mlp", "width": 1, "parameters": 1, "multiply_accumulates": 1},
        "budgets": {"items": 8, "ipc": 4, "views": 8, "distilled_bytes": 10},
        "provenance": {
            "corpus": {"name": "demo"},
            "split": {},
            "method": "kip",
            "config": {"start": "centroids"},
            "privacy": "dp:8",
            "dp": promise(asked("dp:8")),
        },
        "results": results,
    }
    card = write_card(manifest)
    assert "UAR 0.700 (all recordings: 0.800), membership AUC 0.550" in card
    assert "Epsilon 8, delta 1e-05" in card
    assert "a speaker: with k clips" in card
    assert "`--privacy dp:8`" in card
