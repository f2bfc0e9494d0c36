"""What `index` and `chat` know of stores: their embedders."""

import contextlib
import dataclasses
import pathlib
from typing import Annotated, Any

import typer

from kerasllm import presets
from kerasllm.checks import UserError
from kerasllm.cli._folders import refuse_adapters
from kerasllm.cli._messages import in_words_of, message_of
from kerasllm.cli._start import UsageError
from kerasllm.cli.asking.generate import needs_no_tensorflow
from kerasllm.progress import quiet

DEFAULT_EMBEDDER = "mini_gpt_docs"  # offline, and it has read English
KERAS_FILE = ".keras"

EmbedderOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What turns texts into vectors: a preset, as for chat, or a file "
        "of a trained Embedder. Default: that of the store, or "
        f"{DEFAULT_EMBEDDER} for a new one.",
    ),
]


@dataclasses.dataclass
class NamedEmbedder:
    """An embedder under the name by which a command finds it again."""

    name: str
    embedder: Any

    def __call__(self, texts):
        return self.embedder(texts)


def choose_embedder(store, name):
    """Return the name of the embedder of a store, before it is loaded.

    Args:
        store: path, of a file that may not exist yet.
        name: str that the user gave, or `None`.

    Raises:
        UsageError: there is no such preset or file, the store is none, or it
            belongs to another embedder.
    """
    from kerasllm import retrieval

    if name is not None:
        name = _full_name(name)
    if not store.exists():
        return name or DEFAULT_EMBEDDER
    with said_of(path="--store"):
        found = retrieval.embedder_name(store)
    if name not in (None, found):
        raise UsageError(
            "A store must be used with the embedder that has filled it. "
            f"Received: --embedder {name} for {store}, which is of {found}. "
            "Leave it out, or fill a new store."
        )
    try:
        return _full_name(found)
    except UsageError as error:
        raise UsageError(
            "A store on the command line must be one that `kerasllm index` "
            f"has filled. Received: {store}, whose embedder is {found}. Use "
            "it from Python, with that embedder."
        ) from error


def open_store(path, embedder):
    """Open a store; see `kerasllm.retrieval.Store`.

    Raises:
        UsageError: it cannot be opened.
    """
    from kerasllm import retrieval

    with said_of(path="--store"):
        return retrieval.Store(path, embedder)


@contextlib.contextmanager
def said_of(**options):
    """Say errors of this block in the words of its options.

    Two arguments of the library may have the same name, such as `path`, and a
    command has an option for each.

    Args:
        **options: str, the option that an argument stands for.
    """
    try:
        yield
    except UserError as error:
        message = in_words_of(options, message_of(error))
        raise UsageError(message) from error


def is_only_text(name):
    """Return whether an embedder is known to load without TensorFlow."""
    return not name.endswith(KERAS_FILE) and needs_no_tensorflow(name)


def load_embedder(name):
    """Load an embedder, after the backend has started.

    Args:
        name: str, from `choose_embedder`.

    Returns:
        A `NamedEmbedder`.

    Raises:
        UsageError: the file holds no `Embedder`.
    """
    from kerasllm.retrieval import Embedder

    with quiet():
        if not name.endswith(KERAS_FILE):
            return NamedEmbedder(name, Embedder.from_preset(name))
        import keras

        embedder = keras.saving.load_model(name)
    if not isinstance(embedder, Embedder):
        raise UsageError(
            "--embedder must be a preset or a file that `Embedder.save` "
            f"wrote. Received: {name}, with a {type(embedder).__name__}. "
            "Save an `Embedder`."
        )
    return NamedEmbedder(name, embedder)


def _full_name(name):
    """Return the name of an embedder, a path in full, or refuse it."""
    path = pathlib.Path(name).expanduser()
    if name.endswith(KERAS_FILE) and path.is_file():
        return str(path.absolute())
    refuse_adapters("--embedder", name)
    with said_of(name="--embedder"):
        presets.check_name(name)
    return str(path.absolute()) if path.exists() else name
