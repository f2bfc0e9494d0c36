"""The chapters: notebooks that match their sources, and run."""

import pathlib

import pytest

CHAPTERS = pathlib.Path(__file__).parent.parent / "chapters"
SOURCES = sorted(CHAPTERS.glob("[0-9]*.py"))

jupytext = pytest.importorskip(
    "jupytext", reason='notebooks need `pip install -e ".[notebooks]"`'
)


def cells(path):
    return [
        (cell.cell_type, cell.source.strip())
        for cell in jupytext.read(path).cells
    ]


def test_there_are_chapters():
    assert len(SOURCES) >= 3


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_notebook_is_its_source_with_outputs(source):
    notebook = source.with_suffix(".ipynb")
    assert cells(notebook) == cells(source), (
        f"Run `python chapters/build.py {source}` again."
    )
    code = [
        cell
        for cell in jupytext.read(notebook).cells
        if cell.cell_type == "code"
    ]
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1))
    for cell in code:
        assert not any(out.output_type == "error" for out in cell.outputs)
    # Where a machine keeps its libraries has no place on a page.
    assert "site-packages" not in notebook.read_text()


@pytest.mark.chapters
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_chapter_runs(source, monkeypatch, shared_cache):
    """A later chapter finds the model that the first one trained."""
    monkeypatch.setenv("KERAS_HOME", shared_cache)
    monkeypatch.delenv("XLA_FLAGS")  # it trains, as a reader would
    monkeypatch.syspath_prepend(CHAPTERS)
    from build import execute

    execute(source)
