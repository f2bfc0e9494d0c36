"""A class of 30 with one hostile submission of each kind, and without them.

    python -m tests.homework_class hostile

grades the tiny assignment of these tests twice: 30 honest submissions, and the
same class with hostile ones in some places. It prints what each kind earned and
what both classes took, and fails if a hostile one costs anybody else a point,
much time, memory, room on the disk, or a process.
"""

import pathlib
import shutil
import tempfile
import time

from kerasllm import homework
from kerasllm.homework.kernels import _namespaces, _resources
from tests.homework.attacks import CLASS
from tests.homework.harmful import TEXTS
from tests.homework.tiny_course import (
    RIGHT,
    TINY,
    TOTAL,
    WRONG,
    nbformat,
    submit,
    tiny_release,
)

SIZE = 30
# One of each kind that could harm others, and what is said of it.
KINDS = {
    "cuts_characters_in_half": "half of a character",
    "writes_a_formula_without_end": "a text that takes hours to format",
    "parsed_without_end": "code that takes hours to parse",
    "forges_replies": "forged replies of the kernel",
    "loops_and_cannot_be_stopped": "a loop that cannot be interrupted",
    "ends_slowly": "a process that does not want to end",
    "leaves_its_session": "a process that leaves its session",
    "fills_the_temporary_folder": "a full temporary folder",
    "takes_all_ports": "all ports taken",
    "shares_memory": "shared memory left behind",
    "shares_memory_of_others": "shared memory of others",
    "maps_memory": "3 GB of shared memory",
    "multiplies": "300 processes",
    "sends_to_the_terminal": "control characters",
    "writes_a_page_that_runs": "a page with scripts",
}
HONEST = {"solution": (RIGHT, 5), "half": (WRONG, 3)}
LIMITS = {
    "memory_gb": 1.0, "cell_seconds": 2, "call_seconds": 2,
    "total_seconds": 20, "read_seconds": 3, "disk_gb": 0.05,
    "unprotected": True, "seed": 2027,
}  # fmt: skip


def notebook_of(kind):
    """Return a submission of a kind."""
    text = None
    if kind == "parsed_without_end":
        double = f'y = f"{"{double}" * 10**6}"'
    elif kind in TEXTS:
        double, text = RIGHT, TEXTS[kind]
    else:
        double, _ = CLASS.get(kind) or HONEST[kind]
    notebook = submit(tiny_release(), {"double": double, "total": TOTAL})
    if text:
        notebook.cells.append(nbformat.v4.new_markdown_cell(text))
    return nbformat.writes(notebook, ensure_ascii=True)


def places(with_hostile):
    """Return who hands in what: a dict from student to kind."""
    hostile = [*KINDS]
    kinds = {}
    for number in range(SIZE):
        kind = [*HONEST][number // 2 % 2]
        if with_hostile and number % 2 == 0:
            kind = hostile[number // 2]
        kinds[f"student{number:02}"] = kind
    return kinds


def grade(with_hostile):
    """Grade a class; return results by student, and the seconds it took."""
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        for name in ("hw", "class"):
            (root / name).mkdir()
        (root / "hw" / "hw0_tiny.py").write_text(TINY)
        for student, kind in places(with_hostile).items():
            path = root / "class" / f"{student}.ipynb"
            path.write_text(notebook_of(kind))
        start = time.monotonic()
        results, _ = homework.grade(
            root / "class",
            root / "grades.csv",
            root / "hw",
            progress=lambda line: None,
            **LIMITS,
        )
        seconds = time.monotonic() - start
    return {result.student: result for result in results}, seconds


def left():
    """Return used disk, used memory (both in MB), processes, shared memory."""
    meminfo = pathlib.Path("/proc/meminfo").read_text().split()
    free = int(meminfo[meminfo.index("MemAvailable:") + 1]) >> 10
    disk = shutil.disk_usage(tempfile.gettempdir()).used >> 20
    return (
        disk, -free, _namespaces.descendants(), _resources.shared_objects()
    )  # fmt: skip


def main():
    """Grade both classes, print the table, return what is wrong."""
    for line in homework.protections():
        print(f"in force: {line}")
    without, seconds = grade(False)
    before = left()
    together, longer = grade(True)
    after = left()
    print("\n| kind | points of 5 | what is noted |\n|---|---|---|")
    wrong = []
    for student, kind in places(True).items():
        result = together[student]
        if kind in KINDS:
            notes = "; ".join(result.notes).replace("|", "/")
            points = f"{result.total:g}" if result.graded else "open"
            print(f"| {KINDS[kind]} | {points} | {notes} |")
        elif result.scores != without[student].scores:
            wrong.append(f"{student}: {result}, alone {without[student]}")
    print(
        f"\nhonest marks that differ: {len(wrong)}; seconds without them "
        f"{seconds:.0f}, with them {longer:.0f} ({longer / seconds:.2f} times);"
        f" disk {after[0] - before[0]:+} MB, memory "
        f"{after[1] - before[1]:+} MB, processes {len(after[2] - before[2])}, "
        f"shared memory {len(after[3] - before[3])}"
    )
    if longer > 1.3 * seconds:
        wrong.append("the class took too long")
    if after[2] - before[2] or after[3] - before[3]:
        wrong.append("something was left behind")
    return wrong
