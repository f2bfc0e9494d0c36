"""Write the address of the repository into the chapters.

    python chapters/addresses.py

Each chapter and each solutions notebook has a badge that opens it in Colab
and a first code cell that installs the package. Both name the repository,
whose address is `Repository` in pyproject.toml. This script writes it into
the sources, into the notebooks and into README.md. It executes nothing.
"""

import pathlib
import re
import tomllib

import nbformat

CHAPTERS = pathlib.Path(__file__).resolve().parent
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
COLAB = "https://colab.research.google.com/github"
INSTALL = """\
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("kerasllm") is None:
    package = "kerasllm @ git+{repository}"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", package], check=True
    )"""
_FIRST_LINES = "import importlib.util\nimport subprocess\nimport sys\n"


def repository():
    """Return the address of the repository."""
    text = (CHAPTERS.parent / "pyproject.toml").read_text(encoding="utf-8")
    address = tomllib.loads(text)["project"]["urls"]["Repository"]
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise SystemExit(
            "`Repository` in pyproject.toml must have the form "
            "https://github.com/OWNER/NAME, because Colab opens notebooks "
            f"from GitHub. Received: {address!r}."
        )
    return address


def install_cell():
    """Return the code of the cell that installs the package."""
    return INSTALL.format(repository=repository())


def badge(source):
    """Return the Markdown of the badge that opens a notebook in Colab."""
    place = repository().removeprefix("https://github.com")
    path = source.resolve().relative_to(CHAPTERS.parent).with_suffix(".ipynb")
    return (
        f"[![Open in Colab]({BADGE})]"
        f"({COLAB}{place}/blob/main/{path.as_posix()})"
    )


def with_badge(text, badge):
    """Return the first Markdown cell with the badge below its title."""
    title, _, rest = text.partition("\n")
    rest = re.sub(r"\A\n*\[!\[Open in Colab\].*", "", rest).lstrip("\n")
    return f"{title}\n\n{badge}\n\n{rest}".rstrip("\n")


def write_source(source):
    """Write badge and first code cell into a source, a jupytext `.py`."""
    text = source.read_text(encoding="utf-8")
    head, first, *others = re.split(r"^(?=# %%)", text, flags=re.MULTILINE)
    marker, _, commented = first.rstrip("\n").partition("\n")
    markdown = re.sub("^# ?", "", commented, flags=re.MULTILINE)
    markdown = with_badge(markdown, badge(source))
    commented = re.sub("^(?=.)", "# ", markdown, flags=re.MULTILINE)
    commented = re.sub("^$", "#", commented, flags=re.MULTILINE)
    if others and others[0].startswith("# %%\n" + _FIRST_LINES):
        del others[0]
    install = f"# %%\n{install_cell()}\n\n"
    cells = [f"{marker}\n{commented}\n\n", install, *others]
    source.write_text(head + "".join(cells), encoding="utf-8")


def write_notebook(source):
    """Write the same into the notebook of a source, if it has the cells."""
    path = source.with_suffix(".ipynb")
    if not path.is_file():
        return
    notebook = nbformat.read(path, as_version=4)
    first, second = notebook.cells[:2]
    first.source = with_badge(first.source, badge(source))
    if second.source.startswith(_FIRST_LINES):
        second.source = install_cell()
    nbformat.write(notebook, path)


def write_readme():
    """Write the address into the commands of README.md that name it."""
    path = CHAPTERS.parent / "README.md"
    text = re.sub(
        r"(git\+|git clone )https://github\.com/[\w.-]+/[\w.-]+",
        rf"\g<1>{repository()}",
        path.read_text(encoding="utf-8"),
    )
    path.write_text(text, encoding="utf-8")


def sources():
    """Return the paths of all sources: the chapters, then the solutions."""
    return sorted(CHAPTERS.glob("[0-9]*.py")) + sorted(
        CHAPTERS.glob("solutions/[0-9]*.py")
    )


def main():
    """Write the address into all sources, notebooks and README.md."""
    write_readme()
    for source in sources():
        write_source(source)
        write_notebook(source)


if __name__ == "__main__":
    main()
