"""Stages 1 and 2: text, a vocabulary, and a mini-GPT that reads them."""

import pathlib
import shlex

from kerasllm import corpora, plots
from kerasllm.pretraining import pretrain_mini_gpt
from kerasllm.recipes import get_recipe
from kerasllm.schedules import WarmupSchedule

PROMPT = "Return a new"  # continued after each epoch, and by each strategy
SEED = 0


def collect_text(report):
    """Collect the documentation of the installed packages.

    Returns:
        List of str, the paths of its shards.
    """
    shards = corpora.local_docs()
    documents, characters = _count(shards)
    summary = (
        f"{documents:,} documents, {characters / 1e6:.1f} million characters "
        f"in {len(shards)} shards"
    )
    report.say(summary)
    report.text(
        f"The documentation that this installation carries: {summary}, in "
        f"{pathlib.Path(shards[0]).parent}. Every document is a line."
    )
    return shards


def _count(shards):
    """Return the number of documents and of characters: two ints."""
    documents = characters = 0
    for path in shards:
        with open(path, encoding="utf-8") as file:
            for line in file:
                documents += 1
                characters += len(line) - 1
    return documents, characters


def pretrain(report, shards, directory, recipe, verbose):
    """Train a vocabulary and a mini-GPT, or load those that are finished.

    Returns:
        A `pretraining.PretrainedModel`.
    """
    trained = pretrain_mini_gpt(
        recipe,
        shards,
        directory / "model",
        seed=SEED,
        sample_prompt=PROMPT,
        verbose=verbose,
    )
    _report_size(report, trained, get_recipe(recipe))
    _report_epochs(report, trained.record["history"])
    again = shlex.quote(str(directory / "again"))
    report.text("Measured on held-out documents; again with")
    report.code(
        f"kerasllm pretrain --recipe {recipe} --seed {SEED} --out {again}"
    )
    _draw_epochs(report, trained.record["history"], get_recipe(recipe))
    last = trained.record["history"][-1]
    report.say(
        f"the next token is right {last['val_accuracy']:.1%} of the time; "
        f"perplexity {last['val_perplexity']:.1f}"
    )
    return trained


def _report_size(report, trained, recipe):
    record = trained.record
    steps = record["history"][-1]["step"]
    tokens = steps * recipe.batch_size * recipe.sequence_length
    report.text(
        f"A vocabulary of {trained.tokenizer.vocabulary_size():,} pieces and a "
        f"mini-GPT of {record['parameters']:,} parameters, which read "
        f"{tokens:,} tokens in {steps:,} steps on {record['backend']} "
        f"({record['device']}, {record['dtype']})."
    )


def _report_epochs(report, history):
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
    )


def _draw_epochs(report, history, recipe):
    figure, axes = report.new_figure(width=10, columns=2)
    plots.plot_history(history, ax=axes[0])
    schedule = WarmupSchedule(recipe.learning_rate, recipe.warmup_steps)
    plots.plot_schedule(schedule, 4 * recipe.warmup_steps, ax=axes[1])
    report.figure(
        figure,
        "The loss after each epoch, and the learning rate with its warmup.",
    )
