"""The user's own recordings: a folder a class, a manifest, an audformat database."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from edgeser.corpora import SpeakerParts, load_corpus, make_split
from edgeser.corpora.errors import (
    CorpusError,
    CorpusNotFound,
    EmptyCorpus,
    MissingColumns,
    SpeakerLeak,
    UnknownLabel,
    UnknownSpeaker,
    UnreadableLabels,
    WrongCorpus,
)
from edgeser_export.utilities.errors import MissingExtra, TextError

Touch = Callable[[Iterable[str]], Path]


def speakers_of(folder: Path, name: str = "folder") -> dict[str, tuple[str, str]]:
    corpus = load_corpus(name, folder)
    return {
        utterance.path.relative_to(corpus.folder).as_posix(): (utterance.emotion, utterance.speaker)
        for utterance in corpus.utterances
    }


class TestFolder:
    def test_the_speaker_is_what_stands_before_the_underscore(self, touch: Touch) -> None:
        folder = touch(["Angry/anna_001.wav", "Angry/ben_001.MP3", "happy/anna_2_b.ogg", "bored/ben_7.flac"])
        assert speakers_of(folder) == {
            "Angry/anna_001.wav": ("anger", "anna"),
            "Angry/ben_001.MP3": ("anger", "ben"),
            "happy/anna_2_b.ogg": ("happiness", "anna"),
            "bored/ben_7.flac": ("boredom", "ben"),
        }

    def test_a_folder_inside_the_class_is_the_speaker(self, touch: Touch) -> None:
        folder = touch(["anger/anna/001.wav", "anger/ben/001.wav", "neutral/anna/001.wav", "neutral/ben/x/2.wav"])
        assert {speaker for _, speaker in speakers_of(folder).values()} == {"anna", "ben"}

    def test_a_table_goes_before_names(self, touch: Touch) -> None:
        folder = touch(["anger/a_1.wav", "neutral/a_2.wav"])
        (folder / "speakers.csv").write_text("file;speaker;sex\nanger/a_1.wav;anna;f\nneutral/a_2.wav;ben;male\n")
        corpus = load_corpus("folder", folder)
        assert [(one.speaker, one.sex) for one in corpus.utterances] == [("anna", "female"), ("ben", "male")]

    def test_a_table_of_another_system(self, touch: Touch) -> None:
        folder = touch(["anger/e\u0301_1.wav", "neutral/a_2.wav"])
        (folder / "speakers.csv").write_text("sep=;\nfile;speaker\nanger\\\u00e9_1.wav;1.0\nneutral\\a_2.wav;2\n")
        assert load_corpus("folder", folder).speakers == ("1", "2")

    def test_names_that_are_not_utf_8(self, touch: Touch, tmp_path: Path) -> None:
        folder = touch(["anger/anna_1.wav", "anger/anna_caf\udce9.wav", "neutral/anna_1.wav"])
        corpus = load_corpus("folder", folder)
        assert [each.reason for each in corpus.skipped] == ["its name is not UTF-8"]
        assert len(corpus.utterances) == 2
        (folder / "caf\udce9").mkdir()
        (folder / "caf\udce9" / "anna_1.wav").touch()
        with pytest.raises(TextError, match="is not UTF-8"):
            load_corpus("folder", folder)
        with pytest.raises(TextError, match="is not UTF-8"):
            load_corpus("folder", folder / "caf\udce9")

    def test_a_folder_above_the_classes_will_do(self, touch: Touch) -> None:
        folder = touch(["mine/anger/anna_1.wav", "mine/neutral/anna_2.wav"])
        assert load_corpus("folder", folder).labels == ("anger", "neutral")

    def test_one_class_with_speakers_is_not_taken_for_a_folder_above(self, touch: Touch) -> None:
        folder = touch(["anger/anna/1.wav", "anger/ben/2.wav"])
        assert speakers_of(folder)["anger/anna/1.wav"] == ("anger", "anna")

    def test_a_class_of_ones_own_is_kept(self, touch: Touch) -> None:
        folder = touch(["Laughing/anna_1.wav", "anger/anna_2.wav"])
        assert load_corpus("folder", folder).labels == ("anger", "laughing")

    def test_strays_are_counted(self, touch: Touch) -> None:
        corpus = load_corpus(
            "folder", touch(["anger/anna_1.wav", "calm/anna_2.wav", "stray_1.wav", "notes.txt", ".x.wav"])
        )
        assert [(skipped.path.name, skipped.reason) for skipped in corpus.skipped] == [
            ("stray_1.wav", "it lies in no class folder")
        ]

    def test_a_name_without_speaker_is_an_error(self, touch: Touch) -> None:
        with pytest.raises(UnknownSpeaker, match=r"001\.wav") as caught:
            load_corpus("folder", touch(["anger/001.wav", "neutral/001.wav"]))
        assert "speakers.csv" in caught.value.hint

    def test_every_clip_its_own_speaker_is_an_error(self, touch: Touch) -> None:
        with pytest.raises(UnknownSpeaker, match="each of 4 recordings has another name"):
            load_corpus("folder", touch([f"anger/{number}_a.wav" for number in range(4)]))

    def test_a_recording_that_the_table_lacks_is_an_error(self, touch: Touch) -> None:
        folder = touch(["anger/a_1.wav", "neutral/a_2.wav"])
        (folder / "speakers.csv").write_text("file,speaker\nanger/a_1.wav,anna\n")
        with pytest.raises(UnknownSpeaker, match=r"a_2\.wav"):
            load_corpus("folder", folder)

    def test_a_card_beside_the_recordings(self, touch: Touch) -> None:
        folder = touch(["anger/anna_1.wav", "neutral/anna_2.wav"])
        assert load_corpus("folder", folder).card.licence == "not stated"
        (folder / "card.toml").write_text(
            'title = "Our kitchen"\nlicence = "private"\nkind = "acted"\nconsent = "yes"\n'
        )
        card = load_corpus("folder", folder).card
        assert (card.title, card.licence, card.kind, card.consent) == ("Our kitchen", "private", "acted", "yes")

    def test_the_texts_of_a_card_are_tidy(self, touch: Touch) -> None:
        folder = touch(["anger/anna_1.wav", "neutral/anna_2.wav"])
        (folder / "card.toml").write_text('title = " Cafe\u0301  "\nnotes = """one\ntwo"""\n')
        card = load_corpus("folder", folder).card
        assert (card.title, card.notes) == ("Caf\u00e9", "one two")
        (folder / "card.toml").write_text('title = "a\\u200eb"\n')
        with pytest.raises(TextError, match=r"card\.toml, title: 'a\\u200eb' holds"):
            load_corpus("folder", folder)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("title = ", "not readable TOML"),
            ('colour = "red"', "no field"),
            ("title = 3", "text"),
            ('kind = "odd"', "odd"),
        ],
    )
    def test_a_broken_card(self, touch: Touch, text: str, words: str) -> None:
        folder = touch(["anger/anna_1.wav", "anger/anna_2.wav"])
        (folder / "card.toml").write_text(text)
        with pytest.raises(UnreadableLabels, match=words):
            load_corpus("folder", folder)


class TestManifest:
    @pytest.fixture
    def clips(self, touch: Touch) -> Path:
        return touch(f"clips/{number}.wav" for number in range(1, 7))

    def test_csv(self, clips: Path) -> None:
        text = "path,emotion,speaker,sex,session\nclips/1.wav,Angry,anna,f,A\nclips/2.wav,neutral,ben,,\n"
        (clips / "list.csv").write_text("\ufeff" + text, encoding="utf-8")
        corpus = load_corpus("manifest", clips / "list.csv")
        first, second = corpus.utterances
        assert (first.emotion, first.speaker, first.sex, first.session) == ("anger", "anna", "female", "A")
        assert (second.emotion, second.speaker, second.sex, second.session) == ("neutral", "ben", None, None)
        assert first.path == clips / "clips/1.wav"

    def test_json_lines_in_a_folder(self, clips: Path) -> None:
        records = [
            {"path": "clips/1.wav", "emotion": "joy", "speaker": 1, "note": "x"},
            {"path": str(clips / "clips/2.wav"), "emotion": "sad", "speaker": "2", "sex": None},
        ]
        (clips / "manifest.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n\n")
        assert speakers_of(clips, "manifest") == {
            "clips/1.wav": ("happiness", "1"),
            "clips/2.wav": ("sadness", "2"),
        }

    def test_a_column_split_becomes_official(self, clips: Path) -> None:
        parts = {"a": "train", "b": "validation", "c": "Test"}
        lines = [
            f"clips/{number}.wav\t{emotion}\t{speaker}\t{part}"
            for number, ((speaker, part), emotion) in enumerate(
                ((item, emotion) for item in parts.items() for emotion in ("anger", "neutral")), start=1
            )
        ]
        (clips / "manifest.csv").write_text("\n".join(["path\temotion\tspeaker\tsplit", *lines]))
        corpus = load_corpus("manifest", clips)
        assert corpus.splits == {"official": SpeakerParts(("b",), ("c",))}
        split = make_split(corpus)
        assert (split.name, len(split.train), len(split.dev), len(split.test)) == ("official", 2, 2, 2)

    def test_declared_labels(self, clips: Path) -> None:
        (clips / "m.csv").write_text("path,emotion,speaker\nclips/1.wav,Yawning,a\nclips/2.wav,anger,a\n")
        (clips / "labels.txt").write_text("# of our own\nyawning   # tired\n\n")
        assert load_corpus("manifest", clips / "m.csv").labels == ("anger", "yawning")

    @pytest.mark.parametrize(
        "text",
        [
            "path;emotion;speaker\r\nclips\\1.wav;anger;anna\r\nclips\\2.wav;neutral;ben",
            "sep=;\r\npath;emotion;speaker\r\nclips/1.wav;anger;anna\r\nclips/2.wav;neutral;ben\r\n",
            "\ufeffsep=|\npath|emotion|speaker\nclips/1.wav|anger|anna\n.\\clips\\2.wav|neutral|ben\n",
        ],
    )
    def test_tables_of_spreadsheets(self, clips: Path, text: str) -> None:
        (clips / "manifest.csv").write_bytes(text.encode())
        assert speakers_of(clips, "manifest") == {
            "clips/1.wav": ("anger", "anna"),
            "clips/2.wav": ("neutral", "ben"),
        }

    def test_lines_keep_their_numbers_behind_a_line_with_the_separator(self, clips: Path) -> None:
        (clips / "manifest.csv").write_text("sep=;\npath;emotion;speaker\nclips/1.wav;angre;anna\n")
        with pytest.raises(UnknownLabel, match="line 3"):
            load_corpus("manifest", clips)

    @pytest.mark.parametrize(("on_disk", "written"), [("e\u0301", "\u00e9"), ("\u00e9", "e\u0301")])
    def test_letters_of_paths_may_be_composed_or_not(self, touch: Touch, on_disk: str, written: str) -> None:
        folder = touch([f"t{on_disk}/{on_disk}.wav"])
        (folder / "manifest.csv").write_text(f"path,emotion,speaker\nt{written}/{written}.wav,anger,a\n")
        assert load_corpus("manifest", folder).utterances[0].path == folder / f"t{on_disk}" / f"{on_disk}.wav"

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            (["1", "1.0", "2.0"], ["1", "1", "2"]),
            (["1.0", "2.1", "1"], ["1.0", "2.1", "1"]),
            (["01", "1", "01"], ["01", "01", "01"]),
            (["Anna", "anna ", "ANNA"], ["ANNA", "ANNA", "ANNA"]),
            (["Jose\u0301", "Jos\u00e9", "ben"], ["Jos\u00e9", "Jos\u00e9", "ben"]),
        ],
    )
    def test_spellings_of_one_speaker(self, clips: Path, written: list[str], meant: list[str]) -> None:
        lines = [f"clips/{number}.wav,anger,{name}" for number, name in enumerate(written, start=1)]
        (clips / "manifest.csv").write_text("\n".join(["path,emotion,speaker", *lines]))
        corpus = load_corpus("manifest", clips)
        assert [one.speaker for one in corpus.utterances] == meant
        assert bool(corpus.remarks) == (written[0] in ("01", "Anna"))

    def test_two_spellings_of_a_label_are_said(self, clips: Path) -> None:
        (clips / "labels.txt").write_text("very angry\nvery_angry\n")
        rows = ["clips/1.wav,very angry,a", "clips/2.wav,Very_Angry,b", "clips/3.wav,very  angry,b"]
        (clips / "manifest.csv").write_text("\n".join(["path,emotion,speaker", *rows]))
        corpus = load_corpus("manifest", clips)
        assert corpus.labels == ("very angry", "very_angry")
        assert corpus.remarks == (
            "the labels 'very angry' and 'very_angry' are 2 classes; give them one spelling if they are one",
        )

    def test_text_that_no_kit_can_carry(self, clips: Path) -> None:
        for emotion, speaker, words in (("an\u200eger", "a", "LEFT-TO-RIGHT"), ("anger", "a\x1b[2J", r"U\+001B")):
            (clips / "manifest.csv").write_text(f"path,emotion,speaker\nclips/1.wav,{emotion},{speaker}\n")
            with pytest.raises(TextError, match=f"line 2.*{words}"):
                load_corpus("manifest", clips)

    HEADER = "path,emotion,speaker,sex,split\n"

    @pytest.mark.parametrize(
        ("text", "kind", "words"),
        [
            ("path,emotion\nclips/1.wav,anger\n", MissingColumns, "column speaker is missing; found: path, emotion"),
            ("file,label\nx,y\n", MissingColumns, "column path, emotion, speaker is missing"),
            ('{"path": "clips/1.wav", "emotion": "anger"}', MissingColumns, "column speaker is missing"),
            (HEADER + "clips/1.wav,angre,a,,\n", UnknownLabel, "line 2: 'angre' is not a known label"),
            (HEADER + "clips/1.wav,,a,,\n", UnknownLabel, "line 2: the label is empty"),
            (HEADER + "clips/1.wav,anger,,,\n", UnknownSpeaker, "line 2"),
            (HEADER + "clips/1.wav\n", UnknownLabel, "line 2: the label is empty"),
            (HEADER + "clips/9.wav,anger,a,,\n", UnreadableLabels, "there is no recording .*9.wav"),
            (HEADER + ",anger,a,,\n", UnreadableLabels, "there is no recording"),
            (HEADER + "clips/1.wav,anger,a,x,\n", UnreadableLabels, "sex is 'x'"),
            (
                HEADER + "clips/1.wav,anger,a,,dev\nclips/1.wav,anger,a,,dev\n",
                UnreadableLabels,
                "line 3 names .* again",
            ),
            (HEADER + "clips/1.wav,anger,a,,best\n", UnreadableLabels, "split is 'best'"),
            (HEADER + "clips/1.wav,anger,a,,dev\nclips/2.wav,anger,b,,\n", UnreadableLabels, "line 3: split is ''"),
            (HEADER + "clips/1.wav,anger,a,,dev\nclips/2.wav,anger,a,,test\n", SpeakerLeak, "both dev and test: a"),
            (HEADER + "clips/1.wav,anger,a,,,,,\n", UnreadableLabels, "more cells"),
            (HEADER + 'clips/1.wav,"anger,a,,\n', UnreadableLabels, "unexpected end"),
            (HEADER, UnreadableLabels, "no rows"),
            ("", UnreadableLabels, "is empty"),
            ("{not json}", UnreadableLabels, "line 1 is not JSON"),
            (
                '{"path": "clips/1.wav", "emotion": "anger", "speaker": "a"}\n[1]',
                UnreadableLabels,
                "line 2 is not a JSON",
            ),
        ],
    )
    def test_a_broken_manifest(self, clips: Path, text: str, kind: type[CorpusError], words: str) -> None:
        (clips / "manifest.csv").write_text(text)
        with pytest.raises(kind, match=words) as caught:
            load_corpus("manifest", clips)
        assert caught.value.exit_code == 2
        assert "\n" not in caught.value.message + caught.value.hint

    def test_an_unknown_label_suggests_a_near_one_and_the_way_to_declare(self, clips: Path) -> None:
        (clips / "manifest.csv").write_text("path,emotion,speaker\nclips/1.wav,angre,a\n")
        with pytest.raises(UnknownLabel) as caught:
            load_corpus("manifest", clips)
        assert "did you mean 'anger'?" in caught.value.hint
        assert "labels.txt" in caught.value.hint

    def test_not_text(self, clips: Path) -> None:
        (clips / "manifest.csv").write_bytes(b"path,emotion,speaker\n\xff\xfe\x00")
        with pytest.raises(UnreadableLabels, match="UTF-8"):
            load_corpus("manifest", clips)

    def test_two_manifests_in_a_folder(self, touch: Touch) -> None:
        with pytest.raises(UnreadableLabels, match="holds both"):
            load_corpus("manifest", touch(["manifest.csv", "manifest.jsonl"]))

    def test_no_manifest(self, tmp_path: Path) -> None:
        with pytest.raises(CorpusNotFound, match="not a manifest"):
            load_corpus("manifest", tmp_path)


class TestAudformat:
    @pytest.fixture
    def database(self, touch: Touch) -> Path:
        audformat = pytest.importorskip("audformat")
        names = [f"audio/{number}.wav" for number in range(6)]
        folder = touch(names)
        made = audformat.Database("own", languages=["deu"], license="CC0-1.0", description="six files")
        made.schemes["emotion"] = audformat.Scheme(labels=["anger", "happy", "neutral"])
        facts = {"1": {"gender": "female"}, "2": {"gender": "male"}, "3": {}}
        made.schemes["speaker"] = audformat.Scheme(labels=facts)
        made["emotion"] = audformat.Table(audformat.filewise_index(names))
        made["emotion"]["emotion"] = audformat.Column(scheme_id="emotion")
        made["emotion"]["emotion"].set(["anger", "happy", "neutral", None, "anger", "neutral"])
        made["files"] = audformat.Table(audformat.filewise_index(names))
        made["files"]["speaker"] = audformat.Column(scheme_id="speaker")
        made["files"]["speaker"].set(["1", "1", "2", "2", "3", "3"])
        made.save(str(folder))
        return folder

    def test_emotions_and_speakers_come_from_their_tables(self, database: Path) -> None:
        (database / "audio/5.wav").unlink()
        corpus = load_corpus("audformat", database)
        assert [(one.path.name, one.emotion, one.speaker, one.sex) for one in corpus.utterances] == [
            ("0.wav", "anger", "1", "female"),
            ("1.wav", "happiness", "1", "female"),
            ("2.wav", "neutral", "2", "male"),
            ("4.wav", "anger", "3", None),
        ]
        assert [skipped.reason for skipped in corpus.skipped] == ["no emotion", "the recording is not on this disk"]
        assert corpus.card.licence == "CC0-1.0"

    def test_numbers_of_speakers_with_gaps_are_whole_numbers(self, touch: Touch) -> None:
        audformat = pytest.importorskip("audformat")
        folder = touch(f"{number}.wav" for number in range(3))
        made = audformat.Database("own", description="two\nlines")
        made.schemes["emotion"] = audformat.Scheme(labels=["anger", "neutral"])
        made.schemes["speaker"] = audformat.Scheme("float")
        table = audformat.Table(audformat.filewise_index([f"{number}.wav" for number in range(3)]))
        made["emotion"] = table
        table["emotion"] = audformat.Column(scheme_id="emotion")
        table["emotion"].set(["anger", "neutral", "anger"])
        table["speaker"] = audformat.Column(scheme_id="speaker")
        table["speaker"].set([1.0, 1.0, 2.0])
        made.save(str(folder))
        corpus = load_corpus("audformat", folder)
        assert corpus.speakers == ("1", "2")
        assert corpus.card.notes == "two lines"

    def test_tables_of_parts_become_the_official_split(self, touch: Touch) -> None:
        audformat = pytest.importorskip("audformat")
        folder = touch(f"{number}.wav" for number in range(6))
        made = audformat.Database("own")
        made.schemes["emotion"] = audformat.Scheme(labels=["anger", "neutral"])
        made.schemes["speaker"] = audformat.Scheme("str")
        for part, speaker, files in (("train", "a", (0, 1)), ("dev", "b", (2, 3)), ("test", "c", (4, 5))):
            table = audformat.Table(audformat.filewise_index([f"{number}.wav" for number in files]))
            made[f"emotion.{part}"] = table
            table["emotion"] = audformat.Column(scheme_id="emotion")
            table["emotion"].set(["anger", "neutral"])
            table["speaker"] = audformat.Column(scheme_id="speaker")
            table["speaker"].set([speaker, speaker])
        made.save(str(folder))
        split = make_split(load_corpus("audformat", folder))
        assert (split.name, [one.speaker for one in split.test]) == ("official", ["c", "c"])

    def test_a_folder_without_a_database(self, touch: Touch) -> None:
        with pytest.raises(WrongCorpus, match="audformat"):
            load_corpus("audformat", touch(["a.wav"]))

    def test_a_database_without_recordings(self, database: Path) -> None:
        for path in database.glob("audio/*"):
            path.unlink()
        with pytest.raises(EmptyCorpus):
            load_corpus("audformat", database)

    def test_a_damaged_database(self, database: Path) -> None:
        (database / "db.yaml").write_text("name: [")
        with pytest.raises(UnreadableLabels, match="audformat cannot read it"):
            load_corpus("audformat", database)

    def test_a_missing_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "db.yaml").touch()
        monkeypatch.setitem(sys.modules, "audformat", None)  # what the import system does with a package that is absent
        with pytest.raises(MissingExtra) as caught:
            load_corpus("audformat", tmp_path)
        assert ".[audformat]" in caught.value.hint
