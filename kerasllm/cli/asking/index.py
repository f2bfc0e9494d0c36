"""`kerasllm index`: the documents of a folder, in a store to be searched."""

import pathlib
import shlex
from typing import Annotated

import typer

from kerasllm.checks import UserError, check_int
from kerasllm.cli._options import (
    BackendOption,
    at_least,
    checked,
)
from kerasllm.cli._start import starting
from kerasllm.cli.asking._stores import (
    EmbedderOption,
    choose_embedder,
    is_only_text,
    load_embedder,
    open_store,
    said_of,
)
from kerasllm.progress import say, working


def _check_name(name, text):
    """Refuse an empty name, with which no source could begin."""
    if not text:
        raise UserError(
            f"`{name}` must have some text. Received: an empty one. Leave it "
            "out for the name of the folder."
        )


FolderArgument = Annotated[
    pathlib.Path,
    typer.Argument(
        metavar="FOLDER",
        help="Folder with text, Markdown, and PDF files. Hidden ones are left "
        "out.",
    ),
]
StoreOption = Annotated[
    pathlib.Path,
    typer.Option(
        dir_okay=False, help="File of the store, which may be a new one."
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        callback=checked(_check_name),
        help="Name of the collection, with which its sources begin. Default: "
        "that of the folder.",
    ),
]
MaxTokensOption = Annotated[
    int | None,
    typer.Option(
        callback=at_least(1),
        help="Tokens of a chunk, at most. Default: 200, or as many as the "
        "embedder reads.",
    ),
]
OverlapOption = Annotated[
    int | None,
    typer.Option(
        callback=at_least(0),
        help="Tokens of a chunk, at most, that the next one repeats. Default: "
        "a fifth.",
    ),
]
_MOST_TOKENS = 200
_MOST_NAMES = 3  # of files that are not read


def index(
    folder: FolderArgument,
    store: StoreOption,
    embedder: EmbedderOption = None,
    name: NameOption = None,
    max_tokens: MaxTokensOption = None,
    overlap: OverlapOption = None,
    backend: BackendOption = None,
):
    """Read the documents of a folder into a store, for chat --store.

    Only what is new or has changed is embedded. After an interruption, run
    the same command again to continue.
    """
    from kerasllm import files, retrieval

    # Report mistakes that can be found before the model is loaded.
    retrieval.document_paths(folder)
    with said_of(directory="The folder of --store"):
        files.check_may_write(store.parent)
    embedder_name = choose_embedder(store, embedder)
    with working(f"Loading {embedder_name}"):
        with starting(backend, only_text=is_only_text(embedder_name)):
            import kerasllm.presets  # noqa: F401  It starts the backend.

        named = load_embedder(embedder_name)
    # What an embedder is given is cut to its length, less one for counting.
    longest = named.embedder.sequence_length - 1
    if max_tokens is None:
        max_tokens = min(_MOST_TOKENS, longest)
    check_int(
        "max_tokens", max_tokens, 1, longest,
        cure=f"The embedder {embedder_name} reads no more.",
    )  # fmt: skip
    with open_store(store, named) as opened:
        report = retrieval.index_folder(
            opened,
            folder,
            name,
            max_tokens,
            max_tokens // 5 if overlap is None else overlap,
            tokenizer=lambda text: named.embedder.tokenize([text])[0],
        )
    _say(report, store)


def _say(report, store):
    """Print what has been read, and what the user may do next."""
    for source, reason in report.skipped.items():
        say(f"kerasllm: {source} is left out. {reason}")
    if report.unread:
        some = ", ".join(report.unread[:_MOST_NAMES])
        more = len(report.unread) - _MOST_NAMES
        say(
            "kerasllm: Only text, Markdown, and PDF files are read. Left out: "
            f"{some}{f' and {more:,} more' if more > 0 else ''}."
        )
    print(
        f"{report.files:,} files with {report.chunks:,} chunks: "
        f"{report.added:,} added, {report.deleted:,} deleted.",
        "Ask about them with",
        f"  kerasllm chat --preset smollm2 --store {shlex.quote(str(store))}",
        sep="\n",
    )
