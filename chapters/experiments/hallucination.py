"""When a small model invents, and whether it can be noticed.

    python chapters/experiments/hallucination.py --seed 0

`snowball`: the model completes a sentence whose fact it has read. Before that
sentence stands nothing, the same fact in other words, or the same with a wrong
value. Does it go on with what it was made to say? `copying` asks the same about
names that it has never read, where it has nothing but that first sentence.

`consistent`: the same two questions for models that are tuned on plain text.
Half of it is a sentence alone, about a fact that was read in pretraining. The
other half is a sentence after another that says the same, as people write who
go on talking. For the model `read`, these say what was read in pretraining, so
that it need not look back. For the model `consistent`, they are about new
names, and one in four is about a known name and wrong, both times. So it has to
look back. The facts that are asked about are in no text of the tuning.

`mismatch`: two models are tuned on as many questions with answers, and on the
same refusals. The answers of one are facts that it has read in pretraining,
those of the other are about names that it has never read. How often does each
answer a question about yet other names, instead of refusing?

`agreement`: a model that was never taught to refuse is asked several times, at
a temperature of 1, about facts that it has read and about names that it has
not. Does the share of equal answers tell the right ones from the wrong ones?

`real` asks SmolLM2, a model that has read its context since it was trained, to
complete sentences about capitals after the same three kinds of first sentence.

Rows are added to `assets/retrieval/hallucination.csv`, or to the file that
`--csv` names. What is there is not done again. `--seed 9` was used to choose
the recipe; the committed rows come from the other seeds.
"""

import collections
import os
import random
import re

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from rows_lab import CAPITALS, run

from kerasllm import ChatModel
from kerasllm.evaluation import in_batches, sample_agreement
from kerasllm.files import assets_dir
from kerasllm.instructions import Instruction
from kerasllm.prompts import PromptTemplate
from kerasllm.samplers import chain
from kerasllm.toyworld import REFUSAL, World

KNOWN = 600  # facts to tune on
REFUSALS = 300
ASKED = 300  # questions of each kind
SAMPLES = 10
PAIRS = 6400  # sentences to go on with
TUNED = ("read", "consistent")
PLAIN = PromptTemplate("plain", *[""] * 4)  # text without turns


def tune(
    examples, seed, verbose, template="auto", epochs=4, batch_size=16, peak=1e-3
):
    """Return `tiny`, tuned on requests and answers."""
    keras.utils.set_random_seed(seed)
    model = ChatModel.from_preset("tiny", dtype="float32", template=template)
    steps = epochs * -(-len(examples) // batch_size)
    model.finetune(
        examples,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            0.0, steps - steps // 10, warmup_target=peak,
            warmup_steps=steps // 10,
        ),
        sequence_length=64,
        seed=seed,
        verbose=verbose,
    )  # fmt: skip
    return model


def ask(model, prompts, **options):
    return in_batches(
        lambda batch: model.ask(batch, max_length=64, **options), prompts
    )


def other_value(attribute, value, rng):
    return rng.choice([v for v in attribute.values if v != value])


def said_again(entity, attribute, first, rng):
    """Return a sentence that is cut off before its value.

    Args:
        entity: `Entity`.
        attribute: `Attribute`.
        first: str. The value in a first sentence with other words, or `None`
            for no such sentence.
        rng: `random.Random`.
    """
    said = rng.choice(attribute.sentences[1:])
    before, _ = attribute.sentences[0].split("{value}")
    prefix = before.format(name=entity.name).rstrip()
    texts = [] if first is None else [
        said.format(name=entity.name, value=first)
    ]  # fmt: skip
    return " ".join(t[0].upper() + t[1:] for t in [*texts, prefix])


def sentences(model, prompts):
    """Return what the model writes up to the end of the sentence."""
    return in_batches(
        lambda batch: model.generate(
            batch, max_length=64, strip_prompt=True, stop_strings=["."]
        ),
        prompts,
    )


def complete(model, prompts):
    """Return the word that the model writes next."""
    texts = sentences(model, prompts)
    return [text.strip().split(" ")[0].rstrip(".,;") for text in texts]


def snowball(args, note):
    """Complete sentences after a right, a wrong, and no first sentence."""
    rng = random.Random(f"snowball {args.seed}")
    facts = facts_of(World(0).entities)
    model = ChatModel.from_preset("tiny", dtype="float32")
    go_on(model, rng.sample(facts, ASKED), rng, note)


def go_on(model, facts, rng, note, tuned=""):
    """Note what the model writes after each kind of first sentence."""
    prompts, values = collections.defaultdict(list), []
    for entity, attribute in facts:
        value = entity.facts[attribute.name]
        wrong = other_value(attribute, value, rng)
        for way, first in (("alone", None), ("right", value), ("wrong", wrong)):
            prompts[way].append(said_again(entity, attribute, first, rng))
        values.append((value, wrong))
    for way, texts in prompts.items():
        pairs = list(zip(complete(model, texts), values, strict=True))
        way = f"{tuned} {way}".strip()
        note(way, "right", [word == value for word, (value, _) in pairs])
        note(way, "as told", [word == wrong for word, (_, wrong) in pairs])


def consistent(args, note):
    """Tune on sentences that agree; then complete as `snowball`."""
    rng = random.Random(f"consistent {args.seed}")
    read = facts_of(World(0).entities)
    rng.shuffle(read)
    asked, read = read[:ASKED], read[ASKED:]
    new = [
        fact
        for number in range(4)
        for fact in facts_of(World(1000 + 10 * args.seed + number).entities)
    ]
    for tuned in TUNED:
        rng = random.Random(f"consistent {args.seed} {tuned}")
        examples = [
            example_to_go_on(read, new, tuned, rng) for _ in range(PAIRS)
        ]
        model = tune(
            examples, args.seed, args.verbose, PLAIN,
            epochs=1, batch_size=32, peak=2e-3,
        )  # fmt: skip
        go_on(model, asked, rng, note, tuned)
        copy(model, args.seed, note, tuned)


def example_to_go_on(read, new, tuned, rng):
    """Return a sentence up to its value, and the value as the response.

    Every second one comes after another sentence that says the same. In the
    texts of `read`, all is true and has been read in pretraining. In those of
    `consistent`, what comes after another sentence is about a new name, or, in
    one of four cases, is wrong.
    """
    entity, attribute = rng.choice(read)
    value, first = entity.facts[attribute.name], None
    if rng.random() < 0.5:
        if tuned == "consistent":
            if rng.random() < 0.25:
                value = other_value(attribute, value, rng)
            else:
                entity, attribute = rng.choice(new)
                value = entity.facts[attribute.name]
        first = value
    prompt = said_again(entity, attribute, first, rng)
    _, after = attribute.sentences[0].split("{value}")
    return Instruction(prompt, f" {value}{after}")


def copying(args, note):
    """Complete sentences about names that only a first sentence tells of."""
    model = ChatModel.from_preset("tiny", dtype="float32")
    copy(model, args.seed, note, "")


def copy(model, seed, note, tuned):
    rng = random.Random(f"copying {seed}")
    facts = facts_of(World(300 + seed).unknown)
    prompts, values = [], []
    for entity, attribute in rng.sample(facts, ASKED):
        value = rng.choice(attribute.values)
        prompts.append(said_again(entity, attribute, value, rng))
        values.append((value, attribute.values))
    pairs = list(zip(complete(model, prompts), values, strict=True))
    way = f"{tuned} told".strip()
    note(way, "as told", [word == value for word, (value, _) in pairs])
    note(way, "some value", [word in known for word, (_, known) in pairs])


def facts_of(entities):
    """Return all pairs of an entity and an attribute of it."""
    return [(e, a) for e in entities for a in e.attributes()]


def facts_to_tune_on(world, rng, count):
    """Return requests about facts of a world, each with its answer."""
    facts = facts_of(world.entities)
    return [
        Instruction(rng.choice(a.questions).format(name=e.name), e.answer(a))
        for e, a in rng.sample(facts, count)
    ]


def questions_about(entities, rng, count):
    """Return pairs of a question and its answer, or `REFUSAL`."""
    facts = facts_of(entities)
    return [
        (
            rng.choice(a.questions).format(name=e.name),
            e.answer(a) if e.facts else REFUSAL,
        )
        for e, a in rng.sample(facts, count)
    ]


def mismatch(args, note):
    """Tune on known and on unknown facts; ask about other names."""
    read, unread = World(0), World(200 + args.seed)
    strangers = questions_about(
        World(300 + args.seed).unknown, random.Random(args.seed), ASKED
    )
    for way, world in (("known", read), ("unknown", unread)):
        rng = random.Random(f"mismatch {args.seed}")
        examples = facts_to_tune_on(world, rng, KNOWN)
        examples += read.refusals(REFUSALS, seed=args.seed)
        rng.shuffle(examples)
        model = tune(examples, args.seed, args.verbose)
        answers = ask(model, [question for question, _ in strangers])
        note(way, "invented", [answer != REFUSAL for answer in answers])
        # What the model has read and was not tuned on.
        tuned_on = {example.instruction for example in examples}
        others = [
            pair
            for pair in questions_about(read.entities, rng, 3 * ASKED)
            if pair[0] not in tuned_on
        ][:ASKED]
        answers = ask(model, [question for question, _ in others])
        note(
            way,
            "right about what was read",
            [a == pair[1] for a, pair in zip(answers, others, strict=True)],
        )


def agreement(args, note):
    """Ask several times; compare the agreement on right and wrong answers."""
    rng = random.Random(f"agreement {args.seed}")
    world = World(0)
    model = tune(world.instructions(args.seed), args.seed, args.verbose)
    asked = questions_about(world.entities, rng, ASKED)
    asked += questions_about(World(300 + args.seed).unknown, rng, ASKED)
    prompts = [question for question, _ in asked]
    greedy = ask(model, prompts)
    right = np.array(
        [a == pair[1] for a, pair in zip(greedy, asked, strict=True)]
    )
    samples = [
        ask(model, prompts, sampler=chain(temperature=1.0), seed=number)
        for number in range(SAMPLES)
    ]
    # How many of the samples say what the model says first.
    agreed = np.array(
        [
            sample_agreement(answers, first)
            for first, answers in zip(
                greedy, zip(*samples, strict=True), strict=True
            )
        ]
    )
    note("greedy", "right about what was read", right[:ASKED])
    note("greedy", "invented", [answer != REFUSAL for answer in greedy[ASKED:]])
    note.mean("samples", "agree if right", agreed[right])
    note.mean("samples", "agree if wrong", agreed[~right])
    note.area("samples", agreed, right)


def real(args, note):
    """Complete sentences about capitals with SmolLM2, as `snowball` does."""
    rng = random.Random(f"real {args.seed}")
    model = ChatModel.from_preset("smollm2")
    prompts, values = collections.defaultdict(list), []
    for country, capital in CAPITALS.items():
        wrong = rng.choice([c for c in CAPITALS.values() if c != capital])
        for way, first in (
            ("alone", ""),
            ("right", f"{capital} is the capital city of {country}. "),
            ("wrong", f"{wrong} is the capital city of {country}. "),
        ):
            prompts[way].append(f"{first}The capital of {country} is")
        values.append((capital, wrong))
    pattern = re.compile("|".join(CAPITALS.values()))
    for way, texts in prompts.items():
        written = sentences(model, texts)
        print(*written[:5], sep="\n", flush=True)
        # It may say more: "also the city of Paris".
        found = [pattern.search(text) for text in written]
        words = [match[0] if match else "" for match in found]
        pairs = list(zip(words, values, strict=True))
        note(way, "right", [word == value for word, (value, _) in pairs])
        note(way, "as told", [word == wrong for word, (_, wrong) in pairs])


PARTS = {
    "snowball": snowball,
    "copying": copying,
    "consistent": consistent,
    "mismatch": mismatch,
    "agreement": agreement,
    "real": real,
}

if __name__ == "__main__":
    run(
        __doc__.splitlines()[0],
        PARTS,
        assets_dir() / "retrieval/hallucination.csv",
    )
