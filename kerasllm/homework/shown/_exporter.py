"""What makes the page of a student, in place of parts of nbgrader's."""

import jinja2
from nbconvert.exporters import HTMLExporter
from nbgrader.preprocessors import ClearHiddenTests

from kerasllm.homework._notebooks import is_cell, is_locked
from kerasllm.homework.shown._page import clean_fragment


class _Compiled(jinja2.BytecodeCache):
    """Keeps compiled templates in memory, which child processes inherit."""

    def __init__(self):
        self.code = {}

    def load_bytecode(self, bucket):
        if bucket.key in self.code:
            bucket.bytecode_from_string(self.code[bucket.key])

    def dump_bytecode(self, bucket):
        self.code[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


class _Pictures(dict):
    """Pasted pictures by their names; those that are missing are empty."""

    def __contains__(self, name):
        return True

    def __missing__(self, name):
        return {"image/png": ""}


class ClearTests(ClearHiddenTests):
    """Takes hidden tests out of tests, and leaves what a student has written.

    nbgrader makes no page at all if a student's cell has its delimiters.
    """

    def preprocess_cell(self, cell, resources, cell_index):
        if is_locked(cell) and is_cell(cell, "grade"):
            return super().preprocess_cell(cell, resources, cell_index)
        return cell, resources


class PageExporter(HTMLExporter):
    """Makes the page of a student, with templates compiled once per class."""

    @property
    def environment(self):
        environment = super().environment
        environment.bytecode_cache = _COMPILED
        # nbconvert's own filter takes tables apart.
        environment.filters["clean_html"] = clean_fragment
        return environment

    @jinja2.pass_context
    def markdown2html(self, context, source):
        """Return a text as HTML, though pictures that it names are missing.

        nbconvert would make no page at all.
        """
        pictures = _Pictures(context.get("cell", {}).get("attachments", {}))
        given = {"cell": {"attachments": pictures}}
        return super().markdown2html(given, source)
