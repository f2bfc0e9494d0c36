"""Notes: what an instructor should look at before giving a grade.

They are found in the code without running it, and they are not verdicts.
"""

import ast
import re

from kerasllm.homework._notebooks import is_locked

# Not forbidden, and seldom needed: worth a look before a grade is given.
_CURIOUS = {"ctypes", "gc", "importlib", "inspect", "subprocess", "socket",
            "signal", "_ctypes", "multiprocessing"}  # fmt: skip
_CURIOUS_CALLS = {"__import__", "eval", "exec", "get_ipython", "globals",
                  "locals", "open", "vars"}  # fmt: skip
# Ways to reach a name that is not in the code, or what a name stands for.
_CURIOUS_NAMES = {"__closure__", "__code__", "__dict__", "__globals__",
                  "__subclasses__", "attrgetter"}  # fmt: skip
_COMPUTED = "getattr with a name that is computed"
_CURIOUS_MAGICS = {"!", "bash", "run", "script", "sh", "sx", "system"}
_MOST_NOTES, _LONGEST_NOTE = 50, 200
# IPython's lines that are not Python: `%time x = 1`, `%%bash`, `!ls`.
_MAGIC = re.compile(r"(?m)^([ \t]*)(?:%%?(\w+)|!+)(.*)$")


def find_notes(notebook, metadata):
    """Return notes on what is forbidden or unusual in a student's code.

    Args:
        notebook: the submission. Locked cells, the instructor's, are skipped.
        metadata: dict, the `kerasllm` header of the assignment.

    Returns:
        list of str, sorted, and short enough for a table.
    """
    notes = set()
    for cell in notebook.cells:
        if cell.cell_type == "code" and not is_locked(cell):
            details = cell.metadata.get("nbgrader", {})
            notes |= _notes_on(cell.source, metadata, details.get("grade_id"))
    first = [note[:_LONGEST_NOTE] for note in sorted(notes)[:_MOST_NOTES]]
    more = len(notes) - len(first)
    return [*first, f"{more} more notes"] if more else first


def _notes_on(source, metadata, question):
    """Return a set of notes on the code of one cell.

    Args:
        source: str.
        metadata: dict, the `kerasllm` header of the assignment.
        question: str, the question that the cell answers, or `None`.
    """
    forbidden = set(metadata.get("forbidden", ()))
    forbidden_names = set(metadata.get("forbidden_names", ()))
    notes = set()
    tree = _parse(source)
    if tree is None:
        # Only a cell that is not Python can have magics.
        magics = {match[2] or "!" for match in _MAGIC.finditer(source)}
        notes |= {f"uses {magic}" for magic in magics & _CURIOUS_MAGICS}
        tree = read_code(source)
    if tree is None:
        words = forbidden_names & set(re.findall(r"\w+", source))
        notes |= {_deduction(word, question) for word in words}
        return notes | {"a cell that is not Python"}
    for name in _used_names(tree):
        parts = name.split(".")
        heads = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
        if heads & forbidden:
            notes.add(f"imports {name}, which is forbidden")
        elif parts[0] in _CURIOUS or name in {*_CURIOUS_CALLS, _COMPUTED}:
            notes.add(f"uses {name}")
    names = set(_all_names(tree))
    notes |= {_deduction(name, question) for name in forbidden_names & names}
    notes |= {f"uses {name}" for name in _CURIOUS_NAMES & names}
    return notes


def _deduction(name, question):
    """Return the note on a forbidden name: what a person should deduct."""
    lost = f"the points of {question}" if question else "where it is needed"
    return f"uses {name}, which is forbidden: deduct {lost}"


def read_code(source):
    """Return the syntax tree of a cell, or `None` if it is not Python.

    IPython's magics are replaced by their arguments.
    """
    tree = _parse(source)
    return _parse(_MAGIC.sub(_as_python, source)) if tree is None else tree


def _parse(source):
    """Return the syntax tree of code, or `None` if it is not Python."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _as_python(magic):
    """Return a magic's arguments as Python, or else their words as strings."""
    indent, given = magic[1], magic[3].strip()
    if not given or _parse(given) is None:
        given = repr(re.findall(r"\w+", given))
    return indent + given


def _used_names(tree):
    """Yield the modules that code imports and the functions it calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
            # `getattr(layers, "Multi" + "HeadAttention")`
            given = [*node.args[1:2], ast.Constant("")][0]
            if node.func.id == "getattr" and not isinstance(
                given, ast.Constant
            ):
                yield _COMPUTED


def _all_names(tree):
    """Yield every name in code: of variables, attributes, arguments, imports.

    Strings count, too: `getattr(layer, "enable_lora")`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.alias):
            yield from node.name.split(".")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
