"""Homework: hand it out, check it at home, and grade a class.

Students check their notebook with `check`. Instructors write the students'
version of the assignments with `release` and grade submissions with `grade`.
The other names are for programs that do more than that.

Each name is imported when it is first used, for two reasons. Grading needs
nbgrader, but checking at home does not. And the process that runs a submission
imports this package before it gives up its rights: the less it has loaded by
then, the better.
"""

import importlib

_FILE_OF = {
    "check": "_check",
    "CodeRunner": "kernels.apart._calls",
    "decode": "kernels._remote",
    "defined_names": "_cells",
    "DELIMITERS": "_notebooks",
    "encode": "kernels._remote",
    "failure_of": "_notebooks",
    "find_leaks": "_course",
    "find_notes": "_notes",
    "find_leftovers": "_submissions",
    "find_submissions": "_submissions",
    "Forbidden": "kernels._kernel",
    "grade": "_grade",
    "HomeworkError": "_notebooks",
    "is_cell": "_notebooks",
    "is_locked": "_notebooks",
    "is_text": "_notebooks",
    "Judge": "kernels._judge",
    "JudgedExecute": "kernels._judge",
    "lend": "kernels._remote",
    "landlock_version": "kernels._sandbox",
    "library_folders": "kernels._kernel",
    "limit": "kernels._sandbox",
    "Limits": "_grade",
    "Loans": "kernels._lending",
    "LONGEST_MESSAGE": "kernels._remote",
    "MachineError": "_notebooks",
    "MARKS": "_notebooks",  # the first version's name of `DELIMITERS`
    "module_files": "kernels._kernel",
    "NOT_WRITTEN": "_check",
    "read_source": "_notebooks",
    "read_submission": "_notebooks",
    "protections": "_grade",
    "rebuild": "_cells",
    "release": "_course",
    "RemoteObject": "kernels._remote",
    "plan_loans": "kernels._lending",
    "restrict": "kernels._sandbox",
    "Result": "_notebooks",
    "run_kernel": "kernels._kernel",
    "SERVANT": "kernels._remote",
    "serve": "kernels._remote",
    "sources": "_notebooks",
    "Student": "kernels._remote",
    "StudentKernelManager": "kernels._manager",
    "summarize": "_grade",
    "write_csv": "shown",
}
# What most users need. The other names belong to parts of the package.
__all__ = [
    "CodeRunner",
    "HomeworkError",
    "Limits",
    "MachineError",
    "Result",
    "check",
    "grade",
    "release",
    "sources",
]


def __getattr__(name):
    if name not in _FILE_OF:
        raise AttributeError(
            f"module 'kerasllm.homework' has no attribute {name!r}. Its names "
            f"are: {', '.join(sorted(_FILE_OF))}."
        )
    file = importlib.import_module(f"kerasllm.homework.{_FILE_OF[name]}")
    return getattr(file, name)


def __dir__():
    return sorted(_FILE_OF)
