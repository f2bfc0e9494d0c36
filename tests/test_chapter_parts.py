"""The parts of a chapter: in order, numbered, linked, with solutions.

A chapter counts as finished when it has its last part, *Further reading*.
These tests then hold it to the rest.
"""

import ast
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CHAPTERS = ROOT / "chapters"
SOURCES = sorted(CHAPTERS.glob("[0-9]*.py"))
SOLUTIONS = sorted(CHAPTERS.glob("solutions/[0-9]*.py"))
PARTS = [
    "What you will see",
    "What we have seen",
    "Try it",
    "Quiz",
    "Further reading",
]

jupytext = pytest.importorskip(
    "jupytext", reason='notebooks need `pip install -e ".[notebooks]"`'
)
pytestmark = pytest.mark.any_backend


@pytest.fixture
def addresses(monkeypatch):
    monkeypatch.syspath_prepend(CHAPTERS)
    import addresses

    yield addresses
    sys.modules.pop("addresses")


def name(path):
    return path.relative_to(CHAPTERS).with_suffix("").as_posix()


def markdown(cells):
    return [cell.source for cell in cells if cell.cell_type == "markdown"]


def sections(text):
    """Return the text below each heading of the second level, by heading."""
    _, *parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    return list(zip(parts[::2], parts[1::2], strict=True))


def faults_of_parts(text, solutions):
    """Return what a chapter's Markdown lacks, one sentence each.

    `solutions` is the name of the notebook with the chapter's solutions.
    """
    found = sections(text)
    headings = [heading for heading, _ in found if heading in PARTS]
    if headings != PARTS:
        return [f"The parts are {headings}, and should be {PARTS}."]
    bodies = dict(found)
    faults = []
    exercises = re.findall(r"^(\d+)\. ", bodies["Try it"], re.MULTILINE)
    if not 4 <= len(exercises) <= 6 or not counts_up(exercises):
        faults.append(f"The exercises are numbered {exercises}.")
    if f"[Solutions](solutions/{solutions})" not in bodies["Try it"]:
        faults.append(f"`Try it` has no link to solutions/{solutions}.")
    questions = re.findall(
        r"^<details><summary>(\d+)\. .+?\?</summary>\n\n\S.*?\n\n</details>$",
        bodies["Quiz"],
        re.MULTILINE | re.DOTALL,
    )
    if len(questions) != 10 or not counts_up(questions):
        faults.append(f"The questions of the quiz are numbered {questions}.")
    for summary in re.findall("<summary>(.*)</summary>", bodies["Quiz"]):
        if re.search("[`*$]", summary):  # Markdown stays as it is in HTML
            faults.append(f"Use HTML in the summary of a question: {summary}")
    if "http" not in bodies["Further reading"]:
        faults.append("`Further reading` links to nothing.")
    return faults


def counts_up(numbers):
    return [int(n) for n in numbers] == list(range(1, len(numbers) + 1))


def faults_of_figures(cells, chapter):
    """Return what is wrong with the captions of a notebook's figures."""
    faults, captions = [], []
    caption = re.compile(rf"\*Figure {chapter}\.(\d+)\. .+?\*", re.DOTALL)
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        if any("image/png" in out.get("data", {}) for out in outputs(cell)):
            match = after and caption.match(after.source)
            if match:
                captions.append(match[1])
            else:
                first_line = cell.source.partition("\n")[0]
                faults.append(f"No caption follows the figure of {first_line}.")
    if not counts_up(captions):
        faults.append(f"The figures are numbered {captions}.")
    prose = caption.sub("", "\n".join(markdown(cells)))
    for number in captions:
        if not re.search(
            rf"Figures? (\d\.\d+ and )?{chapter}\.{number}\b", prose
        ):
            faults.append(f"The text does not mention figure {number}.")
    return faults


def outputs(cell):
    return cell.outputs if cell.cell_type == "code" else []


def is_finished(source):
    return "# ## Further reading" in source.read_text("utf-8").splitlines()


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_a_chapter_has_all_parts(source):
    if not is_finished(source):
        pytest.skip("this chapter is not finished")
    cells = jupytext.read(source.with_suffix(".ipynb")).cells
    faults = faults_of_parts(
        "\n\n".join(markdown(cells)), f"{source.stem}.ipynb"
    )
    faults += faults_of_figures(cells, int(source.stem[:2]))
    assert faults == []
    # One cell, which a reader folds and unfolds.
    assert sum("</summary>" in text for text in markdown(cells)) == 1
    assert CHAPTERS / "solutions" / source.name in SOLUTIONS


@pytest.mark.parametrize("source", SOLUTIONS, ids=name)
def test_solutions_stand_alone(source):
    """They import from the package, never from a chapter, and what exists.

    They are executed when they are built, not here: it would take the time of
    the chapters once more. So the imports are, since names that moved are what
    makes a notebook fail later.
    """
    code = "\n\n".join(
        cell.source
        for cell in jupytext.read(source).cells
        if cell.cell_type == "code"
    )
    assert "sys.path" not in code and "%run" not in code
    imports = [
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    ours = {path.stem for path in CHAPTERS.rglob("*.py")} | {"chapters"}
    for node in imports:
        modules = [getattr(node, "module", None) or node.names[0].name]
        assert not ours & {module.split(".")[0] for module in modules}
    exec(ast.unparse(ast.Module(imports, [])), {})


@pytest.mark.parametrize("source", SOURCES + SOLUTIONS, ids=name)
def test_all_name_the_repository_of_pyproject(source, addresses):
    for path in source, source.with_suffix(".ipynb"):
        first, second, *_ = jupytext.read(path).cells
        assert addresses.badge(source) in first.source.split("\n"), (
            "Run `python chapters/addresses.py`."
        )
        assert second.source == addresses.install_cell()


def test_the_readme_names_the_repository_of_pyproject(addresses):
    readme = (ROOT / "README.md").read_text("utf-8")
    named = re.findall(r"https://github\.com/[\w.-]+/kerasllm[\w./-]*", readme)
    assert named and set(named) == {addresses.repository()}


def test_a_fork_writes_its_own_address(addresses, tmp_path, monkeypatch):
    """Sources and notebooks change in these two places, and nowhere else."""
    (tmp_path / "pyproject.toml").write_text(
        "[project.urls]\nRepository = 'https://github.com/ann/fork'\n"
    )
    folder = tmp_path / "chapters"
    folder.mkdir()
    for suffix in ".py", ".ipynb":
        original = SOURCES[0].with_suffix(suffix)
        (folder / original.name).write_bytes(original.read_bytes())
    readme = (ROOT / "README.md").read_text("utf-8")
    (tmp_path / "README.md").write_text(readme, "utf-8")
    monkeypatch.setattr(addresses, "CHAPTERS", folder)
    addresses.main()
    assert (tmp_path / "README.md").read_text("utf-8") == readme.replace(
        "github.com/kerasllm/kerasllm", "github.com/ann/fork"
    )
    for suffix in ".py", ".ipynb":
        original = SOURCES[0].with_suffix(suffix).read_text("utf-8")
        old = "github.com/kerasllm/kerasllm", "github/kerasllm/kerasllm"
        assert all(part in original for part in old)
        expected = original.replace(old[0], "github.com/ann/fork")
        expected = expected.replace(old[1], "github/ann/fork")
        written = (folder / SOURCES[0].name).with_suffix(suffix)
        assert written.read_text("utf-8") == expected


def test_a_source_without_badge_and_install_cell_gets_them(
    addresses, tmp_path, monkeypatch
):
    (tmp_path / "pyproject.toml").write_bytes(
        (ROOT / "pyproject.toml").read_bytes()
    )
    monkeypatch.setattr(addresses, "CHAPTERS", tmp_path / "chapters")
    source = tmp_path / "chapters" / "solutions" / "01_x.py"
    source.parent.mkdir(parents=True)
    text = "# %% [markdown]\n# # Title\n#\n# One.\n#\n# Two.\n\n# %%\n1 + 1\n"
    source.write_text(text)
    addresses.write_source(source)
    first, second, third = jupytext.read(source).cells
    assert (
        first.source == f"# Title\n\n{addresses.badge(source)}\n\nOne.\n\nTwo."
    )
    assert "/chapters/solutions/01_x.ipynb)" in first.source
    assert second.source == addresses.install_cell()
    assert third.source == "1 + 1"
    once = source.read_text()
    addresses.write_source(source)
    assert source.read_text() == once


def test_other_hosts_are_refused(addresses, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text(
        "[project.urls]\nRepository = 'https://example.org/x'\n"
    )
    monkeypatch.setattr(addresses, "CHAPTERS", tmp_path / "chapters")
    with pytest.raises(SystemExit, match="https://github.com/OWNER/NAME"):
        addresses.badge(tmp_path / "chapters" / "01_x.py")


QUIZ = "".join(
    f"<details><summary>{n}. Why?</summary>\n\nBecause.\n\n</details>\n\n"
    for n in range(1, 11)
)
GOOD = f"""# Title

## What you will see
- this
## A section
## What we have seen
Numbers.
## Try it
1. Do.
2. Do.
3. Do.
4. Do.

[Solutions](solutions/01_x.ipynb)
## Quiz
{QUIZ}
## Further reading
- Author, [a paper](https://arxiv.org/abs/1).
"""


@pytest.mark.parametrize(
    "old, new",
    [
        ("## Try it", "## Exercises"),
        ("## Quiz", "## What we have seen"),
        ("3. Do.", "4. Do."),
        ("1. Do.\n", ""),
        ("solutions/01_x", "solutions/02_x"),
        ("<summary>7. Why?", "<summary>8. Why?"),
        ("<summary>10. Why?", "<summary>10. Say."),
        ("</summary>\n\nBecause", "</summary>\nBecause"),
        ("<summary>1. Why?", "<summary>1. Why `x`?"),
        ("https", "see"),
    ],
)
def test_a_missing_part_is_found(old, new):
    assert faults_of_parts(GOOD, "01_x.ipynb") == []
    assert len(faults_of_parts(GOOD.replace(old, new), "01_x.ipynb")) == 1


def figures(*captions, prose="See Figure 1.1 and Figure 1.2."):
    """Return the cells of a notebook with figures and what follows each."""
    nbformat = pytest.importorskip("nbformat").v4
    image = nbformat.new_output("display_data", {"image/png": "x"})
    cells = [nbformat.new_markdown_cell(prose)]
    for caption in captions:
        cells.append(nbformat.new_code_cell("plot()", outputs=[image]))
        cells.append(nbformat.new_markdown_cell(caption))
    return cells


def test_a_missing_caption_is_found():
    good = "*Figure 1.1. One.*", "*Figure 1.2. Two\nlines.*"
    assert faults_of_figures(figures(*good), 1) == []
    assert len(faults_of_figures(figures(*good[::-1]), 1)) == 1
    assert len(faults_of_figures(figures(good[0], "No."), 1)) == 1
    assert len(faults_of_figures(figures(*good, prose="Figure 1.1"), 1)) == 1
    assert len(faults_of_figures(figures(*good), 2)) == 2
    assert len(faults_of_figures(figures(good[0])[:-1], 1)) == 1
