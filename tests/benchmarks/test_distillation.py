"""The table of distilled sets: its dimensions, its statistics, its words, and that it goes on where it stopped."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from distillation import command_of, groups_of, parse_setting, parser, request_of
from distillation_runs import Request, experts_folder, fingerprint, prepare_run
from distillation_tables import above, markdown_page, panels_of, result_of, row_of, sheets_of, summary_of
from distillation_trials import Group, common_settings, parse_budget
from sources import ROOT

from edgeser.config.settings import Settings
from edgeser.config.values import settings_of
from edgeser.errors import RunError, SettingsError
from edgeser.workers import Workers

MACHINE = {"cpu": "Some processor", "cores": 2, "python": "3.11.7", "packages": {"numpy": "2.0", "edgeser": "0.1.0"}}


def asked(*words: str) -> Namespace:
    return parser().parse_args(["corpora", *words])


def request(folder: Path, **overrides: object) -> Request:
    return Request(
        folder / "corpora", folder, 2, 2, ("full", "random_bank", "random_bank_bytes"), overrides, Workers(1)
    )


def trial(*uar: float, **values: object) -> dict[str, object]:
    known = {"ipc": 6, "share": 0.057, "bytes": 400_000, "views": 64, "init": {"uar": 0.1}, "seconds": 10.0}
    return {"uar": list(uar), **known, "peak_rss_mb": 300.0, "settings": {"ipc": 6}, **values}


def common(*full: float, bank: tuple[float, ...] = (0.5, 0.7)) -> dict[str, object]:
    rows = {"full": {"uar": list(full)}, "random_bank": {"uar": list(bank), "ipc": 6, "views": 64, "bytes": 401_000}}
    return {"rows": rows, "experts": {"uar": 0.8, "members": 3}, "split": "quick", "machine": MACHINE}


def line(corpus: str, method: str, budget: str, *trials: dict[str, object], full: float = 0.8) -> dict[str, object]:
    group = Group(corpus, budget, method, "", "edgenet", 1.0, len(trials))
    return row_of(group, trials, common(full, full), request(Path("nowhere")))


# Dimensions ----------------------------------------------------------------------------------------------------------


def test_there_is_a_group_for_each_corpus_student_budget_method_and_start() -> None:
    words = ("--corpora", "emodb", "urdu", "--shares", "0.02", "0.1", "--methods", Settings.method, "random")
    groups = groups_of(
        asked(*words, "--from", "mix", "noise", "--arch", "edgenet", "cnn6:0.25", "--distillations", "5")
    )
    assert len(groups) == 2 * 2 * 2 * 3
    assert len(set(groups)) == len(groups)
    assert {(group.arch, group.width) for group in groups} == {("edgenet", 1.0), ("cnn6", 0.25)}
    # What only chooses real items begins with nothing, and is distilled fewer times.
    found = {(group.label, group.distillations) for group in groups}
    assert {label for label, _ in found} == {"invert from mix", "invert from noise", "random"}
    assert {count for label, count in found if label.endswith("mix")} == {5}
    assert {count for label, count in found if not label.endswith("mix")} == {2}


def test_a_method_may_name_its_start() -> None:
    methods = ("mtt:noise", "invert", "random")
    groups = groups_of(asked("--trials", "demo:2", "--methods", *methods))
    assert [(group.method, group.start) for group in groups] == [("mtt", "noise"), ("invert", ""), ("random", "")]
    for wrong, said in (("random:mix", "chooses real items"), ("mtt:mixx", "is 'mixx'"), ("mttt", "no method")):
        with pytest.raises(SettingsError, match=said):
            groups_of(asked("--trials", "demo:2", "--methods", wrong))


def test_only_the_default_method_is_distilled_more_often() -> None:
    shares = ("--corpora", "demo", "--shares", "0.02", "--distillations", "5")
    groups = groups_of(asked(*shares, "--methods", "invert", "random", "invert:noise", "invert"))
    assert [(group.method, group.start, group.distillations) for group in groups] == [
        ("invert", "", 5), ("random", "", 2), ("invert", "noise", 2),
    ]  # fmt: skip


def test_trials_name_their_own_budgets(tmp_path: Path) -> None:
    groups = groups_of(asked("--trials", "ravdess:6", "emodb:0.056", "ravdess:2", "--methods", "random"))
    assert [(group.corpus, group.budget) for group in groups] == [
        ("ravdess", "6"),
        ("ravdess", "2"),
        ("emodb", "0.056"),
    ]
    assert [group.distillations for group in groups] == [1, 1, 1]
    six, _, share = (group.settings(3, request(tmp_path, steps=7)) for group in groups)
    assert (six.ipc, six.share, six.seed, six.steps) == (6, 0.0, 3, 7)
    assert (share.ipc, share.share) == (0, 0.056)
    assert six.folder == str(tmp_path / "corpora" / "ravdess")


@pytest.mark.parametrize(
    "words",
    [
        ("--trials", "ravdess"),
        ("--trials", "ravdess:six"),
        ("--methods", "mttt"),
        ("--arch", "cnn6:wide"),
    ],
)
def test_a_trial_that_is_not_understood_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError):
        groups_of(asked(*words))


def test_settings_have_the_type_of_the_setting() -> None:
    assert parse_setting("steps=12") == ("steps", 12)
    assert parse_setting("peak_rate=1e-3") == ("peak_rate", 1e-3)
    assert parse_setting("labels=soft") == ("labels", "soft")
    for text in ("steps=many", "stepz=3", "ipc=3", "method=mtt", "steps"):
        with pytest.raises(SettingsError):
            parse_setting(text)
    with pytest.raises(SettingsError, match="no row"):
        request_of(asked("--rows", "ful"))


def test_distillations_may_have_fewer_trainings_than_rows() -> None:
    same, fewer = request_of(asked("--seeds", "5")), request_of(asked("--seeds", "5", "--trainings", "3"))
    assert (same.seeds, same.trainings, same.plan.seeds) == (5, 5, (0, 1, 2, 3, 4))
    assert (fewer.seeds, fewer.trainings, fewer.plan.seeds) == (5, 3, (0, 1, 2))


def test_budgets_are_shares_below_one() -> None:
    assert parse_budget("6") == {"ipc": 6}
    assert parse_budget("0.056") == {"share": 0.056}


# What is kept --------------------------------------------------------------------------------------------------------


def test_common_rows_do_not_depend_on_the_method_or_its_seed(tmp_path: Path) -> None:
    wanted = request(tmp_path, steps=12)
    groups = groups_of(asked("--trials", "demo:2", "demo:3", "--methods", "mtt", "herding", "--from", "real", "noise"))
    of_two = {common_settings(group.settings(seed, wanted), wanted) for group in groups[:3] for seed in (0, 1)}
    assert len(of_two) == 1
    base = of_two.pop()
    assert (base.method, base.seed, base.ipc, base.steps) == ("random", 0, 2, 12)
    other = request(tmp_path, steps=13)
    assert common_settings(groups[0].settings(0, other), other) != base
    assert common_settings(groups[-1].settings(0, wanted), wanted).ipc == 3


def test_a_fingerprint_tells_settings_apart_but_not_where_the_corpus_lies() -> None:
    values = {"corpus": "demo", "folder": "a", "ipc": 2, "steps": 7}
    assert fingerprint(values) == fingerprint({**values, "folder": "b", "batch": Settings.batch})
    assert fingerprint(values) != fingerprint({**values, "steps": 8})
    assert fingerprint(values, without=("steps",)) == fingerprint({**values, "steps": 8}, without=("steps",))


def test_a_run_begins_with_the_label_experts_that_are_there(tmp_path: Path) -> None:
    wanted = request(tmp_path)
    settings = Settings(corpus="demo", ipc=2, seed=5)
    kept = experts_folder(settings, wanted)
    assert kept == experts_folder(Settings(corpus="demo", ipc=9, seed=1, arch="cnn6"), wanted)
    assert kept != experts_folder(settings_of({"corpus": "demo", "ipc": 2, "experts.width": 1.0}), wanted)
    kept.mkdir(parents=True)
    (kept / "label-expert-0.safetensors").write_bytes(b"an expert")
    run = prepare_run(tmp_path / "run", settings, ("ipc", "steps"), wanted)
    assert run.settings() == settings
    assert (run.trajectories / "label-expert-0.safetensors").read_bytes() == b"an expert"
    prepare_run(tmp_path / "run", Settings(corpus="demo", ipc=2, batch=8), ("ipc", "steps"), wanted)
    with pytest.raises(RunError, match=r"steps: 0 then, 9 now"):
        prepare_run(tmp_path / "run", Settings(corpus="demo", ipc=2, steps=9), ("ipc", "steps"), wanted)


# Statistics ----------------------------------------------------------------------------------------------------------


def test_distillations_are_the_sample_of_a_difference() -> None:
    bank = {"uar_mean": 0.6, "uar": [0.5, 0.6, 0.7]}
    found = above([[0.5, 0.6], [0.6, 0.7], [0.7, 0.8]], bank)
    assert found["difference"] == pytest.approx(0.05)
    assert found["standard_error"] == pytest.approx((0.01 / 3 + 0.01 / 3) ** 0.5)
    one = above([[0.4, 0.5, 0.6]], bank)  # its trainings are all there is
    assert one["standard_error"] == pytest.approx((0.01 / 3 + 0.01 / 3) ** 0.5)
    assert above([[0.5, 0.6]], bank)["standard_error"] is None


def test_a_line_has_mean_and_deviation_over_all_trainings() -> None:
    trials = [trial(0.5, 0.6, 0.9), trial(0.7, 0.8, seconds=None, peak_rss_mb=400.0, init={"uar": 0.3})]
    found = line("ravdess", "mtt", "0.056", *trials)  # of three trainings the two that are asked for
    assert found["uar"] == [[0.5, 0.6], [0.7, 0.8]]
    assert found["uar_mean"] == pytest.approx(0.65)
    assert found["uar_std"] == pytest.approx((0.05 / 3) ** 0.5)
    assert found["ratio"] == pytest.approx(0.65 / 0.8)
    assert found["ratio_best"] is None
    assert found["init"]["uar"] == pytest.approx(0.2)
    assert (found["seconds"], found["peak_rss_mb"], found["distillations"]) == (10.0, 400.0, 2)
    assert set(found["above"]) == {"random_bank"}
    json.dumps(found, allow_nan=False)


def test_a_bank_of_as_many_bytes_is_the_other_one_where_they_are_equal() -> None:
    same = line("ravdess", "mtt", "6", trial(0.5, 0.6, random_bank_bytes={"same_as": "random_bank"}))
    assert same["above"]["random_bank_bytes"] == same["above"]["random_bank"]
    own = {"uar": [0.4, 0.4], "ipc": 4, "views": 70, "bytes": 300_000}
    other = line("ravdess", "mtt", "6", trial(0.5, 0.6, random_bank_bytes=own))
    assert other["above"]["random_bank_bytes"]["difference"] == pytest.approx(0.15)
    words = " ".join(" ".join(each) for each in sheets_of(result([same, other]))[1].lines)
    assert words.count("label bank of as many bytes") == 1


def result(lines: list[dict[str, object]]) -> dict[str, object]:
    return result_of(lines, request(Path("nowhere")), "python benchmarks/distillation.py CORPORA")


def test_the_summary_leaves_the_confounded_corpus_out() -> None:
    twin = {"random_bank_bytes": {"same_as": "random_bank"}}
    lines = [
        line("ravdess", "mtt", "0.056", trial(0.6, 0.6, **twin)),
        line("emodb", "mtt", "0.056", trial(0.7, 0.7, **twin), full=0.7),
        line("urdu", "mtt", "0.056", trial(0.1, 0.1, **twin)),
        line("ravdess", "mtt", "0.149", trial(0.4, 0.4, **twin)),
    ]
    small, large = summary_of(lines)
    assert small["corpora"] == ["ravdess", "emodb"]
    assert small["ratio_mean"] == pytest.approx((0.75 + 1.0) / 2)
    assert small["above"]["random_bank"]["difference"] == pytest.approx((0.0 / 0.8 + 0.1 / 0.7) / 2)
    assert small["above"]["random_bank"]["above"]
    assert not large["above"]["random_bank_bytes"]["above"]
    titles = [sheet.title for sheet in sheets_of(result(lines))]
    assert len(titles) == 3
    assert "URDU" in titles[2]
    assert "confounded" in titles[2]
    assert "urdu" not in {each[0] for each in sheets_of(result(lines))[1].lines}


# Words ---------------------------------------------------------------------------------------------------------------


def test_a_page_names_machine_seeds_and_command_but_no_time_and_no_folder(tmp_path: Path) -> None:
    arguments = asked("--out", str(tmp_path), "--seeds", "3", "--trials", "ravdess:6", "--markdown", f"{tmp_path}/a.md")
    command = command_of(arguments)
    assert command == "python benchmarks/distillation.py CORPORA --trials ravdess:6 --seeds 3"
    found = {**result([line("ravdess", "mtt", "6", trial(0.6, 0.6))]), "command": command}
    page = markdown_page(found, sheets_of(found), tmp_path / "pictures" / "a.svg", tmp_path / "a.md")
    assert "(pictures/a.svg)" in page
    for words in (
        "Some processor",
        "numpy 2.0",
        command,
        "| ravdess | edgenet x 1 | 6 a class | mtt | 6 | 5.7% | 400 |",
    ):
        assert words in page
    assert str(tmp_path) not in page
    assert not re.search(r"20\d\d-\d\d", page)
    tables = [part for part in page.split("\n\n") if part.startswith("|")]
    for table in tables:
        assert len({row.count("|") for row in table.splitlines()}) == 1, table


def test_panels_hold_each_method_and_the_bank_once_a_budget() -> None:
    lines = [line("emodb", "mtt", "2", trial(0.6, 0.6)), line("emodb", "random", "2", trial(0.5, 0.5))]
    lines.append(line("emodb", "mtt", "5", trial(0.7, 0.7, share=0.15)))
    panels = panels_of(result(lines))
    (panel,) = panels.values()
    assert {name: len(points) for name, points in panel["lines"].items()} == {
        "mtt": 2, "random": 1, "random clips, label bank": 2,
    }  # fmt: skip
    assert set(panel["levels"]) == {"full"}


# The program ---------------------------------------------------------------------------------------------------------

TINY = (
    "views=8", "experts.count=1", "experts.width=0.25", "experts.steps=6", "steps=6", "batch=16",
)  # fmt: skip


def table(out: Path, *words: str) -> tuple[dict[str, object], str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "distillation.py"), "nowhere", "--out", str(out)]
    rows = ("full", "random_bank", "random_bank_bytes")
    tiny = (
        "--trials",
        "demo:2",
        "--width",
        "0.25",
        "--seeds",
        "2",
        "--jobs",
        "1",
        "--rows",
        *rows,
        "--settings",
        *TINY,
    )
    done = subprocess.run([*command, *tiny, *words], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def kept(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_a_table_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "table"
    words = ("--methods", "herding", "kcenter", "--distillations", "2")
    found, said = table(out, *words)
    assert "distillation 1" in said
    assert [each["method"] for each in found["lines"]] == ["herding", "kcenter"]
    assert [each["distillations"] for each in found["lines"]] == [2, 2]
    assert found == json.loads((out / "table.json").read_text())
    experts = {path.read_bytes() for path in out.rglob("label-expert-0.safetensors")}
    assert len(experts) == 1  # of both methods, both seeds and the rows on real clips
    assert all(each["seconds"] > 0 and each["peak_rss_mb"] > 50 for each in found["lines"])

    before = kept(out)
    again, said = table(out, *words)
    assert again == found
    assert kept(out) == before
    assert "distillation 1" not in said

    next((out / "trials").glob("demo-2-kcenter-*-seed1-*/trial.json")).unlink()
    again, said = table(out, *words, "--picture", str(tmp_path / "a.svg"), "--markdown", str(tmp_path / "a.md"))
    assert [each["uar"] for each in again["lines"]] == [each["uar"] for each in found["lines"]]
    assert said.count("distillation 1") == 1
    assert (tmp_path / "a.svg").read_text().count("<svg ") == 1
    assert "kcenter" in (tmp_path / "a.md").read_text()
