"""nbconvert's exporter, with templates that are compiled once per class."""

import jinja2
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import InvalidNotebook

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


class PageExporter(HTMLExporter):
    """Makes the page of a student."""

    @property
    def environment(self):
        environment = super().environment
        environment.bytecode_cache = _COMPILED
        # nbconvert's own filter takes tables apart.
        environment.filters["clean_html"] = clean_fragment
        return environment

    @jinja2.pass_context
    def markdown2html(self, context, source):
        """Return a text as HTML, whatever pictures it names and has not."""
        try:
            return super().markdown2html(context, source)
        except InvalidNotebook:  # or else the student had no page
            source = source.replace("attachment:", "missing-attachment:")
            return super().markdown2html(context, source)
