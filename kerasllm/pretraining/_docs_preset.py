"""The preset `mini_gpt_docs`: a mini-GPT that has read documentation.

It is what chapters 2 and 3 sample from. `python -m kerasllm.pretraining` trains
it on `local_docs()`, writes it in float16 and measures what it wrote.
"""

import argparse
import json
import math
import pathlib
import platform

import keras

from kerasllm import backend, corpora, files, pipeline
from kerasllm.models import MiniGPTBackbone, MiniGPTCausalLM
from kerasllm.pretraining._mini_gpt import pretrain_mini_gpt
from kerasllm.recipes import Recipe

NAME = "mini_gpt_docs"
CARD_FILE = "card.json"
README_FILE = "README.md"
SEED = 0
DTYPE = "float32"
# Between two and three passes over the text, in about an hour and a half on two
# cores.
DOCS = Recipe(
    vocabulary_size=4096,
    sequence_length=128,
    hidden_dim=192,
    intermediate_dim=768,
    num_heads=4,
    num_layers=3,
    dropout=0.0,
    batch_size=16,
    learning_rate=2e-3,
    warmup_steps=200,
    epochs=24,
    steps_per_epoch=300,
    validation_fraction=0.02,
    validation_steps=20,
    decay=True,
)
# The licenses of the packages whose docstrings are read.
LICENSES = {
    "Python's standard library and help topics": "PSF-2.0",
    "jax, keras, keras_hub, tensorflow, tensorflow_datasets": "Apache-2.0",
    "matplotlib": "matplotlib's own, based on the PSF's",
    "numpy": "BSD-3-Clause",
    "rich, typer": "MIT",
}
README = """\
# {name}

A mini-GPT of {parameters:,} parameters that has read the documentation of
Python and of the packages that `kerasllm` depends on. Chapters 2 and 3 sample
from it. It was made by

    KERAS_BACKEND={backend} python -m kerasllm.pretraining --out assets

on this machine: {machine}. If the run is interrupted, the same command resumes
it. The weights are stored in float16. `card.json` has the numbers of each
epoch.

## Data

`kerasllm.corpora.local_docs()`: the docstrings and help topics that *this*
installation carried, {documents:,} documents. Another installation carries
others. About {fraction:.0%} of the documents, chosen by the hash of their
text, were held out.

| package | version |
|---|---|
{versions}

The text belongs to its authors and is not part of this folder. It comes with
these licenses, all of which permit copying and derived works:

{licenses}

The vocabulary and the weights are statistics of this text. Like the rest of
the repository, they are under the Apache License 2.0.

## Training

{epochs} x {steps_per_epoch} = {steps:,} steps of {batch_size} sequences of
{sequence_length} tokens, {tokens:,} tokens in all, in {dtype} on {backend},
seed {seed}. The learning rate rises to {learning_rate:g} in {warmup_steps}
steps and then falls to zero along a cosine. The model has {num_layers} blocks
of width {hidden_dim} with {num_heads} heads, and a vocabulary of
{vocabulary_size:,} SentencePiece tokens.

## Measured on what was written

All {held_out:,} tokens of the held-out documents, in float32:

| loss (nats per token) | perplexity | next token right |
|---|---|---|
| {loss:.3f} | {perplexity:.1f} | {accuracy:.1%} |

The training loss in the last epoch was {train_loss:.3f}.

## Limits

It continues text in the manner of Python documentation, up to
{sequence_length} tokens, and in no other. What it says about functions and
arguments is made up. It was not taught to answer. The documents of two similar
functions may resemble each other, and one of them may be held out while the
other was trained on. So the numbers are better than they would be on the
documentation of other packages. Use the model to study language models, and
for nothing else.
"""


def train(recipe=DOCS, shards=None, directory=None, verbose="auto"):
    """Train the model of the preset, or resume where this was interrupted.

    Args:
        recipe: `Recipe`.
        shards: list of shard paths. Defaults to `local_docs()`.
        directory: str or path, for checkpoints. Defaults to a folder in the
            cache.
        verbose: as for `fit`.

    Returns:
        A `PretrainedModel`.
    """
    return pretrain_mini_gpt(
        recipe, shards, directory, seed=SEED, dtype=DTYPE, verbose=verbose
    )


def write_preset(trained, folder, shards):
    """Write a trained mini-GPT in float16, and measure what was written.

    Args:
        trained: a `PretrainedModel`.
        folder: str or path of the preset. An existing one is replaced.
        shards: list of shard paths, whose held-out documents it is measured
            on.

    Returns:
        dict, the card.
    """
    causal_lm = trained.causal_lm()
    half = MiniGPTBackbone(**causal_lm.backbone._sizes, dtype="float16")
    half.set_weights(causal_lm.backbone.get_weights())
    with files.whole_folder(folder) as temporary:
        MiniGPTCausalLM(half, causal_lm.preprocessor).save_to_preset(temporary)
        card = {
            key: trained.record[key]
            for key in ("recipe", "seed", "backend", "dtype", "parameters")
        }
        card |= {
            "corpus": _describe_corpus(shards),
            "machine": f"{trained.record['device']}, {platform.system()}",
            "history": trained.record["history"],
            "scores": measure(temporary, shards, trained.record["recipe"]),
        }
        text = json.dumps(card, indent=2) + "\n"
        (temporary / CARD_FILE).write_text(text, encoding="utf-8")
        (temporary / README_FILE).write_text(readme(card), encoding="utf-8")
    return card


def _describe_corpus(shards):
    """Return what identifies the corpus: versions, documents, SHA-256s."""
    path = pathlib.Path(shards[0]).parent / corpora.FINGERPRINT
    return json.loads(path.read_text(encoding="utf-8"))


def measure(folder, shards, recipe):
    """Score a preset on all held-out documents.

    Args:
        folder: str or path of the preset.
        shards: list of shard paths.
        recipe: dict with `sequence_length`, `batch_size` and
            `validation_fraction`.

    Returns:
        dict: `tokens` that were predicted, and their mean `loss` in nats,
        `perplexity` and `accuracy`.
    """
    causal_lm = MiniGPTCausalLM.from_preset(str(folder), dtype="float32")
    dataset = pipeline.pretraining_dataset(
        shards,
        causal_lm.preprocessor.tokenizer,
        recipe["sequence_length"],
        recipe["batch_size"],
        split="validation",
        validation_fraction=recipe["validation_fraction"],
    )
    model = causal_lm.to_mini_gpt()
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
    )
    scores = model.evaluate(dataset, verbose=0, return_dict=True)
    return {
        "tokens": sum(y.shape[0] * y.shape[1] for _, y in dataset),
        "loss": scores["loss"],
        "perplexity": math.exp(scores["loss"]),
        "accuracy": scores["accuracy"],
    }


def readme(card):
    """Return the text of a card for people to read."""
    recipe, scores = card["recipe"], card["scores"]
    steps = recipe["epochs"] * recipe["steps_per_epoch"]
    per_step = recipe["batch_size"] * recipe["sequence_length"]
    facts = card["corpus"]["facts"]
    return README.format(
        **recipe,
        name=NAME,
        parameters=card["parameters"],
        backend=card["backend"],
        dtype=card["dtype"],
        seed=card["seed"],
        machine=card["machine"],
        documents=card["corpus"]["documents"],
        fraction=recipe["validation_fraction"],
        licenses="\n".join(f"- {k}: {v}" for k, v in LICENSES.items()),
        versions="\n".join(
            f"| {name} | {version} |"
            for name, version in facts.items()
            if name != "recipe"
        ),
        steps=steps,
        tokens=steps * per_step,
        held_out=scores["tokens"],
        loss=scores["loss"],
        perplexity=scores["perplexity"],
        accuracy=scores["accuracy"],
        train_loss=card["history"][-1]["loss"],
    )


def main(arguments=None):
    """Train the preset and write it with its card.

    Args:
        arguments: list of str. Defaults to those of the command line.
    """
    parser = argparse.ArgumentParser(
        "python -m kerasllm.pretraining",
        description=f"Train the preset {NAME} on the local documentation.",
    )
    parser.add_argument("--out", type=pathlib.Path, default=files.assets_dir())
    parser.add_argument(
        "--run", type=pathlib.Path, help="folder for checkpoints"
    )
    options = parser.parse_args(arguments)
    backend.set_up()
    shards = corpora.local_docs()
    trained = train(shards=shards, directory=options.run, verbose=2)
    card = write_preset(trained, options.out / NAME, shards)
    print(json.dumps(card["scores"], indent=2))
