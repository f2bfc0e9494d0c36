"""A class of 30 submissions of the first homework, and what each earns.

    python -m tests.homework_class

writes the submissions, grades them with `kerasllm homework grade` and prints
the table that is in chapters/homework/README.md. It takes some minutes. It
fails if any of them earns another number of points than it should. Before
that, `tests.homework.hostile_class` grades a class with those who harm others;
`python -m tests.homework_class hostile` does only this.
"""

import contextlib
import csv
import json
import pathlib
import re
import sys
import tempfile

import nbformat

from kerasllm import cli, homework
from tests.homework import hostile_class

NAME = "hw1_tokens_and_windows"
MOST = 85  # by tests; a person gives the other 15
RIGHT, PARTLY, BROKEN, HOSTILE = "right", "partly right", "broken", "hostile"
STUB = "raise NotImplementedError()"
LAST = "count_batches"  # the last function, which nothing else uses: 5 points
HEAD = f"def {LAST}(num_tokens, sequence_length, batch_size):\n"


class Submission:
    """A student's notebook, at first with the whole solution.

    The figure, most of the time of grading, is left undone.
    """

    def __init__(self):
        self.notebook = homework.read_source(homework.sources()[NAME])
        self["figure"] = STUB
        self["discussion"] = "Fewer bytes, more tokens."

    def cell(self, grade_id):
        (cell,) = [c for c in self.notebook.cells if c.id == grade_id]
        return cell

    def __getitem__(self, grade_id):
        return self.cell(grade_id).source

    def __setitem__(self, grade_id, source):
        self.cell(grade_id).source = source

    def answers(self):
        """Return the ids of the cells in which students write code."""
        return [
            cell.id
            for cell in self.notebook.cells
            if homework.is_cell(cell, "solution")
            and not homework.is_cell(cell, "grade")
        ]

    def tests(self):
        """Return the cells of tests."""
        return [
            cell
            for cell in self.notebook.cells
            if homework.is_cell(cell, "grade") and homework.is_locked(cell)
        ]

    def leave_undone(self, kept=()):
        """Leave what is not `kept` as it was handed out."""
        for grade_id in self.answers():
            if grade_id not in kept:
                head, _, _ = self[grade_id].partition("    ### BEGIN SOLUTION")
                self[grade_id] = f"{head}    {STUB}"

    def replace(self, grade_id, old, new):
        """Make a mistake."""
        assert old in self[grade_id], f"{grade_id} has no {old!r}"
        self[grade_id] = self[grade_id].replace(old, new)

    def insert(self, source, position=1):
        """Insert a cell of the student's own."""
        cell = nbformat.v4.new_code_cell(source)
        cell.id = f"own-{len(self.notebook.cells)}"
        self.notebook.cells.insert(position, cell)

    def content(self):
        """Return what is handed in, a str."""
        return nbformat.writes(self.notebook)


STUDENTS = {}


def student(kind, what, points):
    """Return a decorator that adds a submission to the class.

    Args:
        kind: str.
        what: str, what is special about it.
        points: int, what it should earn by tests.
    """

    def add(function):
        STUDENTS[function.__name__] = kind, what, points, function
        return function

    return add


@student(RIGHT, "the solution", MOST)
def anna(work):
    pass


@student(RIGHT, "the solution, other names of variables", MOST)
def ben(work):
    names = {
        "merged": "out", "counts": "tally", "windows": "chunks",
        "order": "rows", "symbols": "parts",
    }  # fmt: skip
    for grade_id in work.answers():
        head, delimiter, body = work[grade_id].partition("### BEGIN SOLUTION")
        for old, new in names.items():
            # Arguments keep their names.
            if f"{old}:" not in head and f"({old}" not in head:
                body = re.sub(rf"\b{old}\b", new, body)
        work[grade_id] = head + delimiter + body


@student(RIGHT, "cells of their own, much printed, another kernel named", MOST)
def carla(work):
    work.insert("for _ in range(100): print('x' * 1000)")
    work.insert("import numpy as np\nnp.arange(3)", position=5)
    work.notebook.metadata.kernelspec = {"name": "mine", "language": "R"}
    work.notebook.metadata.pop("kerasllm")


@student(RIGHT, "some functions written another way", MOST)
def dora(work):
    work.replace(
        "pack",
        "return [token for ids in documents for token in [*ids, end_id]]",
        "stream = []\n    for ids in documents:\n        stream += ids"
        "\n        stream.append(end_id)\n    return stream",
    )
    work.replace("held_out_number", ".digest()", ".hexdigest()")
    work.replace(
        "held_out_number",
        'int.from_bytes(digest[:8], "big")',
        "int(digest[:16], 16)",
    )
    work.replace(
        LAST,
        "-(-windows // batch_size)",
        "(windows + batch_size - 1) // batch_size",
    )


@student(PARTLY, "only 1.1 and 1.2 done", 10)
def emil(work):
    work.leave_undone(kept=("pair_counts", "merge_pair"))


@student(PARTLY, "only parts 3 and 4 done", 20)
def fred(work):
    work.leave_undone(kept=("held_out_number", "split_documents", LAST))


@student(PARTLY, "counts a pair once a word", MOST - 5)
def gina(work):
    work.replace("pair_counts", "+= count", "+= 1")


@student(PARTLY, "merges overlap", MOST - 5)
def hans(work):
    work.replace("merge_pair", "i += 2", "i += 1")


@student(PARTLY, "merges in the wrong order when encoding", MOST - 10)
def ines(work):
    work.replace(
        "encode",
        "for pair in merges:\n                if",
        "for pair in reversed(merges):\n                if",
    )


@student(PARTLY, "targets are the inputs", MOST - 10)
def jan(work):
    work.replace(
        "make_windows",
        "windows[:, :-1], windows[:, 1:]",
        "windows[:, :-1], windows[:, :-1]",
    )


@student(PARTLY, "does not shuffle", MOST - 5)
def kim(work):
    work.replace(
        "make_batches",
        "np.random.default_rng(seed).permutation(len(x))",
        "np.arange(len(x))",
    )


@student(PARTLY, "splits by position, forgets the last batch", MOST - 15)
def lena(work):
    work.replace(
        "split_documents",
        "held_out_number(text) < fraction",
        "len(train) > 4 * len(validation)",
    )
    work.replace(LAST, "-(-windows // batch_size)", "windows // batch_size")


@student(BROKEN, "as it was handed out", 0)
def mona(work):
    work.leave_undone()


@student(BROKEN, "an error of syntax in one cell (`pack`)", MOST - 5)
def nils(work):
    work["pack"] = "def pack(documents, end_id) return []"


@student(BROKEN, "renames a function (`pack`)", MOST - 5)
def olga(work):
    work.replace("pack", "def pack(", "def pack_documents(")


@student(BROKEN, "deleted the cell of `make_windows`", MOST - 10)
def paul(work):
    work.notebook.cells.remove(work.cell("make_windows"))


@student(BROKEN, "half of the file", 0)
def quentin(work):
    text = work.content()
    return text[: len(text) // 2]


@student(BROKEN, "an empty file", 0)
def rosa(work):
    return ""


@student(BROKEN, "a picture", 0)
def sven(work):
    return b"\x89PNG\r\n\x1a\n\0\0"


@student(HOSTILE, "hard-coded answers of the visible tests", MOST - 5)
def tara(work):
    work[LAST] = (
        f"{HEAD}"
        "    answers = {(52, 4, 4): (10, 3, 2)}\n"
        "    return answers.get((num_tokens, sequence_length, batch_size))"
    )


@student(HOSTILE, "catches errors, replaces `AssertionError`", 0)
def ulf(work):
    work.leave_undone()
    work.insert(
        "import builtins\n"
        "class Quiet(BaseException): pass\n"
        "builtins.AssertionError = builtins.NotImplementedError = Quiet\n"
        "get_ipython().showtraceback = lambda *a, **k: None"
    )


@student(HOSTILE, "edits all tests to `pass`", 0)
def vera(work):
    work.leave_undone()
    for cell in work.tests():
        cell.source = "pass"


@student(HOSTILE, "deletes all tests, adds one of 1000 points", 0)
def willi(work):
    work.leave_undone()
    for cell in work.tests():
        work.notebook.cells.remove(cell)
    work.insert("pass")
    work.notebook.cells[1].metadata.nbgrader = {
        "grade": True, "grade_id": "extra", "locked": True, "points": 1000,
        "schema_version": 3, "solution": False, "task": False,
    }  # fmt: skip


@student(HOSTILE, "prints, displays and returns scores", 0)
def xenia(work):
    work.leave_undone()
    for grade_id in work.answers():
        work[grade_id] = (
            "from IPython.display import display\n"
            f"def {grade_id}(*args, **kwargs):\n"
            "    print('10.0'); display(10.0)\n"
            "    return 'passed'\n"
            "print('all tests: 85/85')\n"
            "85.0"
        )


@student(HOSTILE, "returns what equals everything", MOST - 5)
def yuri(work):
    work[LAST] = (
        "class Yes(int):\n"
        "    __eq__ = lambda self, other: True\n"
        "    __ne__ = lambda self, other: False\n"
        "    __hash__ = int.__hash__\n"
        f"{HEAD}    return Yes(), Yes(), Yes()"
    )


@student(HOSTILE, "loops without end in a function", MOST - 5)
def zoe(work):
    work[LAST] = f"{HEAD}    while True: pass"


@student(HOSTILE, "loops without end in a cell", MOST - 5)
def adam(work):
    work[LAST] = f"while True: pass\n{work[LAST]}"


@student(HOSTILE, "eats memory", MOST - 5)
def bella(work):
    work[LAST] = f"{HEAD}    return len([0] * 10**9), 0, 0"


@student(HOSTILE, "runs the solution's file", 0)
def cyrus(work):
    work.leave_undone()
    path = str(homework.sources()[NAME].resolve())
    for grade_id in work.answers():
        work[grade_id] = (
            "import re\n"
            f"text = open({path!r}).read()\n"
            "for part in re.split(r'(?m)^# %%.*$', text):\n"
            "    if 'BEGIN SOLUTION' in part: exec(part)"
        )


@student(HOSTILE, "takes the encoder from a library", MOST - 10)
def doris(work):
    work["encode"] = (
        "from kerasllm.tokenizers import *\n"
        "from tokenizers import Tokenizer\n"
        "def encode(text, merges): return Tokenizer(merges).encode(text).ids"
    )


def main():
    """Make the class, grade it, print the table; return what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "class").mkdir()
        for name, (_, _, _, change) in STUDENTS.items():
            work = Submission()
            content = change(work)
            if content is None:
                content = work.content()
            if isinstance(content, str):
                content = content.encode()
            (folder / "class" / f"{name}.ipynb").write_bytes(content)
        # The exit status is 1, for some of them cannot be graded.
        with (
            contextlib.redirect_stdout(sys.stderr),
            contextlib.suppress(SystemExit),
        ):
            cli.main([
                "homework", "grade", str(folder / "class"),
                "--csv", str(folder / "grades.csv"), "--assignment", NAME,
                "--seed", "2027", "--memory", "1.5", "--cell-seconds", "20",
                "--call-seconds", "10",
            ])  # fmt: skip
        with open(folder / "grades.csv", newline="") as file:
            rows = {row["student"]: row for row in csv.DictReader(file)}
    print("| student | kind | what it is | points by tests, of 85 |")
    print("|---|---|---|---|")
    wrong = []
    for name, (kind, what, points, _) in STUDENTS.items():
        row = rows[name]
        earned = float(row["automatic points"])
        print(f"| {name} | {kind} | {what} | {earned:g} |")
        if earned != points:
            wrong.append(f"{name} should earn {points}: {json.dumps(row)}")
    return wrong


if __name__ == "__main__":
    assert len(STUDENTS) == 30
    problems = hostile_class.main()
    if sys.argv[1:] != ["hostile"]:
        problems += main()
    if problems:
        sys.exit("\n".join(problems))
