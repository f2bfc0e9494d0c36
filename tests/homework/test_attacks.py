"""Grading a class of attackers: what each earns, and what cannot be had."""

import csv
import json
import os
import pathlib
import re
import socket
import tempfile

import pytest

from kerasllm import homework
from kerasllm.homework.kernels import _resources
from tests.homework.attacks import (
    CLASS,
    IN_ONE_NOTEBOOK,
    NEEDS_LANDLOCK,
    tampered,
)
from tests.homework.harmful import ANY, TEXTS
from tests.homework.tiny_course import (
    RIGHT,
    TINY,
    TOTAL,
    jupytext,
    nbformat,
    submit,
    with_copies,
    without_secrets,
)

LIMITS = {
    "memory_gb": 1.0, "cell_seconds": 3, "call_seconds": 2,
    "total_seconds": 40, "read_seconds": 6, "disk_gb": 0.05,
    "unprotected": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def graded(nbgrader, tmp_path_factory):
    """Grade the class once; the tests look at what each earned."""
    root = tmp_path_factory.mktemp("class")
    folder, submissions = root / "homework", root / "submissions"
    folder.mkdir()
    submissions.mkdir()
    (folder / "hw0_tiny.py").write_text(TINY)
    (path,) = homework.release(root / "release", folder)
    released = nbformat.read(path, as_version=4)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    places = {
        "SOURCE": str(folder / "hw0_tiny.py"),
        "SUBMISSIONS": str(submissions),
        "TEMPORARY": os.environ.get("TMPDIR", "/tmp"),
        "4242424242 % 65536": str(listener.getsockname()[1]),
    }
    notebooks = tampered(released)
    attacks = {}
    for name, (double, _) in CLASS.items():
        for old, new in places.items():
            double = double.replace(old, new)
        attacks[name] = double
    for name in CLASS.keys() - set(IN_ONE_NOTEBOOK):
        answers = {"double": attacks[name], "total": TOTAL}
        notebooks[name] = submit(released, answers)
    notebooks["untouched"] = released
    right = submit(released, {"double": RIGHT, "total": TOTAL})
    for name, text in TEXTS.items():
        notebooks[name] = nbformat.from_dict(json.loads(json.dumps(right)))
        notebooks[name].cells.append(nbformat.v4.new_markdown_cell(text))
    endless = f'y = f"{"{double}" * 10**6}"'
    notebooks["parsed_without_end"] = submit(
        released, {"double": endless, "total": TOTAL}
    )
    notebooks["claimed"] = notebooks["hw0_tiny_claimed"] = right
    notebooks["zz_right"] = right  # comes after all others
    for name, notebook in notebooks.items():
        text = nbformat.writes(notebook, ensure_ascii=True)
        (submissions / f"{name}.ipynb").write_text(text)
    os.mkfifo(submissions / "pipe.ipynb")
    (submissions / "zeros.ipynb").symlink_to("/dev/zero")
    (submissions / "broken.ipynb").write_text('{"cells": [')
    (submissions / "no_notebook.ipynb").write_bytes(b"\x89PNG\0")
    (submissions / "empty.ipynb").write_text("")
    (submissions / "odd_cells.ipynb").write_text(
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": '
        '[{"cell_type": "code", "source": 3, "metadata": {"nbgrader": 1}}]}'
    )
    (submissions / "=cmd().ipynb").write_text("{}")
    before = what_is_there()
    results, seed = homework.grade(
        submissions,
        root / "grades.csv",
        folder,
        **LIMITS,
    )
    one = grade_in_one(attacks, root / "one", submissions)
    after = what_is_there()
    try:
        listener.accept()
        called = True
    except TimeoutError:
        called = False
    return {
        "results": {result.student: result for result in results},
        "one": one,
        "root": root,
        "called": called,
        "left": after - before,
        "seed": seed,
    }


def grade_in_one(attacks, root, submissions):
    """Grade those attacks that one notebook can have."""
    text, renamed = with_copies(IN_ONE_NOTEBOOK)
    (root / "homework").mkdir(parents=True)
    (root / "homework" / "hw0_tiny.py").write_text(text)
    released = without_secrets(jupytext.reads(text, fmt="py:percent"))
    (root / "class").mkdir()
    # The right one, too, or else the solution would be graded.
    for student in ("one", "right"):
        answers = {"double": RIGHT, "total": TOTAL}
        for name in IN_ONE_NOTEBOOK:
            code = attacks[name] if student == "one" else RIGHT
            answers[name] = renamed(code, name)
        notebook = submit(released, answers)
        nbformat.write(notebook, root / "class" / f"{student}.ipynb")
    (one, right), _ = homework.grade(
        root / "class", root / "grades.csv", root / "homework", **LIMITS
    )
    assert right.total == 2 * len(IN_ONE_NOTEBOOK) + 5
    return one


def what_is_there():
    """Return processes, temporary folders, mounts and shared memory."""
    processes = {
        path.parent.name: path.read_bytes()
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")
        if os.access(path, os.R_OK)
    }
    found = {
        ("process", line)
        for line in processes.values()
        if b"31415" in line or b"homework.kernels" in line
    }
    temporary = pathlib.Path(tempfile.gettempdir())
    # Folders that `tempfile` names; other programs make some meanwhile.
    for path in temporary.glob("tmp????????"):
        if any(path.glob("kernel-*")) or any(path.glob("tmp????????")):
            found.add(("folder", path))
    found |= {
        ("mount", line)
        for line in pathlib.Path("/proc/mounts").read_text().splitlines()
        if "/tmp" in line
    }
    return found | _resources.shared_objects()


def earned(graded, name):
    """Return the points of `double` and `total`."""
    if name in NEEDS_LANDLOCK and not homework.landlock_version():
        pytest.skip("this system has no Landlock")
    if name in IN_ONE_NOTEBOOK:
        scores = graded["one"].scores
        # `total` comes last: the kernel has outlived all of them.
        return {key: scores[asked] for key, asked in (
            ("test_double", f"test_{name}"), ("test_total", "test_total")
        )}  # fmt: skip
    return graded["results"][name].scores


@pytest.mark.once
@pytest.mark.parametrize("name", CLASS)
def test_a_submission_gets_what_it_earned(name, graded):
    points = CLASS[name][1]
    scores = earned(graded, name)
    if points is None:
        assert scores["test_double"] == 0
    elif points != ANY:
        assert sum(score for score in scores.values() if score) == points


@pytest.mark.once
@pytest.mark.parametrize(
    "name",
    ["edits_a_test", "deletes_a_test", "relabels_a_test", "repeats_a_test",
     "changes_the_kernel", "edits_a_helper"],
)  # fmt: skip
def test_tests_are_the_instructors(name, graded):
    scores = earned(graded, name)
    assert scores["test_double"] == 0
    assert scores["test_total"] == 3
    assert set(scores) == {"test_double", "test_total", "picture"}


@pytest.mark.once
@pytest.mark.parametrize(
    "name", ["broken", "no_notebook", "empty", "odd_cells", "=cmd()"]
)
def test_a_broken_submission_does_not_stop_the_class(name, graded):
    result = graded["results"][name]
    assert result.total == 0
    assert any("not graded" in note for note in result.notes)
    assert graded["results"]["right"].total == 5


@pytest.mark.once
def test_an_untouched_submission_earns_nothing(graded):
    assert graded["results"]["untouched"].total == 0
    # Not even a look by a person is needed.
    assert graded["results"]["untouched"].scores["picture"] == 0


@pytest.mark.once
def test_nothing_left_the_sandbox(graded):
    if not homework.landlock_version():
        pytest.skip("this system has no Landlock")
    assert not (graded["root"] / "submissions" / "left_behind").exists()
    if homework.landlock_version() >= 4:
        assert not graded["called"]


@pytest.mark.once
def test_nothing_is_left_behind(graded):
    """Of processes, files, mounts and shared memory."""
    assert graded["left"] == set()


@pytest.mark.once
def test_who_comes_after_all_attackers_earns_all(graded):
    assert graded["results"]["zz_right"].total == 5
    assert graded["results"]["zz_right"].notes == []


@pytest.mark.once
def test_what_cannot_be_read_or_shown_in_time_costs_others_nothing(graded):
    endless = graded["results"]["parsed_without_end"]
    assert not endless.graded and set(endless.scores.values()) == {None}
    assert endless.notes[-1] == "not graded: reading it took more than 6 s"
    formula = graded["results"]["writes_a_formula_without_end"]
    assert formula.total == 5 and not formula.is_complete
    assert formula.notes[-1] == (
        "no feedback page could be made: making its page took more than 6 s"
    )


@pytest.mark.once
def test_what_uses_too_much_is_ended_with_a_reason(graded):
    for name, said in (("maps_memory", "more than 1 GB of memory"),
                       ("multiplies", "more than 64 processes")):  # fmt: skip
        notes = graded["results"][name].notes
        assert any(said in note for note in notes), notes


@pytest.mark.once
def test_what_no_notebook_can_hold_is_left_out_of_a_page(graded):
    result = graded["results"]["shows_what_no_notebook_can_hold"]
    assert result.is_complete and result.notes == ["uses get_ipython"]
    page = graded["root"] / "feedback" / f"{result.student}.html"
    assert "half \ufffd" in page.read_text()


@pytest.mark.once
def test_what_is_nobodys_for_sure_is_refused(graded):
    claimed = graded["results"]["claimed"]
    assert not claimed.graded and set(claimed.scores.values()) == {None}
    assert "2 files claim to be this student's" in claimed.notes[0]
    for name in ("pipe", "zeros"):
        assert not graded["results"][name].graded


@pytest.mark.once
def test_what_a_student_writes_is_shown_and_not_sent(graded):
    result = graded["results"]["sends_to_the_terminal"]
    assert r"\x1b[2A\x1b[2Kforged" in result.failures["test_double"]
    printed = "\n".join(homework.summarize([*graded["results"].values()]))
    pages = [path.read_text() for path in
             (graded["root"] / "feedback").glob("*.html")]  # fmt: skip
    for text in (printed, (graded["root"] / "grades.csv").read_text(), *pages):
        assert all(each.isprintable() or each in "\n\t" for each in text)
    page = graded["root"] / "feedback" / "writes_a_page_that_runs.html"
    page = page.read_text().partition("<body>")[2]
    for hostile in ("<script", "onerror", 'href="javascript:'):
        assert hostile not in page.lower()


@pytest.mark.once
def test_the_table_the_pages_and_the_notes(graded):
    with open(graded["root"] / "grades.csv", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert rows["right"]["automatic points"] == "5.0"
    assert rows["(most)"]["test_total"] == "3"
    assert "'=cmd()" in rows, "a name must not become a formula"
    page = (graded["root"] / "feedback" / "wrong.html").read_text()
    assert "The double of 1 is 2." in page
    script = (graded["root"] / "feedback" / "writes_a_script.html").read_text()
    assert "<script>steal_grades()" not in script
    for secret in ("HIDDEN TESTS", "rng.randrange", "expected ="):
        assert secret not in page
    notes = graded["results"]["imports_what_is_forbidden"].notes
    assert any("statistics.fsum, which is forbidden" in n for n in notes)
    lines = homework.summarize([*graded["results"].values()])
    assert any(re.search(r"\d+ x The double of", line) for line in lines)
