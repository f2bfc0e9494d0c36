"""Execute chapters and write them as notebooks with their outputs.

    python chapters/build.py [SOURCE.py ...]

The sources are the `.py` files of the chapters and of `solutions/`. This
writes the `.ipynb` beside each. Before that, it writes the badge and the cell
that installs the package into the source (see `addresses.py`).
"""

import pathlib
import sys

import addresses
import jupytext
import nbformat
from nbclient import NotebookClient


def execute(source):
    """Run a jupytext source; return its notebook with outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = jupytext.read(source)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    NotebookClient(notebook, timeout=1800).execute()
    for cell in notebook.cells:
        # When a cell ran is of no interest, and what libraries log about the
        # machine even less.
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _join(
                output
                for output in cell.outputs
                if output.get("name") != "stderr"
            )
    return notebook


def _join(outputs):
    """Return outputs with prints that follow one another as one."""
    joined = []
    for output in outputs:
        if joined and "stream" == output.output_type == joined[-1].output_type:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def main():
    """Build the sources named on the command line, or all."""
    for source in map(pathlib.Path, sys.argv[1:] or addresses.sources()):
        addresses.write_source(source)
        notebook = execute(source)
        nbformat.write(notebook, source.with_suffix(".ipynb"))
        print(source.with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
