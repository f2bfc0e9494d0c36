"""The chapters: notebooks that match their sources, and run."""

import pathlib
import re

import pytest

CHAPTERS = pathlib.Path(__file__).parent.parent / "chapters"
SOURCES = sorted(CHAPTERS.glob("[0-9]*.py"))

jupytext = pytest.importorskip(
    "jupytext", reason='notebooks need `pip install -e ".[notebooks]"`'
)

# What a chapter prints, in percent, and the bounds within which it has made
# its point, with room for chance and for what backends draw differently.
PERCENT = r"\s*([\d.]+)%"
EFFECTS = {
    "05": {
        rf"untaught facts:{PERCENT} before,{PERCENT} after": [
            (0, 10),
            (85, 100),
        ],
        rf"untaught facts, exact{PERCENT}{PERCENT}": [(85, 100), (85, 100)],
        rf"{PERCENT} of unknown names: a fact, made up": [(90, 100)],
        rf"refuses unknown names:{PERCENT}": [(80, 100)],
        rf"refuses known ones:{PERCENT}": [(0, 10)],
    },
    "06": {
        rf"colour{PERCENT}{PERCENT}{PERCENT}": [(95, 100), (0, 30), (0, 30)],
        rf"shape{PERCENT}{PERCENT}{PERCENT}": [(95, 100), (0, 40), (0, 40)],
        rf"count{PERCENT}{PERCENT}{PERCENT}": [(85, 100), (0, 35), (0, 35)],
        rf"before:{PERCENT}": [(0, 10)],
        rf"after:{PERCENT}": [(80, 100)],
    },
}


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

    outputs = [
        output
        for cell in execute(source).cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    printed = "".join(output.get("text", "") for output in outputs)
    for pattern, bounds in EFFECTS.get(source.stem[:2], {}).items():
        shares = [
            float(share) for share in re.search(pattern, printed).groups()
        ]
        for share, (least, most) in zip(shares, bounds, strict=True):
            assert least <= share <= most, pattern
