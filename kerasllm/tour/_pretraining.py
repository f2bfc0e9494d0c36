"""Stages 1 and 2: text, a vocabulary, and a mini-GPT that reads them."""

import dataclasses
import functools
import pathlib

import keras

from kerasllm import corpora, plots, tokenizers
from kerasllm.evaluation import Share
from kerasllm.generation import compiled_generate
from kerasllm.pretraining import VOCABULARY_FILE, pretrain_mini_gpt
from kerasllm.recipes import get_recipe
from kerasllm.samplers import top_k
from kerasllm.tour._commands import pretrain_command
from kerasllm.tour._progress import StepsDone

PROMPT = "Return a new"  # continued after each epoch, and by each strategy
SEED = 0
SAMPLE_LENGTH = 40  # tokens of a continuation after an epoch
TOP_K = 5  # each of them is drawn from so many


@dataclasses.dataclass(frozen=True)
class Text:
    """A corpus, counted.

    Attributes:
        shards: list of str, paths.
        documents: int.
        characters: int.
    """

    shards: list
    documents: int
    characters: int

    def __str__(self):
        return (
            f"{self.documents:,} documents with "
            f"{self.characters / 1e6:.1f} million characters"
        )


def collect_text(report):
    """Collect the documentation of the installed packages: a `Text`."""
    with report.working("Collecting documentation"):
        shards = corpora.local_docs()
        documents = characters = 0
        for path in shards:
            with open(path, encoding="utf-8") as file:
                for line in file:
                    documents += 1
                    characters += len(line) - 1
    text = Text(shards, documents, characters)
    report.say(str(text))
    return text


def write_text(report, text):
    """Say what the model will read."""
    report.text(
        "A language model learns from text. Every Python installation comes "
        "with some: the documentation of the standard library and of the "
        f"installed packages. On this machine, that is {text}. They are "
        "stored in this folder, one document per line:"
    )
    report.code(str(pathlib.Path(text.shards[0]).parent))


def pretrain(report, text, directory, recipe):
    """Train a vocabulary and a mini-GPT, or load those that are finished.

    Returns:
        A `pretraining.PretrainedModel`, and a dict from the number of each
        epoch that was trained now to a text that the model wrote after it.
    """
    with report.working("Training a vocabulary, counting tokens") as work:
        after_epochs = _AfterEpochs(
            report, directory / "model", get_recipe(recipe).sequence_length
        )
        trained = pretrain_mini_gpt(
            recipe,
            text.shards,
            directory / "model",
            seed=SEED,
            callbacks=[StepsDone(work, "Training steps"), after_epochs],
            verbose=0,
        )
    last = trained.record["history"][-1]
    report.say(
        f"the next token is right {last['val_accuracy']:.1%} of the time; "
        f"perplexity {last['val_perplexity']:.1f}"
    )
    return trained, after_epochs.samples


class _AfterEpochs(keras.callbacks.Callback):
    """Says after each epoch what the model has learned, and has it write."""

    def __init__(self, report, directory, sequence_length):
        super().__init__()
        self.report, self.directory = report, directory
        self.max_length = min(SAMPLE_LENGTH, sequence_length)
        self.samples = {}

    def on_epoch_end(self, epoch, logs=None):
        if self.model.stop_training:
            return  # Ctrl-C: the epoch is not complete
        tokenizer = tokenizers.load_sentence_piece(
            self.directory / VOCABULARY_FILE
        )
        # Greedy search would write little more than spaces and line ends.
        text = compiled_generate(
            self.model,
            tokenizer,
            PROMPT,
            functools.partial(top_k, k=TOP_K),
            self.max_length,
            seed=SEED,
        )
        self.samples[epoch + 1] = " ".join(text.split())
        self.report.say(
            f"epoch {epoch + 1}: the next token is right "
            f"{logs['val_accuracy']:.1%} of the time; the model writes "
            f"“{self.samples[epoch + 1]}”"
        )


def write_pretraining(report, trained, samples, directory, recipe, machine):
    """Tell what the model learned, epoch by epoch.

    Args:
        report: `LiveReport`.
        trained: `PretrainedModel`.
        samples: dict from the number of an epoch to a text.
        directory: path of the tour.
        recipe: name of a recipe or a `Recipe`.
        machine: `Machine`.
    """
    record, numbers = trained.record, get_recipe(recipe)
    history = record["history"]
    steps = history[-1]["step"]
    tokens = steps * numbers.batch_size * numbers.sequence_length
    report.text(
        "First, the text is split into tokens. They come from a vocabulary "
        f"of {trained.tokenizer.vocabulary_size():,} pieces that was trained "
        "on this text: a frequent word is one piece, and a rare word takes "
        f"several. Then a mini-GPT with {record['parameters']:,} parameters "
        f"learned to predict the next token. It read {tokens:,} tokens in "
        f"{steps:,} steps. After each epoch, it was measured on held-out "
        "documents, which it never trains on."
    )
    _write_epochs(report, history, numbers, machine)
    _draw_epochs(report, history, numbers)
    if samples:
        report.subheading("What the model writes as it learns")
        report.table(
            ["epoch", f"after “{PROMPT}”"],
            sorted(samples.items()),
            f"Each token is drawn from the {TOP_K} most likely ones.",
        )
    if isinstance(recipe, str):
        report.text("This command trains the same model again:")
        report.code(
            pretrain_command(recipe, SEED, directory.resolve() / "again")
        )


def _write_epochs(report, history, numbers, machine):
    last = history[-1]["val_accuracy"]
    tokens = (
        numbers.validation_steps * numbers.batch_size * numbers.sequence_length
    )
    low, high = Share(round(last * tokens), tokens).interval()
    report.highlight(f"{last:.1%}", "of next tokens predicted by the mini-GPT")
    report.table(
        ["epoch", "loss", "accuracy", "perplexity", "tokens/s"],
        [
            (
                epoch["epoch"],
                f"{epoch['val_loss']:.3f}",
                f"{epoch['val_accuracy']:.1%}",
                f"{epoch['val_perplexity']:.1f}",
                f"{epoch['tokens_per_second']:,.0f}",
            )
            for epoch in history
        ],
        "Held-out loss in nats per token, accuracy and perplexity, on up to "
        f"{tokens:,} tokens. If tokens count as independent, the 95% interval "
        f"of the last accuracy is {low:.1%} to {high:.1%}. Training speed on "
        f"{machine}, without the first step of each epoch, in which the model "
        "is compiled.",
    )


def _draw_epochs(report, history, numbers):
    steps = history[-1]["step"]
    schedule, drawn = numbers.schedule(steps), 4 * numbers.warmup_steps
    after = "stays there"
    if numbers.decay:
        drawn, after = steps, "then falls to zero"
    figures = []
    for size, shape in (((10, 3.8), (1, 2)), ((4, 6), (2, 1))):
        figure = report.empty_figure(*size)
        axes = figure.subplots(*shape)
        plots.plot_history(history, ax=axes[0])
        plots.plot_schedule(schedule, drawn, ax=axes[1])
        figures.append(figure)
    first, last = history[0]["val_loss"], history[-1]["val_loss"]
    report.figure(
        figures[0],
        "The loss after each epoch, and the learning rate, which rises "
        f"during the first {numbers.warmup_steps} steps.",
        narrow=figures[1],
        alt=(
            f"Two line charts. The held-out loss goes from {first:.2f} after "
            f"the first epoch to {last:.2f} after the last. The learning rate "
            f"rises to {numbers.learning_rate:g} and {after}."
        ),
    )
