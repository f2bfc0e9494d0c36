"""What people look at: texts, tables and pages that quote a student.

Nothing in them is more than text: no control character moves a cursor, no cell
of a table is a formula, nothing on a page runs.
"""

from kerasllm.homework.shown._outputs import clean_count, clean_output
from kerasllm.homework.shown._page import clean_page
from kerasllm.homework.shown._text import as_cell, visible, without_surrogates

__all__ = [
    "as_cell",
    "clean_count",
    "clean_output",
    "clean_page",
    "visible",
    "without_surrogates",
]
