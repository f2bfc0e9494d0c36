"""The documentation in every installation, as a corpus."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import pathlib
import sys
import sysconfig
import warnings

from kerasllm import files
from kerasllm.checks import check_path
from kerasllm.corpora._shards import (
    RECIPE,
    fingerprint,
    read_corpus,
    write_corpus,
)

# These come with the base install. The corpus must not depend on optional
# extras, so torch is not one of them.
PACKAGES = (
    "jax",
    "keras",
    "keras_hub",
    "matplotlib",
    "numpy",
    "rich",
    "tensorflow",
    "tensorflow_datasets",
    "typer",
)
# Some systems ship these separately from the rest of the standard library, or
# not at all. Without them, equal versions give an equal corpus.
OPTIONAL_MODULES = frozenset(
    "ensurepip idlelib lib2to3 tkinter turtle turtledemo".split()
)
# "Returns x." is a label rather than text to learn from.
MIN_CHARACTERS = 100


def local_docs(directory=None):
    """Build the corpus that every installation contains, or find it again.

    Its documents are the help topics of Python and the docstrings of the
    standard library and of this package's dependencies, read from their source
    files without running them. They are about 17 MB of English about
    programming, which is enough to pretrain a small model offline. The first
    call takes about 15 seconds.

    Args:
        directory: str or path. The folder for all corpora. Defaults to
            `$KERAS_HOME/kerasllm/corpora`.

    Returns:
        A sorted list of str, the paths of 8 shards. The name of their folder
        identifies the versions of the packages that the text comes from. A
        `fingerprint.json` beside them lists these versions, the number of
        documents and the SHA-256 of each shard.

    Raises:
        EnvironmentFailure: the disk is full.
        OSError: the folder is not writable; see `files.check_writable`.
        UserError: a shard has been changed, or no text was found.
    """
    directory = check_path("directory", directory or files.cache_dir("corpora"))
    versions = local_docs_versions()
    folder = directory / f"local_docs-{fingerprint(versions)}"
    if not folder.exists():
        print(
            f"Collecting the local docs in {folder} (once, about 15 seconds).",
            flush=True,
        )
        documents = {text.strip() for text in _local_documents()}
        write_corpus(
            folder,
            # Sort by hash. The order is the same everywhere and mixes related
            # documents, so training needs no shuffle and every shard is a
            # fair sample.
            sorted(
                (d for d in documents if len(d) >= MIN_CHARACTERS),
                key=lambda d: hashlib.sha256(d.encode()).digest(),
            ),
            versions,
        )
    return read_corpus(folder)


def local_docs_versions():
    """Return the versions that determine `local_docs`, `{name: version}`."""
    versions = {"recipe": str(RECIPE), "python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "none"
    return versions


def _local_documents():
    """Yield the texts of `local_docs`; some occur more than once."""
    # This package is plain data. Other modules are read but never imported.
    from pydoc_data.topics import topics

    yield from topics.values()
    for path in _source_files():
        for text in _docstrings(path):
            # Strings may contain lone surrogates, which files cannot.
            yield text.encode(errors="ignore").decode()


def _source_files():
    """Yield the paths of the Python files to read, except tests."""
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    roots = [
        library / name for name in sys.stdlib_module_names - OPTIONAL_MODULES
    ]
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec and spec.submodule_search_locations:
            roots += map(pathlib.Path, spec.submodule_search_locations)
    for root in roots:
        module = root.with_suffix(".py")
        if root.parent == library and module.is_file():
            yield module
        for path in root.rglob("*.py"):
            if not any(map(_is_test, path.relative_to(root).parts)):
                yield path


def _is_test(name):
    return (
        name in ("test", "tests")
        or name.startswith("test_")
        or name.endswith("_test.py")
    )


def _docstrings(path):
    """Yield the docstrings in a Python source file."""
    source = path.read_bytes()
    if b'"""' not in source and b"'''" not in source:
        return  # Skip early, because parsing takes most of the time.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return  # The file is a template or a sample of invalid code.
    yield from _docstrings_below(tree)


def _docstrings_below(node):
    yield ast.get_docstring(node) or ""
    for child in node.body:
        if isinstance(
            child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ):
            yield from _docstrings_below(child)
        # NumPy documents its compiled functions in calls of `add_newdoc`.
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            for argument in child.value.args:
                yield from _long_strings(argument)


def _long_strings(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Tuple):
        for element in node.elts:
            yield from _long_strings(element)
