"""Find the cells of an assignment in a submission, and note what is missing.

nbgrader identifies cells by metadata that students do not see. These get lost
in Colab, and when cells are copied into another notebook. A cell without them
is recognized by its text, by the function that it defines, or by its place.
"""

import ast
import collections
import re

from kerasllm.homework._notebooks import is_cell, is_locked, is_text
from kerasllm.homework._notes import read_code

_DEFINITION = re.compile(r"(?m)^(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)")
_MOST_NAMED = 5  # cells that a note names
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
# This differs from what was handed out, so nbgrader leaves it to a person.
_ASK_A_PERSON = "This cell was not found. Look for it among the others."


def rebuild(notebook, released, notes=None):
    """Turn a submission into a notebook that nbgrader can rely on.

    Only the text of the student's cells is kept, and the pictures in it. One
    cell with each id of the release gets the metadata of the released cell,
    and a test or a helper also gets its text. Cells that have lost their id
    are recognized by their content. All others become plain cells. If an answer
    is in the cell of a test or a helper, there is a plain copy before it.
    Missing tests are put at the end, and missing helpers where they were.

    A missing solution is left out. The text that was handed out in its place
    would replace the student's own, if that is in another cell.

    Args:
        notebook: the submission, as `read_submission` returns it.
        released: the students' version of the assignment.
        notes: list to which this adds what an instructor should know, or
            `None`.
    """
    from nbformat.v4 import new_notebook

    expected = {
        cell.metadata.nbgrader.grade_id: cell
        for cell in released.cells
        if "nbgrader" in cell.metadata
    }
    copies = _find_by_id(notebook.cells, expected)
    places = {
        grade_id: _the_one(expected[grade_id], found, notebook.cells)
        for grade_id, found in copies.items()
    }
    with_id = set(places)
    if len(places) < len(expected):
        _find_by_text(notebook.cells, expected, places)
        _find_by_name(notebook.cells, expected, places)
        _find_by_place(notebook.cells, released.cells, places)
    if notes is not None:
        notes += _describe(notebook.cells, expected, places, with_id)
        notes += _describe_changes(notebook.cells, expected, places, copies)
    inserted, appended = _missing(notebook.cells, released.cells, places)
    answers = _names_to_write(expected)
    id_at = {index: grade_id for grade_id, index in places.items()}
    cells = []
    for index, cell in enumerate(notebook.cells):
        known = expected.get(id_at.get(index))
        cells += inserted[index]
        if known is not None and _has_answer(cell, known, answers):
            cells.append(_as_released(cell, None))
        cells.append(_as_released(cell, known))
    cells += appended
    return new_notebook(cells=cells, metadata=released.metadata)


def _as_released(cell, known):
    """Return a new cell, with the metadata of the released one, if any."""
    from nbformat.v4 import new_code_cell, new_markdown_cell

    kind, source, metadata = cell.cell_type, cell.source, {}
    if known is not None:
        kind, metadata = known.cell_type, known.metadata
        source = known.source if is_locked(known) else source
    if kind == "code":
        return new_code_cell(source, metadata=metadata)
    # Raw cells become Markdown, so that the student's page shows them, too.
    new = new_markdown_cell(source, metadata=metadata)
    if pictures := _pictures(cell):
        new.attachments = pictures
    return new


def _pictures(cell):
    """Return the pictures that a student has pasted into a cell."""
    attachments = cell.get("attachments")
    if not isinstance(attachments, dict):
        return {}
    return {
        name: {kind: data[kind]}
        for name, data in attachments.items()
        for kind in _PICTURES
        if isinstance(data, dict) and is_text(data.get(kind))
    }


def _has_answer(cell, known, answers):
    """Return whether a student's answer is in a cell whose text is put back."""
    if not is_locked(known) or _text(cell) == _text(known):
        return False
    return bool(answers & defined_names(cell.source))


def _names_to_write(expected):
    """Return the names that all answers together should define."""
    names = set()
    for known in expected.values():
        if _is_code_to_write(known):
            names |= defined_names(known.source)
    return names


def _find_by_id(cells, expected):
    """Return the indices of the cells with each id that is expected.

    There are several where a student has copied or split a cell.
    """
    found = collections.defaultdict(list)
    for index, cell in enumerate(cells):
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        if grade_id in expected:
            found[grade_id].append(index)
    return dict(found)


def _the_one(known, indices, cells):
    """Return which of several cells with the same id counts.

    A test runs when all that it tests is there. An answer is not as it was
    handed out.
    """
    if is_locked(known):
        return indices[-1] if is_cell(known, "grade") else indices[0]
    answers = [each for each in indices if _text(cells[each]) != _text(known)]
    return (answers or indices)[0]


def _find_by_text(cells, expected, places):
    """Add cells with exactly the text that was handed out."""
    free = collections.defaultdict(list)
    for index in _free(cells, places):
        free[_text(cells[index])].append(index)
    for grade_id, known in expected.items():
        same = free[_text(known)]
        if grade_id not in places and same:
            places[grade_id] = same.pop(0)


def _find_by_name(cells, expected, places):
    """Add cells that define what a missing solution should define.

    If there are several, the last one counts, as it does when they are run.
    """
    names = {
        index: defined_names(cells[index].source)
        for index in _free(cells, places)
        if cells[index].cell_type == "code"
    }
    for grade_id, known in expected.items():
        if grade_id in places or not _is_code_to_write(known):
            continue
        wanted = defined_names(known.source)
        found = [index for index in names if wanted & names[index]]
        if found:
            places[grade_id] = found[-1]
            del names[found[-1]]


def _find_by_place(cells, released, places):
    """Add cells that stand where a missing answer, such as a figure, stood.

    The place is between the nearest cells around it that were found.
    """
    handed_out = {_text(cell) for cell in released}
    marks = _marks(cells, released, places)
    for number, known in enumerate(released):
        grade_id = known.metadata.get("nbgrader", {}).get("grade_id")
        is_answer = is_cell(known, "solution") and is_cell(known, "grade")
        earlier = [i for n, i in marks.items() if n < number]
        if grade_id in places or not (is_answer and earlier):
            continue
        before = max(earlier)
        after = min(
            [i for n, i in marks.items() if n > number and i > before],
            default=len(cells),
        )
        found = [
            index
            for index in _free(cells, places)
            if before < index < after
            and cells[index].cell_type == known.cell_type
            and cells[index].source.strip()
            and _text(cells[index]) not in handed_out
        ]
        if found:
            places[grade_id] = marks[number] = found[-1]


def _marks(cells, released, places):
    """Return the indices of released cells in a submission, by their number."""
    free = {_text(cells[index]): index for index in _free(cells, places)}
    marks = {}
    for number, known in enumerate(released):
        grade_id = known.metadata.get("nbgrader", {}).get("grade_id")
        index = places.get(grade_id) if grade_id else free.get(_text(known))
        if index is not None:
            marks[number] = index
    return marks


def _missing(cells, released, places):
    """Return cells to insert before each index, and cells to append."""
    own = _own_kinds(cells, released, places)
    inserted, appended = collections.defaultdict(list), []
    later = {}  # by number, the index of the next released cell
    index = None
    for number in range(len(released) - 1, -1, -1):
        later[number] = index
        grade_id = released[number].metadata.get("nbgrader", {}).get("grade_id")
        index = places.get(grade_id, index)
    for number, known in enumerate(released):
        grade_id = known.metadata.get("nbgrader", {}).get("grade_id")
        if grade_id is None or grade_id in places:
            continue
        if is_cell(known, "grade"):
            cell = _as_released(known, known)
            if is_cell(known, "solution") and known.cell_type in own:
                mark = "# " if known.cell_type == "code" else ""
                cell.source = f"{mark}{_ASK_A_PERSON}"
            appended.append(cell)
        elif is_locked(known):
            where = later[number]
            cell = _as_released(known, known)
            (appended if where is None else inserted[where]).append(cell)
    return inserted, appended


def _own_kinds(cells, released, places):
    """Return the types of cells that a student has added."""
    handed_out = {_text(cell) for cell in released}
    return {
        cells[index].cell_type
        for index in _free(cells, places)
        if cells[index].source.strip() and _text(cells[index]) not in handed_out
    }


def _describe(cells, expected, places, with_id):
    """Return notes on what was recognized and what was not found."""
    if not places:
        return [
            f"none of its {len(cells)} cells is of the assignment: is it "
            "another notebook?"
        ]
    notes = []
    recognized = places.keys() - with_id
    if recognized:
        notes.append(
            f"{len(recognized)} cells had lost their metadata and were "
            f"recognized by their content: {_list(expected, recognized)}"
        )
    missing = expected.keys() - places.keys()
    elsewhere = {
        grade_id
        for grade_id in missing
        if _is_code_to_write(expected[grade_id])
        and defined_names(expected[grade_id].source) & _all_defined(cells)
    }
    if elsewhere:
        notes.append(f"in a cell with others: {_list(expected, elsewhere)}")
    if missing - elsewhere:
        notes.append(
            f"cells that are missing: {_list(expected, missing - elsewhere)}"
        )
    return notes


def _describe_changes(cells, expected, places, copies):
    """Return notes on cells that are not as they were handed out."""
    several = [grade_id for grade_id in copies if len(copies[grade_id]) > 1]
    replaced = [
        grade_id
        for grade_id, index in places.items()
        if is_locked(expected[grade_id])
        and _text(cells[index]) != _text(expected[grade_id])
    ]
    notes = []
    if several:
        notes.append(f"cells that it has twice: {_list(expected, several)}")
    if replaced:
        notes.append(f"changed and put back: {_list(expected, replaced)}")
    return notes


def _list(expected, grade_ids):
    """Return the first few ids as text, in the order of the assignment."""
    ordered = [each for each in expected if each in grade_ids]
    more = ", ..." if len(ordered) > _MOST_NAMED else ""
    return ", ".join(ordered[:_MOST_NAMED]) + more


def _all_defined(cells):
    names = set()
    for cell in cells:
        if cell.cell_type == "code":
            names |= defined_names(cell.source)
    return names


def _free(cells, places):
    """Return the indices of cells that have not been recognized yet."""
    taken = set(places.values())
    return [index for index in range(len(cells)) if index not in taken]


def _is_code_to_write(cell):
    return cell.cell_type == "code" and is_cell(cell, "solution")


def _text(cell):
    """Return what makes two cells equal: their type and their stripped text."""
    lines = (line.rstrip() for line in cell.source.splitlines())
    return cell.cell_type, "\n".join(lines).strip()


def defined_names(source):
    """Return the names that the code of a cell defines at its top level.

    In code that is not Python, only functions and classes are found.
    """
    tree = read_code(source)
    if tree is None:
        return set(_DEFINITION.findall(source))
    names, nodes = set(), [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif not isinstance(node, ast.Lambda | ast.comprehension):
            nodes += ast.iter_child_nodes(node)
    return names
