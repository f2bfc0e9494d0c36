"""The main job: the whole life of a small language model, and a report.

`run` collects text, trains a vocabulary and a mini-GPT, writes with every
sampling strategy, tunes a tiny Gemma on instructions, asks it about a world
that it knows and about pictures, and sets down what it saw in one page,
`report.html`, with commands to see it again.
"""

import pathlib
import platform
import shlex
import statistics
import time
from importlib import metadata

import keras
import numpy as np
from keras import ops
from rich.console import Console

from kerasllm import backend, corpora, files, plots
from kerasllm.gemma import Gemma
from kerasllm.images import IMAGE_MARK
from kerasllm.metrics import repeated_ngrams
from kerasllm.models import get_recipe
from kerasllm.pretraining import pretrain_mini_gpt
from kerasllm.report import Report
from kerasllm.samplers import chain
from kerasllm.schedules import WarmupSchedule
from kerasllm.tiny_gemma import (
    SEQUENCE_LENGTH,
    TEST_SEED,
    TinyRecipe,
    ask_all,
    exact_share,
    unseen_pictures,
)
from kerasllm.toyworld import REFUSAL

PROMPT = "Return a new"
MAX_LENGTH = 100
SEED = 0  # of the training
SEEDS = (0, 1, 2)  # of the writing
# Every seventh question about the small world: a name has two or four in a row,
# of which an even step would always take the same.
QUESTION_STEP = 7
LORA_TUNING = {"epochs": 9, "learning_rate": 6e-3, "falls": True}
FULL_TUNING = {"epochs": 6, "learning_rate": 5e-4}
CAREFUL_TUNING = {"epochs": 5, "learning_rate": 6e-3, "falls": True}
NUM_REFUSALS = 900
# Names and arguments of `chain`, which are also options of the command line.
STRATEGIES = {
    "greedy": {"temperature": 0.0},
    "random": {"temperature": 1.0},
    "temperature 0.2": {"temperature": 0.2},
    "temperature 2": {"temperature": 2.0},
    "top-k 5": {"top_k": 5},
    "top-k 20": {"top_k": 20},
    "top-p 0.9": {"top_p": 0.9},
    "min-p 0.1": {"min_p": 0.1},
    "top-k 20 with penalties": {
        "top_k": 20,
        "frequency_penalty": 0.3,
        "presence_penalty": 0.3,
    },
}


def run(output_directory="kerasllm-tour", recipe="laptop", verbose="auto"):
    """Train, write, measure and report.

    Args:
        output_directory: str or path. Gets `report.html` and, in `model/`,
            the trained model. A tour that was interrupted goes on where it
            was; one that is finished is written up again.
        recipe: name of a recipe or a `models.Recipe`.
        verbose: as for Keras's `fit`.

    Returns:
        `pathlib.Path` of the report.

    Raises:
        OSError: the directory cannot be written to.
        TrainingInterrupted: Ctrl-C during training; the state is saved.
    """
    console = Console(highlight=False)
    directory = pathlib.Path(output_directory)
    directory.mkdir(parents=True, exist_ok=True)
    report = Report("A tour of kerasllm")
    started = time.perf_counter()

    def stage(title):
        minutes, seconds = divmod(int(time.perf_counter() - started), 60)
        console.print(f"[bold]{minutes:02}:{seconds:02}  {title}[/]")
        report.heading(title)

    stage("The machine")
    report.table(["what", "which"], _machine())

    stage("1. Text")
    shards = corpora.local_docs()
    documents, characters = _count(shards)
    summary = (
        f"{documents:,} documents, {characters / 1e6:.1f} million characters "
        f"in {len(shards)} shards"
    )
    console.print(f"  {summary}")
    report.text(
        f"The documentation that this installation carries: {summary}, in "
        f"{pathlib.Path(shards[0]).parent}. Every document is a line."
    )

    stage("2. Words and pretraining")
    trained = pretrain_mini_gpt(
        recipe,
        shards,
        directory / "model",
        seed=SEED,
        sample_prompt=PROMPT,
        verbose=verbose,
    )
    _report_training(
        report,
        trained,
        get_recipe(recipe),
        f"kerasllm pretrain --recipe {recipe} --seed {SEED} "
        f"--out {shlex.quote(str(directory / 'again'))}",
    )
    last = trained.record["history"][-1]
    console.print(
        f"  the next token is right {last['val_accuracy']:.1%} of the time; "
        f"perplexity {last['val_perplexity']:.1f}"
    )

    stage("3. Choosing the next token")
    _report_distribution(report, trained)

    stage("4. Writing")
    _report_writing(
        report,
        trained,
        console,
        f"kerasllm tour --recipe {recipe} --out again",
    )

    stage("5. Instructions and adapters")
    _report_tuning(report, console)

    stage("6. Pictures")
    _report_pictures(report, console)

    path = directory / "report.html"
    with files.whole_file(path) as file:
        file.write(report.page())
    stage(f"Done: {path}")
    return path


def _machine():
    versions = (
        f"{package} {metadata.version(package)}"
        for package in ("kerasllm", "keras", "keras-hub", backend.name())
    )
    return [
        (
            "software",
            f"Python {platform.python_version()}, {', '.join(versions)}",
        ),
        ("backend", backend.name()),
        ("device", backend.device_name()),
        ("precision", backend.best_dtype_policy()),
        ("the same again", "kerasllm info"),
    ]


def _count(shards):
    documents = characters = 0
    for path in shards:
        with open(path, encoding="utf-8") as file:
            for line in file:
                documents += 1
                characters += len(line) - 1
    return documents, characters


def _report_training(report, trained, recipe, command):
    record = trained.record
    history = record["history"]
    steps = history[-1]["step"]
    tokens = steps * recipe.batch_size * recipe.sequence_length
    report.text(
        f"A vocabulary of {trained.tokenizer.vocabulary_size():,} pieces and a "
        f"mini-GPT of {record['parameters']:,} parameters, which read "
        f"{tokens:,} tokens in {steps:,} steps on {record['backend']} "
        f"({record['device']}, {record['dtype']})."
    )
    report.table(
        ["epoch", "loss", "accuracy", "perplexity", "tokens/s"],
        [
            (
                row["epoch"],
                f"{row['val_loss']:.3f}",
                f"{row['val_accuracy']:.1%}",
                f"{row['val_perplexity']:.1f}",
                f"{row['tokens_per_second']:,.0f}",
            )
            for row in history
        ],
    )
    report.text("Measured on documents that training never sees; again with")
    report.code(command)
    figure, axes = report.new_figure(width=10, columns=2)
    plots.plot_history(history, ax=axes[0])
    schedule = WarmupSchedule(recipe.learning_rate, recipe.warmup_steps)
    plots.plot_schedule(schedule, 4 * recipe.warmup_steps, ax=axes[1])
    report.figure(
        figure,
        "The loss after each epoch, and the learning rate with its warmup.",
    )


def _report_distribution(report, trained):
    """Show the strategies on what the model says after the prompt."""
    tokenizer = trained.tokenizer
    token_ids = ops.convert_to_numpy(tokenizer(PROMPT))
    logits = trained.model.predict(token_ids[None], verbose=0)[0, -1]
    pieces = [tokenizer.id_to_token(i) for i in range(len(logits))]
    axes = plots.plot_sampling_strategies(logits, pieces)
    report.figure(
        np.ravel(axes)[0].figure,
        f"What each strategy leaves of the model's distribution after "
        f"“{PROMPT}”: the likeliest tokens and their probabilities.",
    )


def _report_writing(report, trained, console, command):
    tokenizer = trained.tokenizer
    max_length = min(
        MAX_LENGTH, trained.model.get_layer("embedding").sequence_length
    )
    rows = []
    generator = trained.generator()
    report.text(
        f"Each strategy continues “{PROMPT}” to {max_length} tokens with "
        f"the seeds {', '.join(map(str, SEEDS))}. Shown is the first text; "
        "the share of repeated 4-grams and the speed are means of all."
    )
    for title, arguments in STRATEGIES.items():
        texts, seconds = [], 0.0
        for seed in SEEDS:
            start = time.perf_counter()
            texts.append(
                generator.generate(
                    PROMPT, max_length, seed=seed, sampler=chain(**arguments)
                )
            )
            seconds += time.perf_counter() - start
        tokens = [list(map(int, tokenizer(text))) for text in texts]
        new = sum(map(len, tokens)) - len(texts) * len(tokenizer(PROMPT))
        repeated = statistics.mean(map(repeated_ngrams, tokens))
        options = " ".join(
            f"--{key.replace('_', '-')} {value}"
            for key, value in arguments.items()
        )
        rows.append((title, f"{repeated:.0%}", f"{new / seconds:.0f}"))
        console.print(f"  [bold]{title}[/] ({repeated:.0%} repeated)")
        console.print(f"    {texts[0]!r}", markup=False)
        report.sample(
            title,
            texts[0],
            f"kerasllm generate --model {shlex.quote(str(trained.directory))} "
            f"{shlex.quote(PROMPT)} {options} --max-length {max_length} "
            f"--seed {SEEDS[0]}",
        )
    report.table(["strategy", "repeated 4-grams", "tokens/s"], rows)
    report.text(
        "The speed of the first strategy includes compiling the model, that "
        "of each other one compiling its sampler. All of this page again with"
    )
    report.code(command)


def _report_tuning(report, console):
    """Tune the base model by adapters and wholly; measure before and after."""
    world = TinyRecipe().world()
    rows = world.instructions()
    questions = world.questions("untaught")[::QUESTION_STEP]
    unknown = world.questions("unknown")[::QUESTION_STEP]
    # The adapters begin at random. Before there is a tokenizer: seeding
    # TensorFlow clears its kernels, and the vocabularies in them; that of the
    # mini-GPT has been used for the last time.
    keras.utils.set_random_seed(SEED)
    gemma = Gemma.from_preset("tiny")
    before = exact_share(ask_all(gemma, questions), questions)
    lora = gemma.enable_lora(rank=8, targets="attention")
    seconds = _tune(gemma, rows, **LORA_TUNING)
    answers = ask_all(gemma, questions)
    share = exact_share(answers, questions)
    invented = ask_all(gemma, unknown)

    full = Gemma.from_preset("tiny")
    full_seconds = _tune(full, rows, **FULL_TUNING)
    full_share = exact_share(ask_all(full, questions), questions)

    rows = rows + world.refusals(NUM_REFUSALS)
    _tune(gemma, rows, **CAREFUL_TUNING)
    careful = ask_all(gemma, questions)
    careful_share = exact_share(careful, questions)
    refused = ask_all(gemma, unknown)

    figures = [
        ("facts that no request mentions, before", f"{before:.1%} exact"),
        (f"after {seconds:.0f} s with adapters of rank 8", f"{share:.1%}"),
        (f"after {full_seconds:.0f} s with all weights", f"{full_share:.1%}"),
        (
            "trained, adapters against all weights",
            f"{lora.trainable_share:.2%} of {lora.total_parameters:,}",
        ),
        (
            "Adam's memory, adapters against all weights",
            f"{lora.optimizer_bytes:,} of {lora.full_optimizer_bytes:,} bytes",
        ),
        (
            "names that mean nothing: a fact, made up",
            f"{_made_up(invented):.1%}",
        ),
        (
            f"refused after {NUM_REFUSALS} examples of “{REFUSAL}”",
            f"{_refused(refused):.1%}",
        ),
        ("and names that exist: refused", f"{_refused(careful):.1%}"),
        ("their facts after that", f"{careful_share:.1%} exact"),
    ]
    for name, figure in figures:
        console.print(f"  {name}: {figure}")
    report.text(
        "A tiny Gemma 3 that has read about a small invented world is tuned "
        "on requests about one half of its facts and asked about the other "
        "half. Names that mean nothing it answers as well, until examples "
        "teach it to say that it does not know."
    )
    report.table(["what", "figure"], figures)
    for question, text in (
        (questions[0], answers[0]),
        (unknown[0], invented[0]),
        (unknown[0], refused[0]),
    ):
        report.sample(
            question.text,
            text,
            "kerasllm tour",
        )


def _tune(gemma, rows, epochs, learning_rate, falls=False):
    """Fine-tune, at a rate that may fall to zero; return the seconds."""
    batch_size = 16
    if falls:
        learning_rate = keras.optimizers.schedules.PolynomialDecay(
            learning_rate, epochs * len(rows) // batch_size, 0.0
        )
    start = time.perf_counter()
    gemma.finetune(
        rows,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        sequence_length=SEQUENCE_LENGTH,
        seed=SEED,
        verbose=0,
    )
    return time.perf_counter() - start


def _made_up(answers):
    facts = [a for a in answers if a.startswith(("It ", "She ", "He "))]
    return len(facts) / len(answers)


def _refused(answers):
    return sum(answer == REFUSAL for answer in answers) / len(answers)


def _report_pictures(report, console):
    """Ask the instruction model about pictures."""
    gemma = Gemma.from_preset("tiny_instruct")
    rows = []
    shown = unseen_pictures(60, TEST_SEED + 7)
    others = shown[1:] + shown[:1]
    for number in range(3):
        questions = [picture.questions()[number] for picture in shown]
        kind = questions[0].kind
        for which, seen in (
            ("with the picture", shown),
            ("without", None),
            ("with another", others),
        ):
            share = exact_share(ask_all(gemma, questions, seen), questions)
            rows.append((f"{kind} of what is shown, {which}", f"{share:.1%}"))
    for name, figure in rows:
        console.print(f"  {name}: {figure}")
    report.text(
        "The instruction model that comes with the package, asked about "
        "pictures that it has never seen."
    )
    report.table(["what", "share"], rows)
    figure, _ = report.new_figure(width=10, columns=1)
    figure.clear()
    plots.plot_pictures(
        [picture.image for picture in shown[:5]],
        [
            gemma.ask(IMAGE_MARK + picture.questions()[0].text, [picture.image])
            for picture in shown[:5]
        ],
        figure=figure,
    )
    report.figure(figure, "Pictures, and the colour that the model answers.")
    report.text("All its scores, from more questions and pictures, with")
    report.code("python -m kerasllm.tiny_gemma --measure")
