"""Which files count, and whose they are."""

import os

import pytest

from kerasllm import files, homework
from kerasllm.checks import UserError
from kerasllm.homework import _submissions
from kerasllm.homework._grade import _page_of
from tests.homework.tiny_course import nbformat

pytestmark = pytest.mark.any_backend

NAMES = ["hw1_tokens", "hw2_decoder"]
ZOE = "Zo\u00e9"  # composed, as in NFC


def hand_in(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("{}")


def test_submissions_are_found_in_both_forms(tmp_path):
    hand_in(tmp_path, "ann/hw1_tokens/hw1_tokens.ipynb",
            "ann/hw1_tokens/old.ipynb", "bob/hw1_tokens.ipynb",
            "hw1_tokens_cem.ipynb", "dan_HW1_Tokens.IPYNB")  # fmt: skip
    name, found, notes = homework.find_submissions(tmp_path, NAMES)
    assert name == "hw1_tokens"
    assert list(found) == ["ann", "bob", "cem", "dan"]
    assert found["ann"].name == "hw1_tokens.ipynb"
    assert notes == {"ann": "graded hw1_tokens.ipynb, not old.ipynb"}


def test_the_notebook_of_the_assignment_is_graded(tmp_path):
    hand_in(tmp_path, "ann/hw1_tokens/hw1_tokens.ipynb",
            "ann/hw2_decoder/hw2_decoder.ipynb",
            "bob/draft.ipynb", "bob/hw2_decoder (1).ipynb",
            "cem/hw2_decoder (1).ipynb", "cem/hw2_decoder.ipynb",
            "dan/hw1_tokens.ipynb", "eve.ipynb", "hw1_tokens_fay.ipynb",
            "hw2_decoder_fay.ipynb", "gus/a/it.ipynb", "gus/b/it.ipynb",
            "ida/Copy of hw2_decoder.ipynb")  # fmt: skip
    name, found, notes = homework.find_submissions(
        tmp_path, NAMES, "hw2_decoder"
    )
    assert name == "hw2_decoder"
    assert {student: path.name for student, path in found.items()} == {
        "ann": "hw2_decoder.ipynb",
        "bob": "hw2_decoder (1).ipynb",
        "cem": "hw2_decoder.ipynb",
        "dan": "hw1_tokens.ipynb",
        "eve": "eve.ipynb",
        "fay": "hw2_decoder_fay.ipynb",
        "gus": "it.ipynb",
        "ida": "Copy of hw2_decoder.ipynb",
    }
    # A note where an instructor could have chosen another, or has none.
    unnamed = "no file is named after the assignment"
    assert notes == {
        "bob": "graded hw2_decoder (1).ipynb, not draft.ipynb",
        "cem": "graded hw2_decoder.ipynb, not hw2_decoder (1).ipynb",
        "dan": f"graded hw1_tokens.ipynb: {unnamed}",
        "gus": f"graded gus/a/it.ipynb, not gus/b/it.ipynb: {unnamed}",
    }
    name, _, _ = homework.find_submissions(tmp_path, NAMES)
    assert name is None


@pytest.mark.parametrize(
    "file, student",
    [
        ("Zoe\u0301", ZOE),
        ("\u0939\u093f\u0928\u094d\u0926\u0940",) * 2,  # vowel signs, virama
        ("\u0645\u06cc\u200c\u0646\u0627",) * 2,  # joined by what is not seen
        ("O'Brien, Ann (1)",) * 2,
        ("Ann\u00a0Lee ", "Ann Lee"),
        (os.fsdecode(b"Zo\xe9"), r"Zo\xe9"),  # Latin-1, from an old archive
        ("two\nlines", r"two\nlines"),
        ("\x1b[2Jbob", r"\x1b[2Jbob"),
        ("\u202ebob", r"\u202ebob"),  # would print from right to left
        (" \u00a0", "(no name)"),
    ],
)
def test_a_name_is_a_text_of_any_script(tmp_path, file, student):
    hand_in(tmp_path, f"{file}.ipynb")
    _, found, notes = homework.find_submissions(tmp_path, NAMES[:1])
    assert list(found) == [student] and notes == {}
    hand_in(tmp_path / "folders", f"{file}/hw1_tokens.ipynb")
    _, found, _ = homework.find_submissions(tmp_path / "folders", NAMES[:1])
    assert list(found) == [student]
    student.encode()  # the table can be written


def test_one_student_is_one_whatever_the_form_of_the_name(tmp_path):
    hand_in(tmp_path, f"{ZOE}/hw1_tokens.ipynb", "Zoe\u0301/hw1_tokens.ipynb",
            "Zoe/hw1_tokens.ipynb")  # fmt: skip
    refused = set()
    _, found, notes = homework.find_submissions(
        tmp_path, NAMES, refused=refused
    )
    assert list(found) == ["Zoe"] and list(notes) == [ZOE]
    assert refused == {ZOE}


@pytest.mark.parametrize(
    "paths",
    [
        ["ann.ipynb", "hw1_tokens_ann.ipynb"],
        ["ann.ipynb", "hw1_tokens - ann.IPYNB"],
        ["ann.ipynb", "ann.ipynb.ipynb"],
        ["ann.ipynb", "ann/hw1_tokens.ipynb"],
        ["hw1_tokens_ann.ipynb", "ann/hw1_tokens/hw1_tokens.ipynb"],
        ["ann.ipynb", "ann /hw1_tokens.ipynb", "ann_hw1_tokens.ipynb"],
    ],
)
def test_two_files_that_claim_one_student_are_refused(tmp_path, paths):
    """Or else one student hands in for another."""
    hand_in(tmp_path, *paths, "bob.ipynb", "bob.pdf", "hw2_decoder_bob.ipynb",
            "cem/hw1_tokens.ipynb", "cem/old.ipynb")  # fmt: skip
    refused = set()
    _, found, notes = homework.find_submissions(
        tmp_path, NAMES, "hw1_tokens", refused=refused
    )
    assert list(found) == ["bob", "cem"] and refused == {"ann"}
    assert notes["ann"].startswith(f"not graded: {len(paths)} files claim to ")
    for path in paths:
        assert path.split("/")[0].strip() in notes["ann"]


def test_what_systems_leave_is_no_submission(tmp_path):
    """Ben is graded, not his twin; Dora has only the twin, and a row."""
    hand_in(tmp_path, "ben.ipynb", "._ben.ipynb", "._dora.ipynb", ".DS_Store",
            "__MACOSX/._solution.ipynb", "Thumbs.db", ".git/config",
            ".ipynb_checkpoints/ben-checkpoint.ipynb",
            "eva/__MACOSX/._hw1_tokens.ipynb", "eva/hw1_tokens.ipynb",
            "eva/.~hw1_tokens.ipynb", "fay/.DS_Store",
            "gus/.ipynb_checkpoints/hw1_tokens-checkpoint.ipynb")  # fmt: skip
    _, found, notes = homework.find_submissions(tmp_path, NAMES)
    assert {student: path.name for student, path in found.items()} == {
        "ben": "ben.ipynb", "eva": "hw1_tokens.ipynb"
    }  # fmt: skip
    left = "left by a system or an editor"
    assert notes == {
        "ben": f"not looked at: ._ben.ipynb ({left})",
        "dora": f"not graded: no notebook, but ._dora.ipynb ({left})",
        "eva": f"not looked at: .~hw1_tokens.ipynb ({left}), __MACOSX ({left})",
        "fay": f"not graded: no notebook, but .DS_Store ({left})",
        "gus": f"not graded: no notebook, but .ipynb_checkpoints ({left})",
    }
    assert homework.find_leftovers(tmp_path, NAMES) == [
        ".DS_Store", ".git", ".ipynb_checkpoints", "Thumbs.db", "__MACOSX"
    ]  # fmt: skip


def test_nothing_that_is_handed_in_vanishes(tmp_path, monkeypatch):
    hand_in(tmp_path, "ann.pdf", "bob/hw1.zip", "bob/hw1.py",
            "cem/hw1_tokens.ipynb", "cem/plot.png", "dan.ipynb.txt",
            "shut/hw1_tokens.ipynb")  # fmt: skip
    (tmp_path / "eve.ipynb").symlink_to("/etc/passwd")
    (tmp_path / "fay").symlink_to(tmp_path / "cem")
    (tmp_path / "gus.ipynb").symlink_to(tmp_path / "gus.ipynb")
    os.mkfifo(tmp_path / "hal.ipynb")
    (tmp_path / "ida").mkdir()
    scan = os.scandir

    def refuse(folder):
        if os.path.basename(folder) == "shut":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(_submissions.os, "scandir", refuse)
    refused = set()
    _, found, notes = homework.find_submissions(
        tmp_path, NAMES, refused=refused
    )
    assert list(found) == ["cem"]
    assert refused == {"shut"}  # is to blame for nothing
    none = "not graded: no notebook, but "
    assert notes == {
        "ann": f"{none}ann.pdf (no notebook)",
        "bob": f"{none}hw1.py (no notebook), hw1.zip (no notebook)",
        "cem": "not looked at: plot.png (no notebook)",
        "dan": f"{none}dan.ipynb.txt (no notebook)",
        "eve": f"{none}eve.ipynb (a link)",
        "fay": f"{none}fay (a link)",
        "gus": f"{none}gus.ipynb (a link)",
        "hal": f"{none}hal.ipynb (no file)",
        "ida": f"{none}ida (an empty folder)",
        "shut": f"{none}shut (cannot be read: Permission denied)",
    }


def test_a_class_in_one_folder_more_is_not_one_student(tmp_path):
    """As it comes out of an archive."""
    hand_in(tmp_path, "class/ann/hw1_tokens.ipynb", "class/bob/mine.ipynb",
            "__MACOSX/class/ann/._hw1_tokens.ipynb")  # fmt: skip
    with pytest.raises(UserError, match=r"class, such as ann, bob\. Name"):
        homework.find_submissions(tmp_path, NAMES)
    _, found, _ = homework.find_submissions(tmp_path / "class", NAMES)
    assert list(found) == ["ann", "bob"]
    # Nor is one student of whom there are two assignments a class.
    hand_in(tmp_path / "one", "ann/hw1_tokens/hw1_tokens.ipynb",
            "ann/hw2_decoder/hw2_decoder.ipynb", "ann/old/i.ipynb")  # fmt: skip
    _, found, _ = homework.find_submissions(tmp_path / "one", NAMES, NAMES[0])
    assert list(found) == ["ann"]


@pytest.mark.parametrize(
    "files, is_class",
    [
        (["ann.ipynb", "bob.ipynb"], True),
        (["hw1_tokens_ann.ipynb", "hw1_tokens_bob.ipynb"], True),
        (["hw1_tokens.ipynb", "old.ipynb"], False),
        (["Copy of HW1_tokens (1).ipynb", "old.ipynb"], False),
        (["mine.ipynb", "plot.png"], False),
    ],
)
def test_files_of_a_class_in_one_folder_are_not_one_students(
    tmp_path, files, is_class
):
    """Or else one of them is graded, and the others are a note."""
    hand_in(tmp_path, *(f"class/{file}" for file in files), "read.me")
    if is_class:
        with pytest.raises(UserError, match="below class, such as .* Name "):
            homework.find_submissions(tmp_path, NAMES)
    else:
        _, found, _ = homework.find_submissions(tmp_path, NAMES, NAMES[0])
        assert list(found) == ["class"]


def test_folders_in_each_other_are_followed_only_so_far(tmp_path):
    """Python would give up after some hundreds, and everybody be ungraded."""
    hand_in(tmp_path, "ann/hw1_tokens.ipynb", "bob/1/2/3/hw1_tokens.ipynb",
            "cem/" + "d/" * 700 + "hw1_tokens.ipynb")  # fmt: skip
    _, found, notes = homework.find_submissions(tmp_path, NAMES)
    assert list(found) == ["ann", "bob"] and list(notes) == ["cem"]
    assert "d (more than 20 folders in each other)" in notes["cem"]


def test_a_path_that_is_too_long_stops_nobody_else(tmp_path, monkeypatch):
    """As an archive makes it that is opened elsewhere."""
    hand_in(tmp_path, "ann/hw1_tokens.ipynb")
    monkeypatch.chdir(tmp_path)
    for name in ["bob", *["x" * 250] * 17]:
        os.mkdir(name)
        os.chdir(name)
    refused = set()
    _, found, notes = homework.find_submissions(
        tmp_path, NAMES, refused=refused
    )
    assert list(found) == ["ann"] and refused == {"bob"}
    assert "cannot be read: File name too long" in notes["bob"]


def test_many_files_are_counted(tmp_path):
    hand_in(tmp_path, *(f"ann/{number}.png" for number in range(8)))
    _, _, notes = homework.find_submissions(tmp_path, NAMES)
    assert notes["ann"].endswith("4.png (no notebook) and 3 more")


def test_what_grading_writes_is_no_submission(tmp_path):
    hand_in(tmp_path, "ann.ipynb", "out/grades.csv", "feedback/ann.html")
    outputs = [tmp_path / "out" / "grades.csv", tmp_path / "feedback"]
    _, found, notes = homework.find_submissions(
        tmp_path, NAMES, outputs=outputs
    )
    assert list(found) == ["ann"] and notes == {}
    # But a student may be called so.
    hand_in(tmp_path, "feedback/hw1_tokens.ipynb")
    _, found, notes = homework.find_submissions(
        tmp_path, NAMES, outputs=outputs
    )
    assert list(found) == ["ann", "feedback"] and notes == {}


@pytest.mark.parametrize("text", ["a\ud800b", "\udc00", "\ud83d\ude00"])
def test_a_notebook_is_read_whatever_halves_of_characters_it_has(
    tmp_path, text
):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text)])
    path = tmp_path / "ann.ipynb"
    path.write_text(nbformat.writes(notebook, ensure_ascii=True))
    read, problem = homework.read_submission(path)
    assert problem is None
    read.cells[0].source.encode()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_notebook_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    """As some editors on Windows write it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("é")])
    path = tmp_path / "ann.ipynb"
    path.write_text(nbformat.writes(notebook), encoding=encoding)
    read, problem = homework.read_submission(path)
    assert problem is None and read.cells[0].source == "é"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "ann.ipynb")
    read, problem = homework.read_submission(tmp_path / "ann.ipynb")
    assert read is None and problem == "it is no file"


def test_a_file_that_the_machine_cannot_read_is_not_its_students_fault(
    tmp_path,
):
    with pytest.raises(homework.MachineError, match=r"Received: ann.ipynb \("):
        homework.read_submission(tmp_path / "ann.ipynb")


def test_a_page_of_any_name_can_be_written(tmp_path):
    long = ["\u65e5" * 83, "\u65e5" * 82 + "a", r"\xe9" * 120, "x" * 249]
    pages = [_page_of(student) for student in long]
    assert len(set(pages)) == 4 and _page_of("zo\u00e9") == "zo\u00e9.html"
    for page in pages:
        with files.whole_file(tmp_path / page) as file:
            file.write("points")
    files.check_unchanged([tmp_path / page for page in pages], force=True)
