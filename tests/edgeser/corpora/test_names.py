"""File names say emotion, speaker and sex: a table for each corpus."""

from __future__ import annotations

import pytest

from edgeser.corpora import demo
from edgeser.corpora.corpus import CorpusFormat, Spoken
from edgeser.corpora.emotions import ALIASES, EMOTIONS, plain_name
from edgeser.corpora.formats import cremad, demos, emodb, iemocap, ravdess, urdu
from edgeser.corpora.table import CORPORA

F, M = "female", "male"


@pytest.mark.parametrize(
    ("form", "stem", "expected"),
    [
        (ravdess, "03-01-01-01-01-01-01", ("neutral", "01", M)),
        (ravdess, "03-01-02-02-02-02-24", ("calm", "24", F)),
        (ravdess, "03-01-03-01-02-01-07", ("happiness", "07", M)),
        (ravdess, "03-01-04-01-01-01-10", ("sadness", "10", F)),
        (ravdess, "03-01-05-02-01-01-12", ("anger", "12", F)),
        (ravdess, "03-01-06-01-01-02-19", ("fear", "19", M)),
        (ravdess, "03-01-07-01-02-02-20", ("disgust", "20", F)),
        (ravdess, "03-01-08-02-02-01-23", ("surprise", "23", M)),
        (emodb, "03a01Fa", ("happiness", "03", M)),
        (emodb, "08b10Wd", ("anger", "08", F)),
        (emodb, "09a05Lb", ("boredom", "09", F)),
        (emodb, "10b01Aa", ("fear", "10", M)),
        (emodb, "12a02Ec", ("disgust", "12", M)),
        (emodb, "14a07Tb", ("sadness", "14", F)),
        (emodb, "16b03Nc", ("neutral", "16", F)),
        (emodb, "15a04N", ("neutral", "15", M)),
        (cremad, "1001_DFA_ANG_XX", ("anger", "1001", M)),
        (cremad, "1002_IEO_HAP_HI", ("happiness", "1002", F)),
        (cremad, "1091_WSI_DIS_XX", ("disgust", "1091", F)),
        (cremad, "1090_IEO_FEA_LO", ("fear", "1090", M)),
        (cremad, "1040_ITH_SAD_X", ("sadness", "1040", M)),
        (cremad, "1030_TSI_NEU_XX", ("neutral", "1030", F)),
        (urdu, "SM1_F10_A010", ("anger", "SM1", M)),
        (urdu, "SF11_F4_S04", ("sadness", "SF11", F)),
        (urdu, "SM5_F1_N1", ("neutral", "SM5", M)),
        (urdu, "SF1_F12_H012", ("happiness", "SF1", F)),
        (demos, "PR_m_23_tri00a", ("sadness", "23", M)),
        (demos, "NP_f_61_gio02c", ("happiness", "61", F)),
        (demos, "NP_f_55_pau00a", ("fear", "55", F)),
        (demos, "NP_m_01_rab10b", ("anger", "01", M)),
        (demos, "NP_m_69_dis100b", ("disgust", "69", M)),
        (demos, "PR_f_02_col03b", ("guilt", "02", F)),
        (demos, "PR_m_04_sor03b", ("surprise", "04", M)),
        (demos, "m_23_neu00a", ("neutral", "23", M)),
        (iemocap, "Ses01F_impro04_F000", ("", "Ses01_F", F)),
        (iemocap, "Ses05F_script03_2_M012", ("", "Ses05_M", M)),
        (iemocap, "Ses03M_script01_1b_F003", ("", "Ses03_F", F)),
        (demo, "m1_anger_03", ("anger", "m1", M)),
        (demo, "f5_sadness_08", ("sadness", "f5", F)),
    ],
)
def test_a_name_is_read(form: object, stem: str, expected: tuple[str, str, str]) -> None:
    spoken = form.parse_name(stem)  # type: ignore[attr-defined]
    assert isinstance(spoken, Spoken)
    assert (spoken.emotion, spoken.speaker, spoken.sex) == expected


@pytest.mark.parametrize(
    ("form", "stem"),
    [
        (ravdess, "03-02-01-01-01-01-01"),  # song
        (ravdess, "01-01-01-01-01-01-01"),  # video
        (ravdess, "03-01-09-01-01-01-01"),
        (ravdess, "03-01-01-02-01-01-01"),  # neutral has no strong form
        (ravdess, "03-01-05-01-01-01-25"),
        (ravdess, "03-01-05-01-01-01-00"),
        (ravdess, "03-01-05-01-01-01"),
        (emodb, "04a01Fa"),
        (emodb, "03c01Fa"),
        (emodb, "03a01Xa"),
        (emodb, "03a01Faa"),
        (cremad, "1001_DFA_SUR_XX"),
        (cremad, "1092_DFA_ANG_XX"),
        (cremad, "1000_DFA_ANG_XX"),
        (cremad, "1001_DFA_ANG"),
        (urdu, "SX1_F10_A010"),
        (urdu, "SM1_F10_B010"),
        (demos, "m_23_tri00a"),  # emotional utterances have a prefix
        (demos, "PR_m_23_neu00a"),  # neutral ones have none
        (demos, "NP_x_23_tri00a"),
        (demos, "NP_m_23_abc00a"),
        (iemocap, "Ses06F_impro04_F000"),
        (iemocap, "Ses01F_impro04"),
        (demo, "x1_anger_03"),
        (demo, "m1_guilt_03"),
    ],
)
def test_a_name_that_does_not_fit_is_refused(form: object, stem: str) -> None:
    assert form.parse_name(stem) is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", CORPORA.values(), ids=list(CORPORA))
def test_every_row_of_the_table_is_complete(form: CorpusFormat) -> None:
    card = form.card
    assert form.layout
    assert "\n" not in form.layout
    assert list(form.emotions) == sorted(set(form.emotions))
    assert set(form.emotions) <= set(EMOTIONS)
    for fact in (card.title, card.language, card.licence, card.kind, card.access, card.consent):
        assert fact
    assert card.describe()["licence"] == card.licence


def test_the_table_has_the_names_of_the_command_line() -> None:
    assert list(CORPORA) == "demo demos iemocap emodb ravdess cremad urdu folder manifest audformat".split()  # noqa: SIM905


@pytest.mark.parametrize(
    ("word", "name"), [(" Angry ", "anger"), ("JOY", "happiness"), ("Neutral", "neutral"), ("x", "x")]
)
def test_words_for_emotions_become_plain_names(word: str, name: str) -> None:
    assert plain_name(word) == name


def test_aliases_lead_to_known_emotions() -> None:
    assert set(ALIASES.values()) <= set(EMOTIONS)
    assert set(ALIASES).isdisjoint(EMOTIONS)
