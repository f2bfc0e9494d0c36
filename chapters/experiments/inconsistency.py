"""How often a model answers the same question in another way.

    python chapters/experiments/inconsistency.py --seed 0

`tiny_instruct` is asked about facts that it has read, none of which it was
tuned on, and about names that it has never read:

`same`: the same question several times, with sampling, with a seed, at a
temperature of 0, and in batches of other sizes.

`other`: with another case, a typo, a paraphrase, one letter of the name
changed, and with the permission to say "I don't know."

`check`: a second pass. Is the answer right if the model gives it to two other
phrasings, too? And can the model itself say whether an answer is right?

`backends`: the questions at a temperature of 0 on JAX, TensorFlow and PyTorch.
It starts a process for each of them.

`smollm2`: SmolLM2 is asked for capitals in the same ways as in `same` and
`other`.

`smollm2_check`: whether right answers and wrong ones are right, and capitals of
countries that do not exist, with and without the permission not to know.

Rows are added to `assets/retrieval/inconsistency.csv`, or to the file that
`--csv` names. What is there is not done again.
"""

import json
import os
import random
import re
import subprocess
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from rows_lab import CAPITALS, run

from kerasllm import ChatModel
from kerasllm.evaluation import in_batches, sample_agreement
from kerasllm.files import assets_dir
from kerasllm.samplers import chain
from kerasllm.toyworld import REFUSAL, World

ASKED = 200  # questions about what was read, and as many about other names
SAMPLES = 10
NUM_CAPITALS, NUM_SAMPLED_CAPITALS = 20, 4
LONGEST = 88  # tokens of a question to SmolLM2, and its answer
_REFUSED = (
    "do not|don't|don’t|cannot|can't|not able|no information|not a (real|rec)"
    "|not exist|fictional|unknown|not aware|no such"
)
BACKENDS = ("jax", "tensorflow", "torch")
ALLOWED = " If you don't know, say: I don't know."


class Asked:
    """Questions about one fact, in all ways, and the right answer.

    Attributes:
        texts: list of str, the phrasings.
        answer: str.
        name: str, what the question is about.
        other: str, an answer that is wrong.
    """

    def __init__(self, texts, answer, name, other):
        self.texts, self.answer, self.name = texts, answer, name
        self.other = other


def choose(seed, count=ASKED):
    """Return questions about what was read, and about other names."""
    rng = random.Random(f"inconsistency {seed}")
    world = World(0)
    read = [(e, a) for e in world.entities for a in e.attributes("untaught")]
    unread = [(e, a) for e in world.unknown for a in e.attributes()]
    groups = {"read": [], "unread": []}
    for which, facts in (("read", read), ("unread", unread)):
        for entity, attribute in rng.sample(facts, count):
            texts = [
                text.format(name=entity.name)
                for text in rng.sample(attribute.questions, 3)
            ]
            right = wrong = REFUSAL
            if entity.facts:
                right = entity.answer(attribute)
                value = entity.facts[attribute.name]
                others = [v for v in attribute.values if v != value]
                wrong = right.replace(value, rng.choice(others))
            groups[which].append(Asked(texts, right, entity.name, wrong))
    return groups


def ask(model, texts, batch_size=64, max_length=64, seeds=None, **options):
    """Return the answers; `seeds` has one for each question."""
    items = list(zip(texts, seeds or [None] * len(texts), strict=True))
    return in_batches(
        lambda batch: model.ask(
            [text for text, _ in batch],
            max_length=max_length,
            **({"seed": [seed for _, seed in batch]} if seeds else {}),
            **options,
        ),
        items,
        batch_size,
    )


def equal(first, second):
    return [a == b for a, b in zip(first, second, strict=True)]


# --- Other forms of a question -----------------------------------------------


def with_typo(text, name, rng):
    """Exchange two neighboring letters in a word that is not the name."""
    places = [
        i
        for match in re.finditer(r"[A-Za-z]{4,}", text)
        if match[0] not in name
        for i in range(match.start() + 1, match.end() - 1)
        if text[i] != text[i + 1]
    ]
    i = rng.choice(places)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def with_other_name(text, name, rng):
    """Change one letter within the name."""
    i = text.index(name) + rng.randrange(1, len(name) - 1)
    letters = "bcdfghklmnprstvwz"
    if text[i] in "aeiou":
        letters = "aeiou"
    return text[:i] + rng.choice(letters.replace(text[i], "")) + text[i + 1 :]


def other_forms(asked, seed):
    """Return a dict from the name of a form to the questions in that form."""
    rng = random.Random(f"forms {seed}")
    texts = [a.texts[0] for a in asked]
    names = [a.name for a in asked]
    pairs = list(zip(texts, names, strict=True))
    return {
        "no question mark": [text.rstrip("?") for text in texts],
        "small first letter": [text[0].lower() + text[1:] for text in texts],
        "small letters": [text.lower() for text in texts],
        "capitals": [text.upper() for text in texts],
        "typo": [with_typo(text, name, rng) for text, name in pairs],
        "paraphrase": [a.texts[1] for a in asked],
        "permission": [text + ALLOWED for text in texts],
        "letter of the name": [
            with_other_name(text, name, rng) for text, name in pairs
        ],
    }


# --- The parts ---------------------------------------------------------------


def same(args, note):
    """Ask the same question again."""
    model = ChatModel.from_preset("tiny_instruct", dtype="float32")
    for which, asked in choose(args.seed).items():
        repeat(model, [a.texts[0] for a in asked], which, note)


def repeat(model, texts, which, note, samples=SAMPLES, sizes=(1, 7, 200)):
    """Note the agreement of the answers to the same questions."""
    ask_again = {
        temperature: [
            ask(model, texts, sampler=chain(temperature=temperature))
            for _ in range(samples)
        ]
        for temperature in (0.5, 1.0)
    }
    for temperature, drawn in ask_again.items():
        agreed = [sample_agreement(a) for a in zip(*drawn, strict=True)]
        note.mean(f"{which}, temperature {temperature}", "agree", agreed)
        note(
            f"{which}, temperature {temperature}",
            "two are equal",
            equal(drawn[0], drawn[1]),
        )
    warm = {"sampler": chain(temperature=1.0)}
    seeds = list(range(len(texts)))
    first = ask(model, texts, seeds=seeds, **warm)
    again = ask(model, texts, seeds=seeds, **warm)
    note(f"{which}, seed", "two are equal", equal(first, again))
    small = ask(model, texts, 7, seeds=seeds, **warm)
    note(f"{which}, seed, batch of 7", "equal", equal(first, small))
    one_seed = [ask(model, texts, size, seed=0, **warm) for size in (64, 7)]
    note(f"{which}, one seed a call, batch of 7", "equal", equal(*one_seed))
    greedy = ask(model, texts)
    note(
        f"{which}, temperature 0",
        "two are equal",
        equal(greedy, ask(model, texts)),
    )
    for size in sizes:
        answers = ask(model, texts, size)
        note(
            f"{which}, temperature 0, batch of {size}",
            "equal",
            equal(greedy, answers),
        )


def other(args, note):
    """Ask the same in another form."""
    model = ChatModel.from_preset("tiny_instruct", dtype="float32")
    for which, asked in choose(args.seed).items():
        greedy = ask(model, [a.texts[0] for a in asked])
        right = [a.answer for a in asked]
        note(f"{which}, as it is", "right", equal(greedy, right))
        for form, texts in other_forms(asked, args.seed).items():
            answers = ask(model, texts)
            note(f"{which}, {form}", "equal", equal(greedy, answers))
            note(f"{which}, {form}", "right", equal(answers, right))
            note(f"{which}, {form}", "refused", [a == REFUSAL for a in answers])


def check(args, note):
    """Look at each answer a second time."""
    model = ChatModel.from_preset("tiny_instruct", dtype="float32")
    asked = sum(choose(args.seed).values(), [])
    first, second, third = (
        ask(model, [a.texts[i] for a in asked]) for i in range(3)
    )
    said = [i for i, answer in enumerate(first) if answer != REFUSAL]
    right = [first[i] == asked[i].answer for i in said]
    agreed = [(first[i] == second[i]) + (first[i] == third[i]) for i in said]
    note("answers", "right", right)
    kept = [r for r, a in zip(right, agreed, strict=True) if a == 2]
    note("same to two other phrasings", "kept", [a == 2 for a in agreed])
    note("same to two other phrasings", "right", kept)
    note.area("other phrasings", agreed, right)
    # It has never been asked this. Does it say anything to the point?
    known = [a for a in asked if a.answer != REFUSAL]
    for way in ("answer", "other"):
        answers = ask(
            model,
            [
                f"{a.texts[0]} {getattr(a, way)} Is it right that "
                f"{getattr(a, way)[0].lower()}{getattr(a, way)[1:-1]}?"
                for a in known
            ],
            max_length=96,
        )
        way = "right" if way == "answer" else "wrong"
        for word in ("Yes", "No"):
            note(
                f"asked about a {way} one",
                f"says {word}",
                [answer.startswith(word) for answer in answers],
            )


def backends(args, note):
    """Ask at a temperature of 0 on each backend."""
    answers = {}
    for name in BACKENDS:
        code = (
            "import json, sys; sys.path.insert(0, sys.argv[1]); "
            "import inconsistency as i; from kerasllm import ChatModel; "
            "model = ChatModel.from_preset('tiny_instruct', dtype='float32'); "
            "print(json.dumps([i.ask(model, [a.texts[0] for a in g]) for g in "
            "i.choose(int(sys.argv[2])).values()]))"
        )
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                code,
                os.path.dirname(os.path.abspath(__file__)),
                str(args.seed),
            ],
            env={**os.environ, "KERAS_BACKEND": name},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        answers[name] = sum(json.loads(done.stdout.splitlines()[-1]), [])
        note(name, "equal to JAX", equal(answers["jax"], answers[name]))


def smollm2(args, note):
    """Ask a real model for capitals."""
    model = ChatModel.from_preset("smollm2", template="chatml")
    asked = ask_for_capitals(random.Random(f"smollm2 {args.seed}"))
    texts, right = [a.texts[0] for a in asked], [a.answer for a in asked]
    greedy = cities(model, texts)
    note("as it is", "right", equal(greedy, right))
    warm = chain(temperature=1.0)
    drawn = [
        cities(model, texts, sampler=warm, seed=seed)
        for seed in range(NUM_SAMPLED_CAPITALS)
    ]
    agreed = [sample_agreement(a) for a in zip(*drawn, strict=True)]
    note.mean("temperature 1.0", "agree", agreed)
    note("temperature 1.0", "two are equal", equal(drawn[0], drawn[1]))
    forms = other_forms(asked, args.seed)
    for form in (
        "capitals",
        "small letters",
        "typo",
        "paraphrase",
        "permission",
    ):
        answers = cities(model, forms[form])
        note(form, "equal", equal(greedy, answers))
        note(form, "right", equal(answers, right))


def smollm2_check(args, note):
    """Let a real model look at answers, and allow it not to know."""
    model = ChatModel.from_preset("smollm2", template="chatml")
    asked = ask_for_capitals(random.Random(f"smollm2 {args.seed}"))

    def begins(way, texts, **patterns):
        answers = ask(model, texts, NUM_CAPITALS, LONGEST)
        print(*answers[:4], sep="\n", flush=True)
        for what, pattern in patterns.items():
            found = [bool(re.search(pattern, a, re.I)) for a in answers]
            note(way, what, found)

    for way, cities_named in (
        ("right", [a.answer for a in asked]),
        ("wrong", [a.other for a in asked]),
    ):
        texts = [
            f"Is it right that {city} is the capital of {a.name}? Answer with "
            "yes or no."
            for city, a in zip(cities_named, asked, strict=True)
        ]
        begins(
            f"asked about a {way} one", texts, yes=r"^\W*yes", no=r"^\W*no\b"
        )
    # Countries that do not exist, without and with the permission.
    names = [e.name for e in World(0).unknown if e.kind == "town"]
    nowhere = [f"What is the capital of {name}?" for name in names]
    nowhere = nowhere[:NUM_CAPITALS]
    somewhere = [a.texts[0] for a in asked]
    for way, texts in (("country", somewhere), ("no country", nowhere)):
        begins(way, texts, refused=_REFUSED)
        allowed = [text + ALLOWED for text in texts]
        begins(f"{way}, permission", allowed, refused=_REFUSED)


def ask_for_capitals(rng):
    asked = []
    for country in rng.sample(sorted(CAPITALS), NUM_CAPITALS):
        capital = CAPITALS[country]
        texts = [
            f"What is the capital of {country}?",
            f"Which city is the capital of {country}?",
            f"Name the capital city of {country}.",
        ]
        wrong = rng.choice([c for c in CAPITALS.values() if c != capital])
        asked.append(Asked(texts, capital, country, wrong))
    return asked


def cities(model, texts, **options):
    """Return the first capital that each answer names, or nothing."""
    pattern = re.compile("|".join(CAPITALS.values()), re.IGNORECASE)
    answers = ask(model, texts, NUM_CAPITALS, LONGEST, **options)
    return [
        match[0].title() if (match := pattern.search(answer)) else ""
        for answer in answers
    ]


PARTS = {
    "same": same,
    "other": other,
    "check": check,
    "backends": backends,
    "smollm2": smollm2,
    "smollm2_check": smollm2_check,
}

if __name__ == "__main__":
    run(
        __doc__.splitlines()[0],
        PARTS,
        assets_dir() / "retrieval/inconsistency.csv",
    )
