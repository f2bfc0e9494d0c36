"""What `chat` does with a store: it answers each line from documents."""

import dataclasses
import pathlib
from typing import Annotated, Any

import typer

from kerasllm.cli._options import (
    DEFAULT_TEMPLATE,
    at_least,
    obeys,
)
from kerasllm.cli._start import UsageError, starting
from kerasllm.cli.asking._stores import (
    choose_embedder,
    is_only_text,
    load_embedder,
    open_store,
)
from kerasllm.cli.asking.generate import needs_no_tensorflow
from kerasllm.progress import quiet, working

_PASSAGES = 5

StoreOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="File that index wrote. Each line is answered from it, on its "
        "own, with citations.",
    ),
]
PassagesOption = Annotated[
    int | None,
    typer.Option(
        callback=at_least(1),
        help="Passages of the store to show to the model. "
        f"Default: {_PASSAGES}.",
    ),
]
MaxDistanceOption = Annotated[
    float | None,
    typer.Option(
        callback=obeys(
            (lambda value: 0 <= value <= 2, "a number in [0, 2]", ""),
            "Leave it out for no limit.",
        ),
        help="Say that the context does not tell, if the nearest passage has a "
        "larger cosine distance.",
    ),
]


@dataclasses.dataclass
class Answering:
    """An instruction model that answers each line from a store."""

    model: Any
    generator: Any
    store: Any
    options: dict

    def reply(self, text):
        """Return the answer with its sources, and what to print before."""
        return self._answer(text), ""  # asked while "Writing" is shown

    def _answer(self, text):
        """Yield the answer in one piece: its citations need all of it."""
        answer = self.model.ask(text, store=self.store, **self.options)
        sources = "".join(
            f"\n[{number}] {_place_of(passage)}"
            for number, passage in enumerate(answer.passages, 1)
            if passage in answer.citations
        )
        yield answer + sources


def _place_of(passage):
    """Return where a passage stands: its source, section and offsets."""
    start, end = passage.offsets or ("", "")
    title = passage.metadata.get("title")
    title = f" ({title})" if title else ""
    return f"{passage.source or passage.id}:{start}-{end}{title}"


def check_store(store, image, embedder, passages, max_distance):
    """Refuse options that belong to a store, or that a store ignores."""
    only_store = {
        "--embedder": embedder,
        "--passages": passages,
        "--max-distance": max_distance,
    }
    given = [name for name, value in only_store.items() if value is not None]
    if store is None and given:
        raise UsageError(
            f"{', '.join(only_store)} must come with a --store. Received: "
            f"{', '.join(given)} without. `kerasllm index` fills one"
        )
    if store is not None and image:
        raise UsageError(
            "--image must not come with --store, whose passages are text. "
            "Received: both. Leave one of them out"
        )


def begin_answering(preset, adapters, template, dtype, store, embedder,
                    passages, max_distance, sampling, max_length, seed,
                    backend):  # fmt: skip
    """Load a model, a store and its embedder; return an `Answering`."""
    name = choose_embedder(store, embedder)
    only_text = needs_no_tensorflow(preset) and is_only_text(name)
    with working(f"Loading {preset}"):
        with starting(backend, only_text=only_text):
            from kerasllm.chat import ChatModel

        sampler = sampling.sampler()
        with quiet():
            model = ChatModel.from_preset(
                preset, dtype, template or DEFAULT_TEMPLATE
            )
        if adapters is not None:
            model.load_lora(adapters)
    with working(f"Loading {name}"):
        opened = open_store(store, load_embedder(name))
    options = {
        "k": passages or _PASSAGES,
        "max_distance": max_distance,
        "max_length": max_length,
        "sampler": sampler,
        "seed": seed,
    }
    return Answering(model, model.generator, opened, options)
