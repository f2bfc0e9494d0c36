"""Stage 5: a base model learns to answer, and to say that it does not know."""

import time

import keras

from kerasllm.evaluation import Share, ask_all, exact_share, refused_share
from kerasllm.gemma import Gemma
from kerasllm.tiny_gemma import SEQUENCE_LENGTH, TinyRecipe
from kerasllm.toyworld import REFUSAL

SEED = 0
BATCH_SIZE = 16
# Every seventh question about the small world. A name has two or four
# questions in a row, of which an even step would always take the same.
QUESTION_STEP = 7
LORA_TUNING = {"epochs": 9, "learning_rate": 6e-3, "falls": True}
FULL_TUNING = {"epochs": 6, "learning_rate": 5e-4}
CAREFUL_TUNING = {"epochs": 5, "learning_rate": 6e-3, "falls": True}
NUM_REFUSALS = 900


def report_tuning(report):
    """Tune the base model with adapters and in full; measure both."""
    world = TinyRecipe().world()
    examples = world.instructions()
    questions = world.questions("untaught")[::QUESTION_STEP]
    unknown = world.questions("unknown")[::QUESTION_STEP]
    # The adapters begin at random. Seed before there is a tokenizer: seeding
    # TensorFlow clears its kernels, and the vocabularies in them. The
    # vocabulary of the mini-GPT has been used for the last time.
    keras.utils.set_random_seed(SEED)
    gemma = Gemma.from_preset("tiny")
    before = exact_share(ask_all(gemma, questions), questions)
    lora = gemma.enable_lora(rank=8, targets="attention")
    seconds = _tune(gemma, examples, **LORA_TUNING)
    answers = ask_all(gemma, questions)
    invented = ask_all(gemma, unknown)
    share = exact_share(answers, questions)
    figures = [
        ("facts that no request mentions, before", f"{before:.1%} exact"),
        (f"after {seconds:.0f} s with adapters of rank 8", f"{share:.1%}"),
        _tune_in_full(examples, questions),
        *_sizes(lora),
        (
            "names that mean nothing: a fact, made up",
            f"{_made_up_share(invented):.1%}",
        ),
    ]

    _tune(gemma, examples + world.refusals(NUM_REFUSALS), **CAREFUL_TUNING)
    careful = ask_all(gemma, questions)
    refused = ask_all(gemma, unknown)
    figures += _refusals(careful, refused, questions)

    for name, figure in figures:
        report.say(f"{name}: {figure}")
    report.text(
        "A tiny Gemma 3 that has read about a small invented world is tuned "
        "on requests about one half of its facts and asked about the other "
        "half. Names that mean nothing it answers as well, until examples "
        "teach it to say that it does not know."
    )
    report.table(["what", "figure"], figures)
    report.sample(questions[0].text, answers[0], "kerasllm tour")
    report.sample(unknown[0].text, invented[0], "kerasllm tour")
    report.sample(unknown[0].text, refused[0], "kerasllm tour")


def _tune(gemma, examples, epochs, learning_rate, falls=False):
    """Fine-tune, at a rate that may fall to zero; return the seconds."""
    if falls:
        learning_rate = keras.optimizers.schedules.PolynomialDecay(
            learning_rate, epochs * len(examples) // BATCH_SIZE, 0.0
        )
    start = time.perf_counter()
    gemma.finetune(
        examples,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        learning_rate=learning_rate,
        sequence_length=SEQUENCE_LENGTH,
        seed=SEED,
        verbose=0,
    )
    return time.perf_counter() - start


def _tune_in_full(examples, questions):
    """Tune all weights of another copy; return a line of the table."""
    gemma = Gemma.from_preset("tiny")
    seconds = _tune(gemma, examples, **FULL_TUNING)
    share = exact_share(ask_all(gemma, questions), questions)
    return f"after {seconds:.0f} s of full fine-tuning", f"{share:.1%}"


def _sizes(lora):
    """Return lines that compare adapters with full fine-tuning."""
    return [
        (
            "trained, adapters against all weights",
            f"{lora.trainable_share:.2%} of {lora.total_parameters:,}",
        ),
        (
            "Adam's memory, adapters against all weights",
            f"{lora.optimizer_bytes:,} of {lora.full_optimizer_bytes:,} bytes",
        ),
    ]


def _refusals(known, unknown, questions):
    """Return lines on answers of the model that has learned to refuse."""
    return [
        (
            f"refused after {NUM_REFUSALS} examples of “{REFUSAL}”",
            f"{refused_share(unknown):.1%}",
        ),
        ("and names that exist: refused", f"{refused_share(known):.1%}"),
        (
            "their facts after that",
            f"{exact_share(known, questions):.1%} exact",
        ),
    ]


def _made_up_share(answers):
    """Return the share of answers that tell a fact."""
    return Share.of(a.startswith(("It ", "She ", "He ")) for a in answers)
