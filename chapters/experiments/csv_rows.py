"""CSV files with a row for each figure, which experiments add to."""

import csv

from kerasllm.files import whole_file


def read_rows(path):
    """Return the rows of a file as dicts, none if there is no file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path, columns, rows):
    """Write a file as a whole, or leave it as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
