"""The table of a class, for a spreadsheet."""

import csv

from kerasllm.files import whole_file
from kerasllm.homework.shown._text import as_cell

_MOST = "(most)"  # the row of the maxima


def write_csv(path, results, points):
    """Write a table with one row per student and one column per question.

    What a person has to grade is left empty. The first row has the maxima.

    Args:
        path: path of the file.
        results: list of `Result`.
        points: dict from question to its maximum number of points.
    """
    with whole_file(path, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["student", "automatic points", *points, "notes"])
        writer.writerow([_MOST, sum(points.values()), *points.values(), ""])
        for result in results:
            scores = [result.scores.get(question) for question in points]
            notes = "; ".join(result.notes)
            is_open = all(score is None for score in scores)
            total = None if is_open else result.total
            student = as_cell(result.student)
            if student == _MOST:  # somebody has this name
                student += "*"
            writer.writerow([student, total, *scores, as_cell(notes)])
