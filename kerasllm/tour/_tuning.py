"""Stage 5: a base model learns to answer, and to say that it does not know."""

import dataclasses
import statistics
import time

import keras

from kerasllm import files
from kerasllm.evaluation import Share, ask_all, exact_share, refused_share
from kerasllm.gemma import Gemma
from kerasllm.lora import SUFFIX, LoraReport
from kerasllm.progress import quiet
from kerasllm.tiny_gemma import TinyRecipe
from kerasllm.tour._commands import ask_command
from kerasllm.tour._progress import StepsDone
from kerasllm.toyworld import REFUSAL

SEED = 0
BATCH_SIZE = 16
# Every fifth question about the small world, 120 of 600. A name has two or
# four questions in a row, of which an even step would always take the same.
# Both batches of 64 are then nearly full, and one size is compiled.
QUESTION_STEP = 5
# A question with its answer and all delimiters, in tokens. The longest example
# has 47. One size for all is compiled once for each model.
MAX_LENGTH = 48
RANK = 8
LORA_TUNING = {"epochs": 6, "learning_rate": 6e-3, "falls": True}
FULL_TUNING = {"epochs": 4, "learning_rate": 5e-4}
CAREFUL_TUNING = {"epochs": 3, "learning_rate": 6e-3, "falls": True}
NUM_REFUSALS = 600


@dataclasses.dataclass(frozen=True)
class Run:
    """A tuning run.

    Attributes:
        epochs: int.
        seconds: float, compiling included.
        tokens_per_second: float, the median over the epochs after the first,
            in which each length is compiled.
    """

    epochs: int
    seconds: float
    tokens_per_second: float


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What stage 5 measured.

    Attributes:
        num_examples: int. Requests about one half of the facts.
        lora_run: `Run` of the adapters.
        full_run: `Run` of all weights.
        sizes: `LoraReport`.
        exact: dict of `Share`: exact answers about the other half of the
            facts, `"before"` tuning, after `"lora"`, after `"full"`, and
            after `"refusals"`.
        made_up: `Share` of questions about names that do not exist that got
            a fact, before there were refusals.
        refused: dict of `Share`, after refusals: of questions about
            `"unknown"` names and about `"known"` ones.
        samples: list of `Sample`.
        adapters: dict from `"lora"` and `"refusals"` to the path of a file.
    """

    num_examples: int
    lora_run: Run
    full_run: Run
    sizes: LoraReport
    exact: dict
    made_up: Share
    refused: dict
    samples: list
    adapters: dict


@dataclasses.dataclass(frozen=True)
class Sample:
    """A question, what a model answered, and the command that asks it."""

    title: str
    answer: str
    command: str
    note: str


def measure_tuning(report, directory):
    """Tune the base model with adapters and in full: a `Tuning`.

    Args:
        report: `LiveReport`.
        directory: path of the tour. Gets the adapters.
    """
    world = TinyRecipe().world()
    examples = world.instructions()
    known = world.questions("untaught")[::QUESTION_STEP]
    unknown = world.questions("unknown")[::QUESTION_STEP]
    # The adapters begin at random. Seed before there is a tokenizer: seeding
    # TensorFlow clears its kernels, and the vocabularies in them. The
    # vocabulary of the mini-GPT has been used for the last time.
    keras.utils.set_random_seed(SEED)

    with quiet():  # TensorFlow Text writes a line that no log level stops
        full = Gemma.from_preset("tiny")
    before = _ask(report, full, known, "the base model")
    full_run = _tune(report, full, examples, "all weights", **FULL_TUNING)
    after_full = _ask(report, full, known, "the model tuned in full")

    with quiet():
        gemma = Gemma.from_preset("tiny")
    sizes = gemma.enable_lora(rank=RANK, targets="attention")
    lora_run = _tune(report, gemma, examples, "the adapters", **LORA_TUNING)
    adapters = {"lora": _save(gemma, directory, "answers")}
    after_lora = _ask(report, gemma, known, "the model with adapters")
    invented = _ask(report, gemma, unknown, "it about names that do not exist")

    examples_with_refusals = examples + world.refusals(NUM_REFUSALS)
    _tune(report, gemma, examples_with_refusals, "refusals", **CAREFUL_TUNING)
    adapters["refusals"] = _save(gemma, directory, "refusals")
    careful = _ask(report, gemma, known, "it about names that exist")
    refused = _ask(report, gemma, unknown, "it about names that do not exist")
    return Tuning(
        num_examples=len(examples),
        lora_run=lora_run,
        full_run=full_run,
        sizes=sizes,
        exact={
            "before": exact_share(before, known),
            "lora": exact_share(after_lora, known),
            "full": exact_share(after_full, known),
            "refusals": exact_share(careful, known),
        },
        made_up=_made_up_share(invented),
        refused={
            "unknown": refused_share(refused),
            "known": refused_share(careful),
        },
        samples=_samples(
            known[0],
            unknown[0],
            [before[0], after_lora[0], invented[0], refused[0]],
            adapters,
        ),
        adapters=adapters,
    )


def _ask(report, gemma, questions, whom):
    """Ask all questions; return the answers."""
    with report.working(f"Asking {whom} {len(questions)} questions"):
        return ask_all(gemma, questions, max_length=MAX_LENGTH)


def _tune(report, gemma, examples, what, epochs, learning_rate, falls=False):
    """Fine-tune, at a rate that may fall to zero; return the `Run`."""
    if falls:
        learning_rate = keras.optimizers.schedules.PolynomialDecay(
            learning_rate, epochs * len(examples) // BATCH_SIZE, 0.0
        )
    start = time.perf_counter()
    with report.working(f"Tuning {what}") as work:
        history = gemma.finetune(
            examples,
            epochs=epochs,
            batch_size=BATCH_SIZE,
            learning_rate=learning_rate,
            sequence_length=MAX_LENGTH,
            buckets=False,
            seed=SEED,
            callbacks=[StepsDone(work, f"Tuning {what}, steps")],
            verbose=0,
        )
    seconds = time.perf_counter() - start
    speeds = [epoch["tokens_per_second"] for epoch in history]
    run = Run(epochs, seconds, statistics.median(speeds[1:] or speeds))
    report.say(
        f"tuned {what}: {epochs} epochs in {seconds:.0f} s, "
        f"{run.tokens_per_second:,.0f} tokens/s"
    )
    return run


def _save(gemma, directory, name):
    """Write the adapters to a file; return its path."""
    folder = directory.resolve() / "adapters"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}{SUFFIX}"
    gemma.save_lora(path)
    files.remember(path)
    return path


def _made_up_share(answers):
    """Return the share of answers that tell a fact."""
    return Share.of(a.startswith(("It ", "She ", "He ")) for a in answers)


def _samples(known, unknown, answers, adapters):
    """Return a `Sample` of each model's answer to one question."""
    models = [
        ("Before tuning", known, None),
        ("After tuning", known, "lora"),
        ("After tuning: a name that does not exist", unknown, "lora"),
        ("After refusals: the same name", unknown, "refusals"),
    ]
    return [
        Sample(
            title,
            answer,
            ask_command(
                question.text,
                "tiny",
                adapters=adapters.get(name),
                max_length=MAX_LENGTH,
            ),
            _judged(question, answer),
        )
        for (title, question, name), answer in zip(models, answers, strict=True)
    ]


def _judged(question, answer):
    """Say what was asked, and whether the answer is right."""
    if answer == question.answer:
        return f"“{question.text}” This answer is right."
    return f"“{question.text}” The right answer: “{question.answer}”"


def write_tuning(report, tuning, machine):
    """Tell what tuning did, in words, charts and a table.

    Args:
        report: `LiveReport`.
        tuning: `Tuning`.
        machine: `Machine`.
    """
    _say(report, tuning)
    report.text(
        "A pretrained model continues text. To answer questions, it has to "
        "be tuned. For this part, we use a tiny Gemma 3 that comes with the "
        "package. In pretraining, it has read about an invented world of "
        "towns, people, creatures, and dishes. Nobody else has written about "
        "this world, so we can check what the model knows and where it "
        "learned it."
    )
    report.text(
        f"We tune it on {tuning.num_examples} requests with answers, about "
        "one half of the facts. Then we ask about the other half, which no "
        "request mentions. The model can answer these questions only with "
        "what it read in pretraining. Tuning adds no facts here; it teaches "
        "the model to answer."
    )
    exact = tuning.exact
    report.shares(
        "Exact answers about facts that no request mentions",
        {
            "before tuning": exact["before"],
            "after tuning adapters (LoRA)": exact["lora"],
            "after tuning all weights": exact["full"],
        },
    )
    report.highlight(
        f"{exact['lora']:.1%}",
        "of questions answered exactly after tuning adapters "
        f"({exact['before']:.1%} before)",
    )
    _write_comparison(report, tuning, machine)
    _write_refusals(report, tuning)
    report.subheading("One question at a time")
    report.text(
        "The command in each card asks the same model the same question. "
        "Leave out the part before the bar, |, to ask questions of your own."
    )
    for sample in tuning.samples:
        report.sample(
            sample.title,
            sample.answer or "(an empty answer)",
            sample.command,
            sample.note,
        )


def _say(report, tuning):
    """Print the main figures."""
    for what, share in (
        ("facts that no request mentions, before", tuning.exact["before"]),
        ("after tuning adapters", tuning.exact["lora"]),
        ("after tuning all weights", tuning.exact["full"]),
        ("names that do not exist: a fact, made up", tuning.made_up),
        ("after refusals: refused", tuning.refused["unknown"]),
        ("names that exist: refused", tuning.refused["known"]),
    ):
        report.say(f"{what}: {share:.1%}")


def _write_comparison(report, tuning, machine):
    sizes, lora, full = tuning.sizes, tuning.lora_run, tuning.full_run
    report.subheading("Adapters or all weights?")
    report.text(
        "Low-rank adaptation (LoRA) freezes the model and trains two small "
        f"matrices of rank {RANK} beside each attention projection. Together "
        f"they have {sizes.trainable_share:.1%} as many weights as the model. "
        "Adam keeps two numbers for each weight that it trains, so its memory "
        "shrinks by the same factor. This is why a large model can often be "
        "tuned on a GPU that could not train all of its weights."
    )
    report.highlight(
        f"{sizes.trainable_share:.1%}",
        "as many weights trained with adapters as with full fine-tuning",
    )
    report.table(
        ["", "adapters", "all weights"],
        [
            (
                "trained weights",
                f"{sizes.trainable_parameters:,}",
                f"{sizes.total_parameters:,}",
            ),
            (
                "Adam's memory",
                f"{sizes.optimizer_bytes / 1e6:.2f} MB",
                f"{sizes.full_optimizer_bytes / 1e6:.2f} MB",
            ),
            ("epochs", lora.epochs, full.epochs),
            ("time", f"{lora.seconds:.0f} s", f"{full.seconds:.0f} s"),
            (
                "tokens/s",
                f"{lora.tokens_per_second:,.0f}",
                f"{full.tokens_per_second:,.0f}",
            ),
        ],
        f"On {machine}. The time includes compiling, and the speed does not.",
    )


def _write_refusals(report, tuning):
    report.subheading("Knowing what it does not know")
    report.text(
        "Every request had an answer, so the model has learned to answer "
        "every question. Ask it about a name that does not exist, and it "
        "makes up a fact: it hallucinates. To change this, we tune the "
        f"adapters further and add {NUM_REFUSALS} requests. Each asks about a "
        f"name that does not exist, and each is answered with “{REFUSAL}” The "
        "questions below are about other names, which no request mentions."
    )
    report.shares(
        "Questions about names that do not exist",
        {
            "made up a fact, before refusals": tuning.made_up,
            "refused, after refusals": tuning.refused["unknown"],
        },
    )
    report.text(
        "A model that has learned to refuse may also refuse questions that it "
        "could answer, so we check this, too."
    )
    report.shares(
        "Questions about names that exist",
        {
            "refused, after refusals": tuning.refused["known"],
            "exact answers, before refusals": tuning.exact["lora"],
            "exact answers, after refusals": tuning.exact["refusals"],
        },
    )
    report.highlight(
        f"{tuning.refused['unknown']:.1%}",
        "of questions about names that do not exist refused, after tuning on "
        "refusals",
    )
