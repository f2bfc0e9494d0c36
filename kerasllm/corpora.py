r"""Where text comes from.

A corpus is a list of shard files in the format of the chapter's mini-C4: UTF-8
text, one document a line, the line breaks inside a document written as the two
characters `\n`. (The format has no escape for a backslash, so a document that
itself contains those two characters gets a line break there when it is read.)

`local_docs` finds text that every installation carries, `mini_c4` downloads
the chapter's corpus, `text_shards` takes the user's own files, and `from_tfds`
reads a TensorFlow data set instead of shards.
"""

import ast
import contextlib
import errno
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import sys
import sysconfig
import warnings

import tensorflow_datasets as tfds

from kerasllm import files

MINI_C4_URL = (
    "https://hf.co/datasets/mattdangerw/mini-c4/resolve/main/mini-c4.zip"
)
# What the base install brings, so never torch: the corpus must not depend on
# the extras that somebody chose.
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
# Some systems ship these apart from the rest of the standard library, or not
# at all; without them, equal versions mean an equal corpus.
OPTIONAL_MODULES = frozenset(
    "ensurepip idlelib lib2to3 tkinter turtle turtledemo".split()
)
# "Returns x." is a label, not text to learn from.
MIN_CHARACTERS = 100
NUM_SHARDS = 8
FINGERPRINT = "fingerprint.json"
# Raised when a change to this file changes the documents.
RECIPE = 1


def local_docs(directory=None):
    """Build the corpus that every installation carries, or find it again.

    Its documents are the help topics of Python and the docstrings of the
    standard library and of this package's dependencies, read from their source
    files without running them. Some 17 MB of English about programming, enough
    to pretrain a small model offline. The first call takes about 15 seconds.

    Args:
        directory: str or path. The folder to keep corpora in. By default
            `$KERAS_HOME/kerasllm/corpora`.

    Returns:
        A sorted list of str, the paths of 8 shards. They lie in a folder whose
        name tells the versions apart that the text was taken from, beside a
        `fingerprint.json` with these versions, counts and SHA-256.

    Raises:
        OSError: there is no room on the disk, or the folder is not writable.
        ValueError: a shard has been changed, or no text was found.
    """
    directory = directory or files.cache_dir("corpora")
    versions = local_docs_versions()
    folder = pathlib.Path(directory, f"local_docs-{fingerprint(versions)}")
    if not folder.exists():
        print(
            f"Collecting the local docs in {folder} (once, about 15 seconds).",
            flush=True,
        )
        documents = {text.strip() for text in _local_documents()}
        _write_corpus(
            folder,
            # By hash: an order that is the same everywhere and mixes what
            # belongs together, so that training needs no shuffle and every
            # shard is a fair sample.
            sorted(
                (d for d in documents if len(d) >= MIN_CHARACTERS),
                key=lambda d: hashlib.sha256(d.encode()).digest(),
            ),
            versions,
        )
    return _read_corpus(folder)


def local_docs_versions():
    """Return what the text of `local_docs` depends on, as `{name: version}`."""
    versions = {"recipe": str(RECIPE), "python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "none"
    return versions


def fingerprint(facts):
    """Return 12 hexadecimal digits that tell one dict of str from another."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def mini_c4(directory=None, sha256=None, url=MINI_C4_URL):
    """Download the chapter's corpus, or find it again and check it.

    Mini-C4 is a part of the C4 web crawl: 50 shards of about 75 MB. Checking
    them at each call takes about 15 seconds.

    Args:
        directory: str or path. The folder to keep corpora in. By default
            `$KERAS_HOME/kerasllm/corpora`.
        sha256: str. The expected SHA-256 of the archive. By default that of
            the first complete download, which is recorded beside it.
        url: str. The address of the ZIP archive, for those with a mirror.

    Returns:
        A sorted list of str, the paths of the shards.

    Raises:
        OSError: there is no network or no room on the disk, or the transfer
            broke off.
        ValueError: the archive or a shard is not the expected one, or is not
            UTF-8.

    Source: chapter 16, listing 16.1.
    """
    directory = directory or files.cache_dir("corpora")
    folder = files.download(url, directory, sha256=sha256, extract=True)
    shards = sorted(str(path) for path in folder.rglob("shard*.txt"))
    if not shards:
        raise ValueError(
            "The archive must hold files named shard*.txt. Received: "
            f"{url}, unpacked in {folder}, without any. Look at `url`."
        )
    for shard in shards:
        _check_shard(shard)
    return shards


def text_shards(paths, documents="lines", pattern="*.txt"):
    """Turn the user's own text files into a corpus.

    Args:
        paths: str or path, or a list of them: files, and folders that are
            searched with all their subfolders.
        documents: str. What one document is.
            `"lines"`: a line. The files are shards already; they are checked
            and returned as they are.
            `"files"`: a whole file.
            `"paragraphs"`: what stands between blank lines. For one long text,
            such as a book: a corpus of one document cannot be split into one
            part to train on and another to validate on.
            The last two write shards into the cache, once for the same text.
        pattern: str. Which names to take from a folder, as in a shell.

    Returns:
        A sorted list of str, the absolute paths of the shards.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: there is no file, no text in it, or it is not UTF-8.
    """
    if documents not in ("lines", "files", "paragraphs"):
        raise ValueError(
            '`documents` must be "lines", "files" or "paragraphs". Received: '
            f'{documents!r}. Use "lines" for shards with one document a line.'
        )
    found = _text_files(paths, pattern)
    if documents == "lines":
        for path in found:
            _check_shard(path)
        return found
    digests = [files.sha256(path) for path in found]
    facts = {"recipe": str(RECIPE), "documents": documents, "files": digests}
    folder = files.cache_dir("corpora") / f"text-{fingerprint(facts)}"
    if not folder.exists():
        texts = (_read_text(path) for path in found)
        if documents == "paragraphs":
            texts = (part for text in texts for part in _paragraphs(text))
        _write_corpus(folder, texts, {"documents": documents, "files": found})
    return _read_corpus(folder)


def from_tfds(
    name, split="train", text_key="text", data_dir=None, download=True
):
    """Read the texts of a TensorFlow data set.

    Args:
        name: str. As in `tfds.load`, for example `"ag_news_subset"`;
            `"local_docs"` is the corpus of the function of that name.
        split: str. As in `tfds.load`, for example `"train[:10%]"`.
        text_key: str. The feature that holds the text.
        data_dir: str or path. The folder of prepared data sets, by default
            TFDS's own.
        download: bool. `False` reads only what was prepared before. `True` may
            use the network; TFDS tries for minutes before it gives up.

    Returns:
        A `tf.data.Dataset` of scalar strings, always in the same order.

    Raises:
        FileNotFoundError: `download=False`, and the data set is not prepared.
        OSError: the data set could not be downloaded.
        ValueError: there is no such data set, split or text feature, or it
            cannot be read by `tf.data`.
    """
    # Importing it makes "local_docs" known to TFDS; it imports this room.
    from kerasllm import local_docs_dataset_builder  # noqa: F401

    data_dir = None if data_dir is None else os.path.expanduser(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except ValueError as error:
        raise ValueError(
            "`name` must be a data set that TFDS knows. Received: "
            f"{name!r} ({_first_line(error)}). See `tfds.list_builders()`."
        ) from error
    _check_text_key(builder.info.features, text_key, name)
    _prepare(builder, download)
    try:
        dataset = builder.as_dataset(split=split, shuffle_files=False)
    except ValueError as error:
        raise ValueError(
            f"`split` must be a part of {name!r}. Received: {split!r} "
            f"({_first_line(error)}). It has {sorted(builder.info.splits)}."
        ) from error
    except NotImplementedError as error:
        raise ValueError(
            "The data set must be stored in a format that tf.data reads. "
            f"Received: {name!r} in {builder.info.file_format}. Prepare it "
            'with `tfds.builder(..., file_format="tfrecord")`.'
        ) from error
    return dataset.map(lambda example: example[text_key])


# --- The local documents ----------------------------------------------------


def _local_documents():
    """Yield the texts of `local_docs`, some of them more than once."""
    # A package of plain data; the other modules are read and never imported.
    from pydoc_data.topics import topics

    yield from topics.values()
    for path in _source_files():
        for text in _docstrings(path):
            # Half a surrogate pair can stand in a string but not in a file.
            yield text.encode(errors="ignore").decode()


def _source_files():
    """Yield the paths of the Python files to read, tests left out."""
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
        return  # Parsing is what takes the time.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return  # Templates, and samples of bad code.
    yield from _docstrings_below(tree)


def _docstrings_below(node):
    yield ast.get_docstring(node) or ""
    for child in node.body:
        if isinstance(
            child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ):
            yield from _docstrings_below(child)
        # NumPy documents its compiled functions by calls of `add_newdoc`.
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            for argument in child.value.args:
                yield from _long_strings(argument)


def _long_strings(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Tuple):
        for element in node.elts:
            yield from _long_strings(element)


# --- Shards -----------------------------------------------------------------


def _write_corpus(folder, documents, facts):
    """Deal documents to shards in turn, with a `fingerprint.json` beside."""
    names = [f"shard{i}.txt" for i in range(NUM_SHARDS)]
    try:
        with files.whole_folder(folder) as temporary:
            count = 0
            with contextlib.ExitStack() as stack:
                shards = [
                    stack.enter_context(open(temporary / name, "wb"))
                    for name in names
                ]
                for text in documents:
                    if text.strip():
                        shards[count % NUM_SHARDS].write(_line(text))
                        count += 1
            if count == 0:
                raise ValueError(
                    f"A corpus must hold text. Received: {facts}, all empty. "
                    "Look at what the paths and the pattern find."
                )
            # A corpus of few documents has few shards.
            for name in names[count:]:
                (temporary / name).unlink()
            record = {
                "facts": facts,
                "documents": count,
                "sha256": {
                    name: files.sha256(temporary / name)
                    for name in names[:count]
                },
            }
            (temporary / FINGERPRINT).write_text(json.dumps(record, indent=2))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(
                errno.ENOSPC,
                "There must be room on the disk for the corpus. Received: "
                f"{error.strerror}. Nothing was kept. Make room, or set the "
                "environment variable KERAS_HOME to a folder elsewhere",
                str(folder),
            ) from error
        raise


def _line(text):
    """Return a document as one line of a shard, in UTF-8."""
    # To Python "\r" ends a line, and tf.data drops it wherever it stands.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n", "\\n").encode() + b"\n"


def _read_corpus(folder):
    """Return the shards of a corpus that was written before, if unchanged."""
    try:
        record = json.loads((folder / FINGERPRINT).read_text())
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"A corpus must have its {FINGERPRINT}. Received: {folder} "
            f"({error}). Delete the folder to have it written again."
        ) from error
    for name, digest in record["sha256"].items():
        path = folder / name
        found = files.sha256(path) if path.is_file() else "no file"
        if found != digest:
            raise ValueError(
                f"A shard must stay as it was written. Received: {path} with "
                f"SHA-256 {found} in place of {digest}. Delete the folder "
                f"{folder} to have it written again."
            )
    return sorted(str(folder / name) for name in record["sha256"])


def _check_shard(path):
    """Raise unless a shard is UTF-8 and holds text."""
    empty, offset = True, 0
    with open(path, "rb") as file:
        for line in file:
            _decode(line, path, offset)
            empty = empty and not line.strip()
            offset += len(line)
    if empty:
        raise ValueError(
            f"A shard must hold text. Received: {path}, which is empty. Leave "
            "it out, or look whether writing it was broken off."
        )


def _text_files(paths, pattern):
    """Return the absolute paths of the files, sorted, each once."""
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found = set()
    for path in map(pathlib.Path, paths):
        path = path.expanduser().absolute()
        if path.is_dir():
            found.update(
                item
                for item in path.rglob(pattern)
                if item.is_file() and not _is_hidden(item.relative_to(path))
            )
        elif path.is_file():
            found.add(path)
        else:
            raise FileNotFoundError(
                f"`paths` must be files or folders. Received: {path}, which "
                "does not exist. Look at its spelling."
            )
    if not found:
        raise ValueError(
            f"A corpus must have at least one file. Received: {paths}, with "
            f"no file of the name {pattern}. Give another `pattern`."
        )
    return sorted(map(str, found))


def _is_hidden(path):
    """Tell whether a path is a note of some program, such as a checkpoint."""
    return any(part.startswith(".") for part in path.parts)


def _read_text(path):
    text = _decode(pathlib.Path(path).read_bytes(), path, 0)
    # Some editors start a file with a byte order mark.
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _paragraphs(text):
    """Split a text at blank lines."""
    return (part.strip("\n") for part in re.split(r"\n[ \t]*\n", text))


def _decode(data, path, offset):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Text must be UTF-8. Received: {path}, which is not at byte "
            f"{offset + error.start}. Convert it, for example with "
            "`iconv -t UTF-8`."
        ) from error


# --- TFDS -------------------------------------------------------------------


def _check_text_key(features, text_key, name):
    """Raise unless `text_key` names a feature that is one string."""
    infos = features.get_tensor_info()
    # A data set of one nameless feature has no dict.
    infos = infos if isinstance(infos, dict) else {}
    texts = [
        key
        for key, info in infos.items()
        if getattr(info, "shape", None) == () and info.tf_dtype == "string"
    ]
    if text_key not in texts:
        raise ValueError(
            f"`text_key` must be a text feature of {name!r}. Received: "
            f"{text_key!r}. It has {texts or 'none'}."
        )


def _prepare(builder, download):
    """Make the files of a TFDS data set, where they are not there yet."""
    if builder.is_prepared():
        return
    if not download:
        raise FileNotFoundError(
            "With `download=False` the data set must be prepared. Received: "
            f"{builder.info.full_name}, not found in {builder.data_path}. "
            "Prepare it with `tfds.builder(...).download_and_prepare()`, or "
            "give the `data_dir` that holds it."
        )
    try:
        builder.download_and_prepare(file_format="tfrecord")
    except Exception as error:  # TFDS raises what its downloader raises
        if isinstance(error, OSError) or (
            "download" in type(error).__name__.lower()
        ):
            raise OSError(
                "The data set must be reachable, with room on the disk. "
                f"Received: {_first_line(error)} for {builder.info.full_name}. "
                "Look at the network and the disk, or prepare it elsewhere "
                "and give `data_dir`."
            ) from error
        raise


def _first_line(error):
    return str(error).strip().split("\n")[0]
