"""Names of a package whose files are imported when they are first used.

So a program can use the names that need no backend before it starts one.
"""

import importlib


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
