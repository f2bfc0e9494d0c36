"""What the site is made with: links, formulas, pages, and a figure."""

import importlib.util
import json
import pathlib
import re
import types

import pytest

ROOT = pathlib.Path(__file__).parent.parent
pytestmark = pytest.mark.once
pytest.importorskip(
    "sphinx", reason='the site needs `pip install -e ".[docs]"`'
)
pytest.importorskip("myst_nb", reason="the site needs `.[docs]`")


@pytest.fixture
def conf(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    path = ROOT / "docs" / "conf.py"
    spec = importlib.util.spec_from_file_location("docs_conf", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cross_references(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("cross_references")


def test_links_and_badge_of_a_chapter_become_those_of_its_page(
    cross_references, tmp_path
):
    cells = [
        "# A\n\n[![Open](https://h/x.svg)](https://h/x.ipynb)\n\nText.",
        "[top-k](../docs/api/decoding.rst) and [`docs/x`](https://h/docs/x)",
        "Two key/value caches and [a sampler](\n../docs/api/decoding.rst).",
    ]
    path = tmp_path / "01_a.ipynb"
    path.write_text(
        json.dumps(
            {
                "cells": [
                    {"cell_type": "markdown", "source": text.splitlines(True)}
                    for text in cells
                ]
            }
        )
    )
    page = cross_references.Chapter(path).page()
    first, links, second, third, end = (
        cell["source"] for cell in page["cells"]
    )
    assert first == "# A\n\nText."
    assert links.endswith("[open it in Colab](https://h/x.ipynb)")
    assert second == cells[1].replace("../docs/", "../")
    assert third.endswith("[a sampler](../api/decoding.rst).")
    for term, anchor in {
        "Key/value cache": "keyvalue-cache",
        "Sampler": "sampler",
        "Top-k": "top-k",
    }.items():
        assert f"[{term}](../glossary.md#{anchor})" in end
    assert "glossary.md#top-p" not in end


def test_names_are_found_in_a_program(cross_references):
    program = """
import os, kerasllm
from kerasllm import plots as p, backend
from kerasllm.gemma import Gemma
from kerasllm.prompts import BOOK

BOOK.response("a")
gemma = Gemma.from_preset("tiny")
gemma.ask(kerasllm.chain(top_k=2))
p.plot_curves(os.path.join("a"))
backend.set_up
gemma.causal_lm.count_params()
Gemma.from_preset("a.b").causal_lm.backbone
"""
    assert cross_references.names_used(program) == [
        "kerasllm.backend.set_up",
        "kerasllm.gemma.Gemma",
        "kerasllm.gemma.Gemma.ask",
        "kerasllm.gemma.Gemma.from_preset",
        "kerasllm.plots.plot_curves",
        "kerasllm.prompts.BOOK",
        "kerasllm.prompts.PromptTemplate.response",
        "kerasllm.samplers.chain",
    ]


def test_the_markdown_of_docstrings_is_translated(conf):
    text = "Of `a` and\n`b` many `Row`s, arXiv:1904.09751.\n\nExample:\n"
    text += "```python\nx = `y`\n```\n\nSource: `z`."
    link = "`arXiv:1904.09751 <https://arxiv.org/abs/1904.09751>`__"
    assert conf.to_restructured_text(text) == (
        f"Of ``a`` and\n``b`` many ``Row``\\ s, {link}.\n\nExample:\n"
        "\n.. code-block:: python\n\n    x = `y`\n\n\n\nSource: ``z``."
    )


def test_formulas_become_mathml(conf):
    from docutils import nodes

    for node in (
        nodes.math(text=r"\Delta W = A B"),
        nodes.math_block(text=r"p_i &= \frac{e^{x_i}}{2} \\ q &= 1"),
    ):
        translator = types.SimpleNamespace(body=[])
        with pytest.raises(nodes.SkipNode):
            conf.write_math(translator, node)
        (formula,) = translator.body
        assert "<math" in formula and "<mi>" in formula
    assert "<mfrac>" in formula and "<mtable" in formula


def notebook(*cells):
    return {
        "cells": [
            {"source": source, "metadata": {"nbgrader": {"solution": answer}}}
            for source, answer in cells
        ]
    }


def test_solutions_are_not_shown(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from student_notebooks import may_be_shown

    stub = ("# YOUR CODE HERE\nraise NotImplementedError()", True)
    assert may_be_shown(notebook(("# Homework", False), stub))
    assert not may_be_shown(notebook(stub, ("### BEGIN SOLUTION\nx", False)))
    assert not may_be_shown(notebook(("### BEGIN HIDDEN TESTS\n1", False)))
    assert not may_be_shown(notebook(stub, ("def top_k(): return 1", True)))


def test_the_glossary_is_in_order_and_brief():
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    _, *parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    terms = parts[::2]
    assert len(terms) > 100
    assert terms == sorted(set(terms), key=str.lower)
    for term, entry in zip(terms, parts[1::2], strict=True):
        ends = re.findall(r"[.)](?=\s+[A-Z\[`]|\s*$)", entry.strip())
        assert len(ends) == 2, term


def test_the_figure_of_the_history_shows_the_whole_table(conf, tmp_path):
    import history_figure

    page = ROOT / "docs" / "history.md"
    text = page.read_text("utf-8")
    rows = re.findall(r"^\| \[.*", text, re.MULTILINE)
    models = history_figure.read_table(text)
    assert len(models) == len(rows) >= 10
    assert ("GPT-2", 2019, 1_542_000_000, "open") in models
    target = tmp_path / "drawn" / "history.svg"
    history_figure.draw(page, target)
    svg = target.read_text("utf-8")
    for name, *_ in models:
        assert f"<!-- {name} -->" in svg
