"""Lend correct functions to later tests, so that a mistake counts once.

`train_bpe` calls `merge_pair`. If `merge_pair` is wrong, its own test fails,
and so would the test of `train_bpe`, even if that is right. So a function
whose test has failed is replaced by the solution's while later tests run.

A function is lent only after all of its own tests have run. A submission that
copies it gains nothing, because no test of this function is left.
"""

import ast

from kerasllm.homework._notebooks import is_cell, is_locked


def plan_loans(source):
    """Return what can be lent of an assignment, as a dict of plain data.

    A test grades the functions that are written between it and the test before
    it. If there are none, it grades the same functions as the test before it.

    Args:
        source: notebook with solutions and hidden tests.

    Returns:
        dict with `tests`, from each test to the functions that it grades;
        `functions`, from each function to its source; and `base`, a list of
        the sources that all of them need.
    """
    plan = {"tests": {}, "functions": {}, "base": []}
    written, since = [], []
    for cell in source.cells:
        if cell.cell_type != "code":
            continue
        if is_cell(cell, "grade"):
            if is_locked(cell):
                written = since or written
                plan["tests"][cell.metadata.nbgrader.grade_id] = written
                since = []
        elif is_cell(cell, "solution"):
            plan["functions"][cell.id] = cell.source
            since = [*since, cell.id]
        else:
            plan["base"].append(_without_work(cell))
    return plan


def _without_work(cell):
    """Return what a cell defines, without what it does.

    If the cell is not locked, that is its imports and constants only.
    """
    kept = []
    for node in ast.parse(cell.source).body:
        constant = isinstance(node, ast.Assign) and isinstance(
            node.value, ast.Constant
        )
        imported = isinstance(node, ast.Import | ast.ImportFrom)
        defined = is_locked(cell) and not isinstance(node, ast.Expr)
        if constant or imported or defined:
            kept.append(ast.unparse(node))
    return "\n".join(kept)


class Loans:
    """What the tests of one submission are lent.

    Args:
        plan: dict, what `plan_loans` returns.
    """

    def __init__(self, plan):
        self.plan = plan
        self.passed = {}  # from each test that has run to whether it passed

    def record(self, test, passed):
        """Note that a test has run."""
        if test in self.plan["tests"]:
            self.passed[test] = bool(passed)

    def of(self, test):
        """Return what a test is lent, or `None` for nothing.

        Returns:
            A pair of lists of str: sources to run, in order, and the names of
            the functions that take the place of the student's.
        """
        tests, functions = self.plan["tests"], self.plan["functions"]
        if test not in tests:
            return None
        earlier = list(functions)
        earlier = earlier[: earlier.index(tests[test][0])]
        tested = [
            name
            for name in earlier
            if all(each in self.passed for each in self._tests_of(name))
        ]
        failed = [
            name
            for name in tested
            if not all(self.passed[each] for each in self._tests_of(name))
        ]
        if not failed:
            return None
        # Functions that passed, too: the solution's functions use each other.
        return [*self.plan["base"], *map(functions.get, tested)], failed

    def _tests_of(self, name):
        return [
            test for test, names in self.plan["tests"].items() if name in names
        ]
