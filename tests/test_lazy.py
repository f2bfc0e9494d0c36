"""Modules that run when they are first used."""

import importlib
import sys
import threading
import types

import pytest

from kerasllm.lazy import LateModules

pytestmark = pytest.mark.any_backend


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder for the modules of the package `late_ones`."""
    folder = tmp_path / "late_ones"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        sys, "meta_path", [LateModules("late_ones."), *sys.meta_path]
    )
    yield folder
    for name in [n for n in sys.modules if n.startswith("late_ones")]:
        del sys.modules[name]


def load(name):
    return importlib.import_module(f"late_ones.{name}")


def test_a_module_runs_once_when_it_is_first_used(package):
    (package / "one.py").write_text("import sys\nsys.runs.append('one')\nx = 1")
    (package / "two.py").write_text("from late_ones import one\ny = one.x + 1")
    sys.runs = []
    try:
        one, two = load("one"), load("two")
        assert sys.runs == [] and two.__name__ == "late_ones.two"
        assert two.y == 2
        assert one.x == 1
        assert sys.runs == ["one"]
    finally:
        del sys.runs


def test_what_is_not_there_is_missed_at_once(package):
    (package / "one.py").write_text("x = 1")
    with pytest.raises(ModuleNotFoundError, match="late_ones.three"):
        load("three")
    with pytest.raises(AttributeError, match="'late_ones.one' has no .* 'z'"):
        assert load("one").z


def test_a_module_may_replace_itself(package):
    (package / "one.py").write_text(
        "import sys, types\n"
        "x = 1\n"
        "sys.modules[__name__] = types.SimpleNamespace(x=2)"
    )
    late = load("one")
    assert late.x == 1
    assert load("one").x == 2


def test_other_modules_are_left_alone(package):
    assert LateModules("late_ones.").find_spec("late_others", None) is None
    assert isinstance(importlib.import_module("late_ones"), types.ModuleType)


def test_a_thread_waits_while_another_runs_the_module(package):
    """`begun` is set within the module, before it has any names."""
    (package / "one.py").write_text(
        "import sys\n"
        "sys.begun.set()\n"
        "sys.asked.wait(10)\n"
        "x = 1"
    )  # fmt: skip
    sys.begun, sys.asked = threading.Event(), threading.Event()
    try:
        one, found = load("one"), []
        first = threading.Thread(target=lambda: found.append(one.x))
        first.start()
        assert sys.begun.wait(10)
        second = threading.Thread(target=lambda: found.append(one.x))
        second.start()
        sys.asked.set()
        first.join()
        second.join()
        assert found == [1, 1]
    finally:
        del sys.begun, sys.asked
