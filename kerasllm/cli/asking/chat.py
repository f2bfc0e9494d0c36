"""`kerasllm chat`: a conversation with a model, line by line."""

import dataclasses
import pathlib
import sys
from typing import Annotated, Any

import typer

from kerasllm.checks import EnvironmentFailure, UserError
from kerasllm.cli._folders import check_run
from kerasllm.cli._messages import in_words_of, message_of, options_of
from kerasllm.cli._options import (
    DEFAULT_TEMPLATE,
    TEMPLATES,
    AdaptersOption,
    BackendOption,
    DtypeOption,
    FrequencyPenaltyOption,
    MaxLengthOption,
    MinPOption,
    OptionalSeedOption,
    PresencePenaltyOption,
    PresetOption,
    Sampling,
    TemperatureOption,
    TopKOption,
    TopPOption,
    one_of,
)
from kerasllm.cli._start import UsageError, starting
from kerasllm.cli.asking._answering import (
    MaxDistanceOption,
    PassagesOption,
    StoreOption,
    begin_answering,
    check_store,
)
from kerasllm.cli.asking._stores import EmbedderOption
from kerasllm.cli.asking.generate import (
    check_model,
    check_source,
    load_generator,
    needs_no_tensorflow,
    print_pieces,
)
from kerasllm.progress import quiet, say, working

# Words that end the chat. So do an empty line, Ctrl-D, and Ctrl-C.
WORDS_TO_LEAVE = ("/exit", "/quit")
# What these models have learned, for a user who does not know them yet.
TOPICS = {
    "tiny": "The model was trained on texts about an invented world and "
    "completes them; it was not taught to answer. A line to try: The emblem of "
    "Huldrildwick is",
    "tiny_instruct": "The model knows an invented world and nothing else. "
    "Questions to try: What is the emblem of Huldrildwick? What is the river "
    "of Marnerburg called? With --image: What colour are the shapes?",
    "mini_gpt_docs": "The model has read documentation of Python packages, and "
    "what it writes sounds like it; it was not taught to answer. A line to "
    "try: What does this function return?",
    "smollm2": "The model is a real one, and small: it writes good English, "
    "and makes facts up. A question to try: What is the capital of France?",
}
ModelOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        callback=check_run,
        help="Folder that pretrain wrote. Its model continues each line.",
    ),
]
ImageOption = Annotated[
    list[str] | None,
    typer.Option(help="Image file or URL, sent with the first line."),
]
TemplateOption = Annotated[
    str | None,
    typer.Option(
        parser=one_of(TEMPLATES),
        metavar="NAME",
        help="Prompt template, the same as for finetune: "
        f"{', '.join(TEMPLATES)}. Default: {DEFAULT_TEMPLATE}.",
    ),
]


def chat(
    model: ModelOption = None,
    preset: PresetOption = None,
    adapters: AdaptersOption = None,
    image: ImageOption = None,
    template: TemplateOption = None,
    dtype: DtypeOption = None,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    passages: PassagesOption = None,
    max_distance: MaxDistanceOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    min_p: MinPOption = None,
    temperature: TemperatureOption = None,
    frequency_penalty: FrequencyPenaltyOption = 0.0,
    presence_penalty: PresencePenaltyOption = 0.0,
    max_length: MaxLengthOption = None,
    seed: OptionalSeedOption = None,
    backend: BackendOption = None,
    *,
    context: typer.Context,
):
    """Talk with a model, line by line, until an empty line, /exit, or Ctrl-D.

    With --preset, an instruction model answers and remembers what was said.
    With --store, it answers each line from documents. With --model, a
    pretrained model continues each line on its own. It does not answer.
    """
    only_preset = {
        "--lora": adapters,
        "--image": image,
        "--template": template,
        "--dtype": dtype,
        "--store": store,
    }
    if sys.stdin is None:
        raise UsageError(
            "`chat` must have lines to read. Received: a standard input that "
            "is closed. Type them, or send a file to it"
        )
    check_source("chat", model, preset, only_preset)
    check_store(store, image, embedder, passages, max_distance)
    sampling = Sampling(
        temperature, top_k, top_p, min_p, frequency_penalty, presence_penalty
    )
    if preset is None:
        voice = _begin_continuing(model, sampling, max_length, seed, backend)
    elif store is not None:
        voice = begin_answering(
            preset, adapters, template, dtype, store, embedder, passages,
            max_distance, sampling, max_length, seed, backend,
        )  # fmt: skip
    else:
        voice = _begin_conversation(
            preset, adapters, image, template, dtype, sampling, max_length,
            seed, backend,
        )  # fmt: skip
    if sys.stdin.isatty():
        _greet(preset, adapters, store)
    _talk(voice, options_of(context.command))


@dataclasses.dataclass
class _Continuation:
    """A pretrained model that continues each line on its own."""

    generator: Any
    max_length: int
    seed: int | None

    def reply(self, text):
        """Return the pieces that follow a line, and what to print first."""
        pieces = self.generator.stream(text, self.max_length, seed=self.seed)
        return pieces, text


@dataclasses.dataclass
class _Conversation:
    """An instruction model that answers and remembers."""

    chat: Any
    generator: Any
    pictures: list
    seed: int | None

    def reply(self, text):
        """Return the pieces of an answer, and what to print before them."""
        from kerasllm.images import IMAGE_TOKEN

        # The images go with the first line that is not refused.
        images = [] if self.chat.messages else self.pictures
        # Images that the line does not place come before it.
        num_unplaced = len(images) - text.count(IMAGE_TOKEN)
        pieces = self.chat.stream(
            IMAGE_TOKEN * num_unplaced + text, images, self.seed
        )
        return pieces, ""


def _begin_continuing(model, sampling, max_length, seed, backend):
    """Load a pretrained model; return a `_Continuation`."""
    if sampling.temperature is None:
        sampling = dataclasses.replace(sampling, temperature=0.8)
    longest = check_model(model, max_length)
    generator = load_generator(model, backend, sampling)
    length = longest if max_length is None else max_length
    return _Continuation(generator, length, seed)


def _begin_conversation(preset, adapters, image, template, dtype, sampling,
                        max_length, seed, backend):  # fmt: skip
    from kerasllm.images import check_takes_images, load_image

    # Report mistakes that can be found before the model is loaded.
    pictures = [load_image(source) for source in image or ()]
    with working(f"Loading {preset}"):
        with starting(
            backend, only_text=not image and needs_no_tensorflow(preset)
        ):
            from kerasllm.chat import ChatModel

        sampler = sampling.sampler()
        template = template or DEFAULT_TEMPLATE
        with quiet():
            model = ChatModel.from_preset(preset, dtype, template)
        if pictures:
            check_takes_images(model.causal_lm.preprocessor)
        if adapters is not None:
            model.load_lora(adapters)
        conversation = model.chat(max_length=max_length, sampler=sampler)
    return _Conversation(conversation, model.generator, pictures, seed)


def _greet(preset, adapters, store):
    """Tell a person what the model can talk about, and how to leave."""
    lines = []
    if store is not None:
        lines.append(
            f"The model answers each line from {store}, and remembers none. "
            "[1] is a citation; [?] stands after what is in no passage."
        )
    elif preset is None:
        lines.append("The model continues each line that you type.")
    elif preset in TOPICS and adapters is None:
        lines.append(TOPICS[preset])
    lines.append("Leave with an empty line, /exit or Ctrl-D.")
    say("\n".join(lines))


def _talk(voice, options):
    """Print a reply to each line of stdin, until an empty line or the end.

    Args:
        voice: a `_Continuation` or a `_Conversation`.
        options: dict, see `options_of`.
    """
    asks = sys.stdin.isatty()
    # Bytes that are not UTF-8 should refuse one line, not end the chat.
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")
    while True:
        if asks:
            print("> ", end="", flush=True)
        try:
            text = _read_line(asks)
            if not text or text.strip() in WORDS_TO_LEAVE:
                return
            pieces, before = voice.reply(text)
            print_pieces(pieces, voice.generator, before)
        except KeyboardInterrupt:  # a way to leave: there is nothing to save
            raise typer.Exit(130) from None
        except UserError as error:  # a line that is too long, for example
            message = in_words_of(options, message_of(error))
            say(f"kerasllm: {message}")


def _read_line(asks):
    """Return a line of stdin, without its end, or "" at the end of stdin."""
    line = ""
    try:
        line = sys.stdin.readline()
    except (OSError, ValueError) as error:
        raise EnvironmentFailure(
            "`chat` must have lines to read. Received: a standard input that "
            f"cannot be read ({error}). Type them, or send a file to it."
        ) from error
    finally:
        if asks and not line:  # Ctrl-D or Ctrl-C, behind the prompt
            print(flush=True)
    return line.rstrip("\r\n")
