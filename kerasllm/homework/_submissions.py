"""What a class handed in: which files count, and whose they are.

A folder of submissions comes out of archives and learning platforms, and has
been opened on all kinds of systems. No file in it is skipped silently: it is
graded, or a note on its student names it, or `find_leftovers` returns it.
"""

import dataclasses
import os
import pathlib
import re
import unicodedata

from kerasllm.checks import UserError, check_path
from kerasllm.homework.shown import visible

# What systems and editors leave behind, apart from hidden files.
_LEFTOVERS = {
    "__macosx", "__pycache__", "@eadir", "desktop.ini", "ehthumbs.db",
    "icon\r", "thumbs.db",
}  # fmt: skip
_SUFFIX = ".ipynb"
_NAMELESS = "(no name)"  # whose file is named with spaces only
_MOST_NAMED = 5  # files that a note names
_MOST_FOLDERS = 20  # one inside the other
_LETTER = re.compile(r"[^\W\d_]")


@dataclasses.dataclass
class _HandedIn:
    """What one student handed in: notebooks, and what else was found."""

    notebooks: list = dataclasses.field(default_factory=list)
    others: list = dataclasses.field(default_factory=list)
    is_unreadable: bool = False  # something of it, for the machine


def find_submissions(
    directory, names, assignment=None, outputs=(), refused=None
):
    """Find what a class handed in.

    Names of students are in Unicode's form NFC, whatever the form and the
    encoding of their file names.

    Args:
        directory: path of a folder with `STUDENT.ipynb`, or with a folder for
            each student as nbgrader collects them.
        names: list of str, the names of all assignments.
        assignment: str, one of them; `None` recognizes it by file names.
        outputs: paths of what grading itself writes, which are left out.
        refused: set to which this adds students whose points stay open: several
            files claim to be theirs and it is unclear which one is, or the
            machine cannot read what they handed in; or `None`.

    Returns:
        The name of the assignment, or `None` if unclear; a dict from student
        to the path of the notebook to grade; and a dict from student to a
        note on what else was found. A student without a notebook is only in
        the second dict. Both are sorted.

    Raises:
        UserError: the whole class is inside one more folder.
    """
    directory = check_path("directory", directory)
    found_there = [*_walk(directory, _real(outputs))]
    _check_is_class(directory, found_there, names)
    handed_in = _by_student(found_there, directory, names)
    name = assignment or _only_assignment(handed_in, names)
    chosen, notes = {}, {}
    for student, found in sorted(handed_in.items()):
        claims = _claims(found, name, names, directory)
        if len(claims) > 1:
            notes[student] = (
                f"not graded: {len(claims)} files claim to be this student's: "
                f"{_listed(claims)}. Leave the one that is, or a folder"
            )
            if refused is not None:
                refused.add(student)
            continue
        path, note = _choose(found, name, names, directory)
        if path is not None:
            chosen[student] = path
        elif found.is_unreadable and refused is not None:
            refused.add(student)
        if note:
            notes[student] = note
    return name, chosen, notes


def _by_student(found_there, directory, names):
    """Return a `_HandedIn` for each student, from what `_walk` yields."""
    handed_in = {}
    for path, problem in found_there:
        student = _student_of(path, directory, names)
        if student is None:
            continue
        found = handed_in.setdefault(student, _HandedIn())
        if isinstance(problem, OSError):
            found.is_unreadable = True
            problem = f"cannot be read: {problem.strerror}"
        if problem:
            found.others.append(f"{readable(path.name)} ({problem})")
        else:
            found.notebooks.append(path)
    return handed_in


def _check_is_class(directory, found, names):
    """Raise if a whole class is in one folder.

    Archives often have their files in such a folder. It would be mistaken for
    the folder of one student.
    """
    notebooks = [
        path.relative_to(directory).parts for path, problem in found
        if not problem
    ]  # fmt: skip
    outer = {parts[0] for parts in notebooks}
    folders = {
        parts[1]
        for parts in notebooks
        if len(parts) > 2 and not _assignment_of(pathlib.Path(parts[1]), names)
    }
    files = {parts[1] for parts in notebooks if len(parts) == 2}
    if any(_is_named_after_one(pathlib.Path(file), names) for file in files):
        files = set()  # of one student
    if len(outer) == 1 and max(len(folders), len(files)) > 1:
        (folder,) = outer
        inside = sorted(map(readable, max(folders, files, key=len)))
        raise UserError(
            "The folder of submissions must hold a notebook or a folder for "
            f"each student. Received: {directory}, where all notebooks are "
            f"below {readable(folder)}, such as {_listed(inside[:2])}. Name "
            f"{directory / folder} instead. If all of it is one student's, "
            "name a file after the assignment."
        )


def _is_named_after_one(path, names):
    """Return whether a file is named as an assignment is, or a copy of it."""
    stem, name = readable(path.stem).casefold(), _assignment_of(path, names)
    return bool(name) and not _LETTER.search(
        stem.replace(name.casefold(), "").replace("copy of", "")
    )


def find_leftovers(directory, names, outputs=()):
    """Return the names of files in a folder of submissions that are nobody's.

    Args:
        directory: as for `find_submissions`.
        names: as for `find_submissions`.
        outputs: as for `find_submissions`.

    Returns:
        list of str.
    """
    directory = pathlib.Path(directory)
    return [
        readable(path.name)
        for path, _ in _walk(directory, _real(outputs))
        if _student_of(path, directory, names) is None
    ]


def readable(name):
    """Return the name of a file as printable text in NFC.

    Bytes that are not UTF-8, and invisible characters, are written as escapes.
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    text = unicodedata.normalize("NFC", text)
    return visible(text, kept="").strip()


def _real(paths):
    return {os.path.realpath(path) for path in paths}


def _walk(folder, outputs, depth=0):
    """Yield `(path, problem)` for each file in a folder; "" for a notebook.

    What the machine cannot read has an `OSError` for a problem, and other
    problems are text. Links are not followed: they may lead out of the folder,
    or in a circle.
    """
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = pathlib.Path(entry.path)
        if os.path.realpath(path) in outputs:
            # A student may be called as the folder of pages is.
            yield from _notebooks_in(entry)
        elif entry.is_symlink():
            yield path, "a link"
        elif _is_leftover(entry.name):
            yield path, "left by a system or an editor"
        elif entry.is_dir():
            yield from _walk_below(path, outputs, depth + 1)
        elif not entry.is_file():
            yield path, "no file"  # such as a pipe, which may never end
        elif path.suffix.lower() != _SUFFIX:
            yield path, "no notebook"
        else:
            yield path, ""


def _notebooks_in(entry):
    """Return the notebooks in what grading writes, as `_walk` yields them."""
    if not entry.is_dir(follow_symlinks=False):
        return []
    found = _walk_below(pathlib.Path(entry.path), (), 1)
    return [(path, problem) for path, problem in found if not problem]


def _walk_below(folder, outputs, depth):
    if depth > _MOST_FOLDERS:
        yield folder, f"more than {_MOST_FOLDERS} folders in each other"
        return
    try:
        found = [*_walk(folder, outputs, depth)]
    except OSError as error:
        yield folder, error
        return
    yield from found
    if not any(folder.iterdir()):
        yield folder, "an empty folder"


def _is_leftover(name):
    return name.startswith((".", "~$")) or name.casefold() in _LEFTOVERS


def _student_of(path, directory, names):
    """Return the student whom a file belongs to, or `None` for nobody.

    Args:
        path: path of the file.
        directory: path of the folder of submissions.
        names: list of str, the names of all assignments.
    """
    first, *below = path.relative_to(directory).parts
    # Unlike the methods of `pathlib`, these raise nothing for a long path.
    is_folder = os.path.isdir(path) and not os.path.islink(path)
    if _is_leftover(first):
        if is_folder or not first.lower().endswith(_SUFFIX):
            return None
        # `._ann.ipynb`, which macOS writes beside `ann.ipynb`.
        first = first.lstrip("._~$")
    elif below or is_folder:
        return readable(first) or _NAMELESS
    student = pathlib.PurePath(first).stem
    if student.lower().endswith(_SUFFIX):
        student = student[: -len(_SUFFIX)]
    student = readable(student)
    for name in names:
        left = re.sub(re.escape(name), "", student, flags=re.IGNORECASE)
        student = left.strip("_- ") or student
    return student or _NAMELESS


def _assignment_of(path, names):
    """Return the assignment that a file is named after, or `None`."""
    stem = readable(path.stem).casefold()
    found = [name for name in names if name.casefold() in stem]
    return max(found, key=len, default=None)


def _only_assignment(handed_in, names):
    """Return the one assignment that files are named after, or `None`."""
    if len(names) == 1:
        return names[0]
    found = {
        _assignment_of(path, names)
        for each in handed_in.values()
        for path in each.notebooks
    }
    found.discard(None)
    return found.pop() if len(found) == 1 else None


def _claims(found, name, names, directory):
    """Return the names of files and folders that claim to be a student's.

    A folder counts once, because only its owner hands in there.
    """
    of = {path: _assignment_of(path, names) for path in found.notebooks}
    asked = [path for path in of if of[path] in (name, None)]
    firsts = {path.relative_to(directory).parts[0] for path in asked or [*of]}
    return sorted(map(readable, firsts))


def _choose(found, name, names, directory):
    """Return which of a student's notebooks to grade as `name`, and a note.

    The path is `None` if there is no notebook. The note is `None` if there is
    nothing to say.
    """
    if not found.notebooks:
        return None, f"not graded: no notebook, but {_listed(found.others)}"
    assignments = [_assignment_of(path, names) for path in found.notebooks]
    of = dict(zip(found.notebooks, assignments, strict=True))
    named = [path for path in found.notebooks if name and of[path] == name]
    unnamed = [path for path in found.notebooks if of[path] is None]
    named.sort(key=lambda path: readable(path.stem) != name)
    path = (named or unnamed or found.notebooks)[0]
    rest = [each for each in named + unnamed if each != path]
    labels = _labels([path, *rest], directory)
    notes = []
    graded = f"graded {labels[0]}"
    if rest:
        graded += f", not {_listed(labels[1:])}"
    if not named and (len(found.notebooks) > 1 or path not in unnamed):
        notes.append(f"{graded}: no file is named after the assignment")
    elif rest:
        notes.append(graded)
    if found.others:
        notes.append(f"not looked at: {_listed(found.others)}")
    return path, "; ".join(notes) or None


def _labels(paths, directory):
    """Return names of files that tell them apart."""
    names = [readable(path.name) for path in paths]
    if len(set(names)) == len(names):
        return names
    return [readable(path.relative_to(directory)) for path in paths]


def _listed(names):
    """Return the first few names as text, and how many more there are."""
    more = len(names) - _MOST_NAMED
    listed = ", ".join(names[:_MOST_NAMED])
    return f"{listed} and {more} more" if more > 0 else listed
