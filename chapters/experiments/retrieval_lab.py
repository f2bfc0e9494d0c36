"""What the experiments of `retrieval.py` share: texts of worlds, and models.

The preset `tiny` cannot read: after a sentence about a new name, it repeats the
value as often as chance has it. `reading_lab` says how it learns to, in some 50
seconds of processor time. Then it is tuned on context prompts with one passage,
about names that it never read and about facts of its own world that have
changed, and on the facts of its own world without context (some 210 seconds).
It is never taught to refuse: without context it answers every question, and
with a store the distance of the best passage decides.

With several passages, this reader reads the last one. `tune_on_several` tunes
it further, on prompts with one to three passages, which takes some 150 seconds.
The wrong passages are other facts about the right name, and from three passages
on also the same fact about other names: the more passages, the more of these.
They are what the reader cannot tell from the right one.
"""

import random
import re
import time

import keras
from reading_lab import LESSONS, learn_to_read, save_in_half, without_images

from kerasllm import ChatModel
from kerasllm.chat import CANNOT_TELL, context_prompt
from kerasllm.instructions import Instruction
from kerasllm.retrieval import Embedder, train_embedder
from kerasllm.toyworld import Question, World

TRAINED_ON = range(100, 140)  # seeds of worlds
MOST_PASSAGES = 3  # of requests with several
TIMES_CHANGED = 6  # the old world, to learn to read
OLD_WORLD = 0  # that of pretraining
# Words that say nothing of what is asked.
STOP = set(
    "a and at by did do does for from has he her his how in into is it its of "
    "off on out she that the their them there they this to was what when where "
    "which who whom with".split()
)


def sentence(form, name, value):
    text = form.format(name=name, value=value)
    return text[0].upper() + text[1:]


def telling(text):
    """Return the words of a text that say something, without endings."""
    words = set(re.findall(r"\w+", text.lower())) - STOP
    return {re.sub(r"(es|s|ing|ed)$", "", word) for word in words}


def facts_of(world):
    """Return every entity with each of its attributes."""
    return [(e, a) for e in world.entities for a in e.attributes()]


def passage_of(entity, attribute, rng):
    return sentence(
        rng.choice(attribute.sentences),
        entity.name,
        entity.facts[attribute.name],
    )


def pairs_of(world, kind, rng):
    """Return a question and its passage for each fact."""
    pairs = []
    for entity, attribute in facts_of(world):
        forms = [
            (asked, said)
            for asked in attribute.questions
            for said in attribute.sentences
            if kind == "any"
            or not telling(said.format(name="", value=""))
            & telling(asked.format(name=""))
        ]
        if forms:
            asked, said = rng.choice(forms)
            value = entity.facts[attribute.name]
            pairs.append(
                (
                    asked.format(name=entity.name),
                    sentence(said, entity.name, value),
                )
            )
    return pairs


def questions_about(facts, rng):
    return [
        Question(
            rng.choice(a.questions).format(name=e.name), e.answer(a), a.name
        )
        for e, a in facts
    ]


def changed(world, rng):
    """Return a world in which each fact has another value."""
    other = World(world.seed)
    for entity in other.entities:
        for attribute in entity.attributes():
            old = entity.facts[attribute.name]
            values = [v for v in attribute.values if v != old]
            entity.facts[attribute.name] = rng.choice(values)
    return other


def neighbors(world, entity, attribute, rng, count):
    """Return passages that a search may find beside the right one."""
    of_entity = [
        passage_of(entity, other, rng)
        for other in entity.attributes()
        if other is not attribute
    ]
    same_kind = [
        e for e in world.entities if e.kind == entity.kind and e is not entity
    ]
    of_attribute = [
        passage_of(other, attribute, rng)
        for other in rng.sample(same_kind, count)
    ]
    found = of_entity + of_attribute[: max(count - len(of_entity), count // 2)]
    return rng.sample(found, min(count, len(found)))


def training_pairs(num_worlds, rng):
    """Return questions and passages about worlds of their own."""
    return [
        (
            rng.choice(attribute.questions).format(name=entity.name),
            passage_of(entity, attribute, rng),
        )
        for seed in TRAINED_ON[:num_worlds]
        for entity, attribute in facts_of(World(seed))
    ]


def make_embedders(args, folder):
    """Return the untrained and the trained embedder."""
    keras.utils.set_random_seed(args.seed)
    untrained = Embedder.from_preset("tiny", dtype="float32")
    path = folder / f"embedder_{args.worlds}_{args.epochs}_{args.seed}.keras"
    if path.exists():
        return untrained, keras.saving.load_model(path)
    embedder = Embedder.from_preset("tiny", dtype="float32")
    pairs = training_pairs(args.worlds, random.Random(args.seed))
    steps = args.epochs * (len(pairs) // args.batch_size)
    started = time.process_time()
    train_embedder(
        embedder,
        pairs,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            0.0, steps - steps // 20, warmup_target=args.rate,
            warmup_steps=steps // 20,
        ),
        temperature=args.temperature,
        seed=args.seed,
        directory=folder / path.stem,
        verbose=args.verbose,
    )  # fmt: skip
    print(f"{len(pairs)} pairs, {time.process_time() - started:.0f} s")
    embedder.save(path)
    return untrained, embedder


def reading_examples(num_worlds, per_world, most_passages, rng):
    """Return requests with context.

    Where there may be several passages, one request in six comes without the
    right one.
    """
    worlds = [World(1000 + seed) for seed in TRAINED_ON[:num_worlds]]
    # A text may say something else than what the model remembers.
    worlds += [changed(World(OLD_WORLD), rng) for _ in range(TIMES_CHANGED)]
    examples = []
    for world in worlds:
        for entity, attribute in rng.sample(facts_of(world), per_world):
            count = rng.randint(0, most_passages - 1)
            texts = neighbors(world, entity, attribute, rng, count)
            answer = entity.answer(attribute)
            if texts and rng.random() < 1 / 6:
                answer = CANNOT_TELL
            else:
                gold = passage_of(entity, attribute, rng)
                texts.insert(rng.randint(0, len(texts)), gold)
            asked = rng.choice(attribute.questions).format(name=entity.name)
            examples.append(Instruction(context_prompt(asked, texts), answer))
    return examples


def old_facts(rng):
    """Return requests without context about the world of pretraining."""
    world = World(OLD_WORLD)
    return [
        Instruction(question.text, question.answer)
        for question in questions_about(facts_of(world), rng)
        + questions_about(facts_of(world), rng)
    ]


def tune_reader(args, folder):
    """Return a model that answers from context, and without.

    It is what was saved in bfloat16. Nothing teaches it to refuse a question
    that comes without context.
    """
    path = folder / f"reader_{args.passages}_{args.seed}"
    if path.exists():
        return ChatModel.from_preset(path)
    keras.utils.set_random_seed(args.seed)
    model = without_images(ChatModel.from_preset("tiny", dtype="float32"))
    started = time.process_time()
    learn_to_read(
        model, LESSONS[: args.lessons], [1000 + seed for seed in TRAINED_ON],
        args.seed, folder / f"lessons_{args.seed}", args.verbose,
    )  # fmt: skip
    print(f"lessons: {time.process_time() - started:.0f} s")
    rng = random.Random(args.seed)
    examples = reading_examples(
        args.reader_worlds, args.per_world, args.passages, rng
    )
    examples += old_facts(rng)
    rng.shuffle(examples)
    steps = args.reader_epochs * (len(examples) // args.reader_batch)
    started = time.process_time()
    model.finetune(
        examples,
        epochs=args.reader_epochs,
        batch_size=args.reader_batch,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            0.0, steps - steps // 20, warmup_target=args.reader_rate,
            warmup_steps=steps // 20,
        ),
        sequence_length=args.reader_length,
        seed=args.seed,
        directory=folder / f"run_{path.name}",
        verbose=args.verbose,
    )  # fmt: skip
    print(f"{len(examples)} requests: {time.process_time() - started:.0f} s")
    save_in_half(model, path)
    return ChatModel.from_preset(path)


def tune_on_several(args, folder):
    """Return the reader after requests with one to three passages, too."""
    path = folder / f"reader_{MOST_PASSAGES}_{args.seed}"
    if path.exists():
        return ChatModel.from_preset(path)
    keras.utils.set_random_seed(args.seed)
    model = tune_reader(args, folder)
    rng = random.Random(f"several {args.seed}")
    examples = reading_examples(
        args.reader_worlds, args.several, MOST_PASSAGES, rng
    )
    rng.shuffle(examples)
    started = time.process_time()
    model.finetune(
        examples,
        epochs=1,
        batch_size=args.reader_batch,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            args.rate, len(examples) // args.reader_batch
        ),
        sequence_length=160,
        seed=args.seed,
        directory=folder / f"run_{path.name}",
        verbose=args.verbose,
    )
    print(f"{len(examples)} requests: {time.process_time() - started:.0f} s")
    save_in_half(model, path)
    return ChatModel.from_preset(path)
