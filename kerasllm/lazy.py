"""Names of a package whose files are imported when they are first used.

So a program can use the names that need no backend before it starts one, and it
does not wait for what it never uses.
"""

import importlib
import importlib.abc
import importlib.machinery
import threading


def names_of(package, file_of, everything):
    """Return functions that import the names of a package on first use.

    Args:
        package: str, its `__name__`.
        file_of: dict from names to the files of the package that have them.
        everything: list of str, its `__all__`.

    Returns:
        Functions, to be called `__getattr__` and `__dir__` in the package.

    Source: PEP 562.
    """

    def find(name):
        if name in file_of:
            file = importlib.import_module(f"{package}.{file_of[name]}")
            return getattr(file, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find, lambda: everything


class LateModules(importlib.abc.MetaPathFinder):
    """Finds some modules that run when something in them is first used.

    They are imported at once, so that the import of a missing one still fails,
    but each stays empty until one of its names is asked for. It goes into
    `sys.meta_path`. Unlike with `importlib.util.LazyLoader`, a module may
    replace itself in `sys.modules`.

    Args:
        prefix: str, with which the full names of the modules begin. Nobody may
            rely on what running these modules changes elsewhere.
    """

    def __init__(self, prefix):
        self._prefix = prefix

    def find_spec(self, name, path, target=None):
        """Return how to load a module, or `None` if it is another one."""
        if not name.startswith(self._prefix):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LateLoader(spec.loader)
        return spec


class _LateLoader(importlib.abc.Loader):
    """Loads a module when one of its names is first asked for."""

    # One thread loads at a time, because modules import one another.
    _lock = threading.RLock()

    def __init__(self, loader):
        self._loader = loader
        self._is_waiting = True

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        """Leave the module empty, with a `__getattr__` that runs it."""
        module.__loader__ = module.__spec__.loader = self._loader

        def find(name):
            # Python asks each module for its `__all__` and the like.
            is_special = name.startswith("__") and name.endswith("__")
            with self._lock:
                if self._is_waiting and not is_special:
                    self._is_waiting = False
                    self._loader.exec_module(module)
                # Another thread may have run it in the meantime.
                if name in vars(module):
                    return vars(module)[name]
            raise AttributeError(
                f"module {module.__name__!r} has no attribute {name!r}"
            )

        module.__getattr__ = find
