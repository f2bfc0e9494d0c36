"""Text, tables, and pages that quote a student, made safe to look at.

What a student wrote is shown as text: no control character moves a cursor, no
cell of a table is a formula, and nothing on a page runs.
"""

from kerasllm.homework.shown._outputs import clean_count, clean_output
from kerasllm.homework.shown._page import clean_page
from kerasllm.homework.shown._table import write_csv
from kerasllm.homework.shown._text import as_cell, visible, without_surrogates

__all__ = [
    "as_cell",
    "clean_count",
    "clean_output",
    "clean_page",
    "visible",
    "without_surrogates",
    "write_csv",
]
