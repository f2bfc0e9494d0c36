"""Grading a class of attackers: what each earns, and what cannot be had."""

import csv
import os
import pathlib
import re
import socket

import pytest

from kerasllm import homework
from tests.homework.attacks import CLASS, NEEDS_LANDLOCK, tampered
from tests.homework.tiny_course import TINY, TOTAL, nbformat, submit


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
    for name, (double, _) in CLASS.items():
        for old, new in places.items():
            double = double.replace(old, new)
        notebooks[name] = submit(released, {"double": double, "total": TOTAL})
    notebooks["untouched"] = released
    for name, notebook in notebooks.items():
        nbformat.write(notebook, submissions / f"{name}.ipynb")
    (submissions / "broken.ipynb").write_text('{"cells": [')
    (submissions / "no_notebook.ipynb").write_bytes(b"\x89PNG\0")
    (submissions / "empty.ipynb").write_text("")
    (submissions / "odd_cells.ipynb").write_text(
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": '
        '[{"cell_type": "code", "source": 3, "metadata": {"nbgrader": 1}}]}'
    )
    (submissions / "=cmd().ipynb").write_text("{}")
    results, seed = homework.grade(
        submissions,
        root / "grades.csv",
        folder,
        memory_gb=1.0,
        cell_seconds=4,
        call_seconds=2,
        total_seconds=60,
        unprotected=True,
    )
    try:
        listener.accept()
        called = True
    except TimeoutError:
        called = False
    return {
        "results": {result.student: result for result in results},
        "root": root,
        "called": called,
        "seed": seed,
    }


def earned(graded, name):
    if name in NEEDS_LANDLOCK and not homework.landlock_version():
        pytest.skip("this system has no Landlock")
    return graded["results"][name].scores


@pytest.mark.once
@pytest.mark.parametrize("name", CLASS)
def test_a_submission_gets_what_it_earned(name, graded):
    points = CLASS[name][1]
    scores = earned(graded, name)
    total = graded["results"][name].total
    result = graded["results"][name]
    if points is None:
        assert scores["test_double"] == 0, result
    else:
        assert total == points, result


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
def test_no_process_is_left_behind(graded):
    assert graded["results"]["leaves_a_process_behind"].total == 5
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert b"31415" not in path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


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
