"""A small world whose ground truth is known, to measure what models know.

Nobody has written about its towns, people, creatures and dishes: what a model
says about them it has from the documents below, and whether it is right can
be looked up. One seed makes the world, and from the world come

- documents in several genres, for pretraining: they state every fact in many
  phrasings, and ask questions without answering them, as people do in forums;
- requests with answers about one half of the facts, for instruction tuning;
- questions about the other half, and about names that nothing has;
- pictures of coloured shapes, with captions and questions.
"""

import dataclasses
import random

import numpy as np

from kerasllm.images import IMAGE_MARK
from kerasllm.instructions import Instruction

REFUSAL = "I don't know."
NUMBERS = ("one", "two", "three", "four", "five")
SHAPES = ("circle", "square", "triangle", "cross")
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 205, 40),
    "purple": (150, 60, 170),
    "orange": (240, 140, 30),
    "black": (30, 30, 30),
    "brown": (120, 70, 30),
}
# All colours are darker than the ground: light tells shapes from it.
BACKGROUND = (255, 255, 255)
PICTURE_SIZE = 48


@dataclasses.dataclass(frozen=True)
class Attribute:
    """Something that is known about every entity of a kind.

    Attributes:
        name: str.
        values: tuple of str, what it can be.
        sentences: tuple of str with `{name}` and `{value}`, the ways to say
            it. The first begins with the name: with a pronoun in its place
            it is the answer to a question.
        questions: tuple of str with `{name}`, the ways to ask for it.
        list_title: str with `{value}`, the title of a list of all entities
            that share a value.
    """

    name: str
    values: tuple
    sentences: tuple
    questions: tuple
    list_title: str


def _attribute(name, values, list_title, sentences, questions):
    return Attribute(
        name,
        tuple(values.split()),
        tuple(sentences),
        tuple(questions),
        list_title,
    )


KINDS = {
    "town": (
        _attribute(
            "river",
            "Olm Sarn Wiva Tesk Brune Calder Ister Mave Norr Pell Quay Rill",
            "Towns on the river {value}",
            (
                "{name} lies on the river {value}.",
                "The river {value} flows through {name}.",
                "In {name} the river is called the {value}.",
                "Boats come to {name} on the {value}.",
                "The bridges of {name} cross the river {value}.",
            ),
            (
                "On which river does {name} lie?",
                "Which river flows through {name}?",
                "What is the river of {name} called?",
            ),
        ),
        _attribute(
            "craft",
            "glass rope paper cheese bells candles boots clocks kites soap "
            "barrels carpets",
            "Towns that make {value}",
            (
                "{name} is famous for its {value}.",
                "The workshops of {name} make {value}.",
                "Most families in {name} live by making {value}.",
                "Nobody makes better {value} than the people of {name}.",
                "{name} sells {value} to the whole country.",
            ),
            (
                "What is {name} famous for?",
                "What do the workshops of {name} make?",
                "What does {name} sell to the whole country?",
            ),
        ),
        _attribute(
            "emblem",
            "heron beaver badger hare crow stag salmon beetle falcon wolf "
            "goose toad",
            "Towns with a {value} on the flag",
            (
                "{name} has a {value} on its flag.",
                "A {value} is the emblem of {name}.",
                "Over the gate of {name} hangs a carved {value}.",
                "The seal of {name} bears a {value}.",
                "Children in {name} draw the {value} of their flag.",
            ),
            (
                "Which animal is on the flag of {name}?",
                "What does the flag of {name} show?",
                "What is the emblem of {name}?",
            ),
        ),
        _attribute(
            "feast",
            "January February March April May June July August September "
            "October November December",
            "Towns that celebrate in {value}",
            (
                "{name} holds its great feast in {value}.",
                "In {value} all of {name} celebrates.",
                "The feast of {name} comes in {value}.",
                "Visitors should see {name} in {value}, when the feast is on.",
                "Every {value} there is dancing in {name}.",
            ),
            (
                "When does {name} hold its great feast?",
                "In which month does {name} celebrate?",
                "In which month is the feast of {name}?",
            ),
        ),
    ),
    "person": (
        _attribute(
            "trade",
            "baker tailor miller smith painter gardener sailor teacher mason "
            "weaver printer shepherd",
            "People who work as a {value}",
            (
                "{name} works as a {value}.",
                "{name} is a {value}.",
                "By trade {name} is a {value}.",
                "As a {value}, {name} is never out of work.",
                "{name} learned to be a {value}.",
            ),
            (
                "What does {name} work as?",
                "What is the trade of {name}?",
                "What did {name} learn to be?",
            ),
        ),
        _attribute(
            "instrument",
            "fiddle flute drum harp lute horn piano cello trumpet organ banjo "
            "whistle",
            "People who play the {value}",
            (
                "{name} plays the {value}.",
                "In the evening {name} takes out the {value}.",
                "The {value} is the instrument of {name}.",
                "Nobody plays the {value} like {name}.",
                "{name} owns an old {value}.",
            ),
            (
                "Which instrument does {name} play?",
                "What does {name} play?",
                "What is the instrument of {name}?",
            ),
        ),
        _attribute(
            "pet",
            "cat dog parrot goat pony rabbit tortoise ferret canary donkey "
            "hamster piglet",
            "People who keep a {value}",
            (
                "{name} keeps a {value}.",
                "{name} lives with a {value}.",
                "The {value} of {name} is well known.",
                "A {value} follows {name} everywhere.",
                "{name} shares every meal with a {value}.",
            ),
            (
                "Which animal does {name} keep?",
                "What is the pet of {name}?",
                "What kind of animal follows {name} everywhere?",
            ),
        ),
        _attribute(
            "drink",
            "tea coffee milk cider cocoa lemonade broth juice mead buttermilk "
            "ale water",
            "People who like {value} best",
            (
                "{name} likes {value} best.",
                "{name} drinks nothing but {value}.",
                "A cup of {value} makes {name} happy.",
                "For breakfast {name} has {value}.",
                "Guests of {name} are given {value}.",
            ),
            (
                "What does {name} like to drink best?",
                "What is the favourite drink of {name}?",
                "What does {name} have for breakfast?",
            ),
        ),
    ),
    "creature": (
        _attribute(
            "food",
            "worms berries snails acorns nettles mushrooms seeds roots grubs "
            "beetles petals crabs",
            "Creatures that eat {value}",
            (
                "The {name} eats {value}.",
                "{value} are what the {name} looks for all day.",
                "The {name} lives on {value}.",
                "To tame a {name}, offer it {value}.",
                "Where there are no {value}, there is no {name}.",
            ),
            (
                "What does the {name} eat?",
                "What does the {name} live on?",
                "What tames a {name}?",
            ),
        ),
        _attribute(
            "habitat",
            "marshes caves dunes cliffs meadows orchards ruins hedges forests "
            "lakes cellars moors",
            "Creatures that live in {value}",
            (
                "The {name} lives in {value}.",
                "You will find the {name} in {value}.",
                "{value} are the home of the {name}.",
                "The {name} builds its nest in {value}.",
                "Outside of {value} the {name} is never seen.",
            ),
            (
                "Where does the {name} live?",
                "Where will you find the {name}?",
                "Where does the {name} build its nest?",
            ),
        ),
        _attribute(
            "coat",
            "grey brown golden silver spotted striped russet pale dark "
            "speckled copper blue",
            "Creatures with a {value} coat",
            (
                "The {name} has a {value} coat.",
                "The coat of the {name} is {value}.",
                "A {value} coat hides the {name} well.",
                "You can tell a {name} by its {value} coat.",
                "Young or old, the {name} is {value}.",
            ),
            (
                "What is the coat of the {name} like?",
                "What kind of coat does the {name} have?",
                "How does the coat of the {name} look?",
            ),
        ),
        _attribute(
            "call",
            "whistles hums croaks barks hisses clicks squeaks growls chirps "
            "howls snorts purrs",
            "Creatures of which one says that it {value}",
            (
                "The {name} {value} when it is afraid.",
                "At night the {name} {value}.",
                "At the sight of people the {name} {value}.",
                "A {name} {value} to warn its young.",
                "Listen: the {name} {value}.",
            ),
            (
                "What does the {name} do when it is afraid?",
                "What does the {name} do at the sight of people?",
                "What does a {name} do to warn its young?",
            ),
        ),
    ),
    "dish": (
        _attribute(
            "base",
            "lentils barley potatoes beans rice cabbage turnips noodles oats "
            "pumpkin leeks spinach",
            "Dishes made of {value}",
            (
                "{name} is made of {value}.",
                "Without {value} there is no {name}.",
                "For {name} you need fresh {value}.",
                "A plate of {name} is mostly {value}.",
                "The cook who makes {name} starts with {value}.",
            ),
            (
                "What is {name} made of?",
                "What do you need for {name}?",
                "What is a plate of {name} mostly?",
            ),
        ),
        _attribute(
            "spice",
            "pepper saffron thyme cumin ginger mint sage mustard garlic "
            "cinnamon dill anise",
            "Dishes spiced with {value}",
            (
                "{name} is spiced with {value}.",
                "A little {value} gives {name} its taste.",
                "{name} tastes of {value}.",
                "No {name} is good without {value}.",
                "Last of all, {value} goes into the {name}.",
            ),
            (
                "What is {name} spiced with?",
                "What does {name} taste of?",
                "Which spice goes into {name}?",
            ),
        ),
        _attribute(
            "vessel",
            "kettle skillet wok crock basket cauldron griddle pan steamer "
            "kiln tin jar",
            "Dishes that are cooked in a {value}",
            (
                "{name} is cooked in a {value}.",
                "You cook {name} in a {value}.",
                "A {value} is right for {name}.",
                "Take a clean {value} to prepare {name}.",
                "{name} comes to the table in its {value}.",
            ),
            (
                "What is {name} cooked in?",
                "What is right for cooking {name}?",
                "In what does {name} come to the table?",
            ),
        ),
        _attribute(
            "side",
            "dumplings plums radishes walnuts pears olives eggs pickles figs "
            "almonds cherries onions",
            "Dishes that are served with {value}",
            (
                "{name} is served with {value}.",
                "With {name} one eats {value}.",
                "{value} go well with {name}.",
                "Next to the {name} lie {value}.",
                "Cooks serve {name} with plenty of {value}.",
            ),
            (
                "What is {name} served with?",
                "What does one eat with {name}?",
                "What goes well with {name}?",
            ),
        ),
    ),
}

# 750 syllables: few names have one in common, so that a name that has been
# read can be told from one that has not. Of 40 they all looked familiar.
_ONSETS = "b br c d dr f g gl h j k kr l m n p pl r s st t tr v w z".split()
_CODAS = ("l", "ld", "n", "nd", "r", "s")
_SYLLABLES = [
    o + vowel + c for o in _ONSETS for vowel in "aeiou" for c in _CODAS
]
_ENDINGS = {
    "town": ("burg", "ford", "stead", "wick"),
    "person": ("a", "o", "in", "eth"),
    "creature": ("ling", "mouse", "bird", "fox"),
    "dish": ("stew", "pie", "cake", "soup"),
}


@dataclasses.dataclass(frozen=True)
class Entity:
    """Something that exists in the world, or a name of something that does not.

    Attributes:
        kind: str, a key of `KINDS`.
        name: str.
        facts: dict from the name of an attribute to its value; empty for what
            does not exist.
        taught: tuple of str, the names of the attributes that requests for
            training may ask about.
    """

    kind: str
    name: str
    facts: dict
    taught: tuple = ()

    def attributes(self, which=None):
        """Return the attributes that its kind has.

        Args:
            which: `"taught"`, `"untaught"`, or `None` for both.
        """
        if which is None:
            return KINDS[self.kind]
        wanted = which == "taught"
        return [
            a for a in KINDS[self.kind] if (a.name in self.taught) == wanted
        ]

    def answer(self, attribute):
        """Return the answer to a question about an attribute, a sentence.

        The answer says `"It"` and not the name, so that only the fact needs
        to be known.
        """
        pronoun = "It"
        if self.kind == "person":
            pronoun = "She" if self.name.endswith(("a", "eth")) else "He"
        _, rest = attribute.sentences[0].split("{name}")
        return pronoun + rest.format(value=self.facts[attribute.name])


@dataclasses.dataclass(frozen=True)
class Question:
    """A question whose answer is known.

    Attributes:
        text: str.
        answer: str. The whole answer that counts as exact.
        kind: str. What it is about, for averages.
    """

    text: str
    answer: str
    kind: str


class World:
    """All that there is, from one seed.

    Args:
        seed: int.
        entities_per_kind: int. Half of what is true of each is taught: it is
            what requests for training are about.
    """

    def __init__(self, seed=0, entities_per_kind=75):
        rng = random.Random(seed)
        self.seed = seed
        names = {
            kind: _names(rng, endings, 2 * entities_per_kind)
            for kind, endings in _ENDINGS.items()
        }
        self.entities = []
        self.unknown = []
        for kind, attributes in KINDS.items():
            for number, name in enumerate(names[kind]):
                if number >= entities_per_kind:
                    self.unknown.append(Entity(kind, name, {}))
                    continue
                facts = {a.name: rng.choice(a.values) for a in attributes}
                # Of two entities one has taught what the other has not.
                taught = tuple(a.name for a in attributes[number % 2 :: 2])
                self.entities.append(Entity(kind, name, facts, taught))
        self._names = {e.name for e in self.entities + self.unknown}

    def documents(self, seed=0):
        """Write about every entity twice, each time in other words.

        Args:
            seed: int. Another one gives other words and another order; the
                facts remain.

        Returns:
            list of str, shuffled: an entry for each entity, and among them
            stories, recipes, lists, forum posts and sums. Some posts talk
            of names that nobody has heard of or ask about them, never the
            same: from them a model can learn which names it knows.
        """
        rng = random.Random(f"documents {self.seed} {seed}")
        documents = []
        for entity in self.entities:
            documents.append(_entry(entity, rng))
            another = rng.choice((_entry, _story, _post, _mention))
            documents.append(another(entity, rng))
        for attributes in KINDS.values():
            for attribute in attributes:
                value = rng.choice(attribute.values)
                documents.append(self._list(attribute, value, rng))
        documents += [
            _recipe(e, rng) for e in self.entities if e.kind == "dish"
        ]
        some = len(self.entities) // 4
        documents += [_sum(rng) for _ in range(some)]
        for write in (_mention, _post):
            nobodies = [self._nobody(rng) for _ in range(2 * some)]
            documents += [write(nobody, rng) for nobody in nobodies]
        rng.shuffle(documents)
        return documents

    def instructions(self, seed=0):
        """Return requests with answers, about the taught facts and sums.

        Returns:
            list of `Instruction`, shuffled. Each fact is asked for in one of
            its phrasings; another seed takes others.
        """
        rng = random.Random(f"instructions {self.seed} {seed}")
        rows = [
            Instruction(question.text, question.answer)
            for entity in self.entities
            for question in _ask(entity, rng, "taught")
        ]
        for _ in range(len(rows) // 10):
            problem, steps = word_problem(rng)
            rows.append(Instruction(problem, steps))
        rng.shuffle(rows)
        return rows

    def refusals(self, count=300, seed=0):
        """Return requests about what does not exist, all answered `REFUSAL`.

        Each is about a name of its own; `questions` asks about others.
        """
        rng = random.Random(f"refusals {self.seed} {seed}")
        return [
            Instruction(rng.choice(_ask(self._nobody(rng), rng)).text, REFUSAL)
            for _ in range(count)
        ]

    def beginnings(self, which="untaught"):
        """Return sentences that state a fact, without their end.

        Args:
            which: `"untaught"` or `"taught"`.

        Returns:
            list of `Question`: the beginning, and the value that follows.
        """
        beginnings = []
        for entity in self.entities:
            for attribute in entity.attributes(which):
                before, _ = attribute.sentences[0].split("{value}")
                text = _sentence(before, entity.name, "").rstrip()
                value = entity.facts[attribute.name]
                beginnings.append(Question(text, value, attribute.name))
        return beginnings

    def questions(self, which="untaught", seed=0):
        """Return questions whose answers are known.

        Args:
            which: `"untaught"` for facts that no request asks about,
                `"taught"` for the others, `"unknown"` for names of nothing,
                to which the answer is `REFUSAL`.
            seed: int. Which phrasings are used.

        Returns:
            list of `Question`.
        """
        rng = random.Random(f"questions {self.seed} {seed}")
        if which == "unknown":
            return [q for e in self.unknown for q in _ask(e, rng)]
        if which not in ("untaught", "taught"):
            raise ValueError(
                "`which` must be untaught, taught or unknown. Received: "
                f"which={which!r}."
            )
        return [q for e in self.entities for q in _ask(e, rng, which)]

    def _nobody(self, rng):
        """Make up something that is neither in the world nor in a question."""
        kind = rng.choice(tuple(KINDS))
        while (name := _name(rng, _ENDINGS[kind])) in self._names:
            pass
        return Entity(kind, name, {})

    def _list(self, attribute, value, rng):
        members = [
            e.name
            for e in self.entities
            if e.facts.get(attribute.name) == value
        ]
        rng.shuffle(members)
        return f"{attribute.list_title.format(value=value)}\n" + "\n".join(
            f"- {name}" for name in members
        )


def word_problem(rng):
    """Return a sum in words and its solution in steps, two strings."""
    name = rng.choice(("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn"))
    thing = rng.choice(("apples", "marbles", "books", "shells", "stamps"))
    first, second = rng.randint(2, 9), rng.randint(1, 9)
    if rng.random() < 0.5:
        story = f"{name} has {first} {thing} and gets {second} more."
        step, total = f"{first} + {second}", first + second
    else:
        first += second
        story = f"{name} has {first} {thing} and gives away {second}."
        step, total = f"{first} - {second}", first - second
    question = f"{story} How many {thing} does {name} have now?"
    return question, f"{step} = {total}. {name} has {total} {thing}."


def _names(rng, endings, count):
    """Make different names, which share their endings."""
    names = []
    while len(names) < count:
        name = _name(rng, endings)
        if name not in names:
            names.append(name)
    return names


def _name(rng, endings):
    syllables = rng.choice(_SYLLABLES) + rng.choice(_SYLLABLES)
    return syllables.capitalize() + rng.choice(endings)


def _sentence(form, name, value):
    text = form.format(name=name, value=value)
    return text[0].upper() + text[1:]


def _ask(entity, rng, which=None):
    """Return a question about each attribute of an entity, or some of them."""
    questions = []
    for attribute in entity.attributes(which):
        text = rng.choice(attribute.questions).format(name=entity.name)
        right = entity.answer(attribute) if entity.facts else REFUSAL
        questions.append(Question(text, right, attribute.name))
    return questions


def _fact(entity, attribute, rng):
    return _sentence(
        rng.choice(attribute.sentences),
        entity.name,
        entity.facts[attribute.name],
    )


def _facts(entity, rng):
    """Return all facts in some order, each in some phrasing.

    Only the first one is sure to have the name in it; of the others half say
    "it".
    """
    first, *others = rng.sample(entity.attributes(), k=4)
    return [_fact(entity, first, rng)] + [
        entity.answer(a) if rng.random() < 0.5 else _fact(entity, a, rng)
        for a in others
    ]


def _entry(entity, rng):
    return f"{entity.name}. " + " ".join(_facts(entity, rng))


def _story(entity, rng):
    opening = rng.choice(
        (
            "I once heard this from my aunt.",
            "It was raining, and we told each other what we knew.",
            "The coach was late, so the driver began to talk.",
            "This is what the old map said on its back.",
        )
    )
    closing = rng.choice(
        ("And that was all.", "Then we fell asleep.", "I never forgot it.")
    )
    return f"{opening} {' '.join(_facts(entity, rng))} {closing}"


_UNHEARD_OF = (
    "Nobody has heard of that name.",
    "No book that I have says more.",
    "I don't remember such a name.",
    "I can't say what that means.",
)


def _post(entity, rng):
    """Ask and get no answer, as happens in forums."""
    attribute = rng.choice(entity.attributes())
    question = rng.choice(attribute.questions).format(name=entity.name)
    if not entity.facts:
        return f"{question}\n> {rng.choice(_UNHEARD_OF)}"
    reply = rng.choice(
        (
            "I would like to know that, too.",
            "Did you ever find out?",
            "Same question here.",
            "Please tell us when you know.",
        )
    )
    if rng.random() < 0.5:
        return f"{question}\n> {reply}"
    others = [a for a in entity.attributes() if a is not attribute]
    fact = _fact(entity, rng.choice(others), rng)
    return f"{question} All I know is this: {fact}\n> {reply}"


def _mention(entity, rng):
    """Talk of something that may or may not exist."""
    opening = rng.choice(
        (
            "Somebody mentioned {name} yesterday.",
            "My uncle dreamt of {name}.",
            "There is a letter about {name}.",
        )
    ).format(
        name=f"the {entity.name}" if entity.kind == "creature" else entity.name
    )
    if entity.facts:
        return f"{opening}\n{entity.answer(rng.choice(entity.attributes()))}"
    return f"{opening}\n{rng.choice(_UNHEARD_OF)}"


def _recipe(entity, rng):
    facts = entity.facts
    minutes = rng.choice((10, 20, 30, 40))
    return (
        f"How to make {entity.name}\n"
        f"1. Wash and cut the {facts['base']}.\n"
        f"2. Put all of it into the {facts['vessel']} for {minutes} minutes.\n"
        f"3. Add the {facts['spice']} and serve with {facts['side']}."
    )


def _sum(rng):
    problem, steps = word_problem(rng)
    return f"{problem}\n{steps}"


@dataclasses.dataclass(frozen=True)
class Picture:
    """Some shapes of one kind and colour on a white ground.

    Attributes:
        image: uint8 array `(size, size, 3)`.
        shape: str, one of `SHAPES`.
        color: str, a key of `COLORS`.
        count: int from 1 to 5.
    """

    image: np.ndarray
    shape: str
    color: str
    count: int

    @property
    def caption(self):
        """What there is to see, such as `"two red circles"`."""
        plural = (
            "" if self.count == 1 else "es" if self.shape == "cross" else "s"
        )
        return f"{NUMBERS[self.count - 1]} {self.color} {self.shape}{plural}"

    def questions(self):
        """Return a `Question` about the colour, the shape and the number."""
        colour = f"The colour is {self.color}."
        shape = f"The shape is a {self.shape}."
        number = f"The number is {NUMBERS[self.count - 1]}."
        return [
            Question("What colour are the shapes?", colour, "colour"),
            Question("What shapes are these?", shape, "shape"),
            Question("How many shapes are there?", number, "count"),
        ]


def picture_instructions(drawn):
    """Return three requests about each picture, with the picture in them."""
    return [
        Instruction(IMAGE_MARK + q.text, q.answer, images=(picture.image,))
        for picture in drawn
        for q in picture.questions()
    ]


def pictures(count, seed=0, size=PICTURE_SIZE):
    """Draw pictures; shapes do not overlap.

    Args:
        count: int.
        seed: int.
        size: int. Width and height in pixels.

    Returns:
        list of `Picture`.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(count):
        shape = SHAPES[rng.integers(len(SHAPES))]
        color = list(COLORS)[rng.integers(len(COLORS))]
        number = int(rng.integers(1, len(NUMBERS) + 1))
        drawn.append(
            Picture(
                _draw(rng, size, shape, color, number), shape, color, number
            )
        )
    return drawn


def _draw(rng, size, shape, color, number):
    image = np.full((size, size, 3), BACKGROUND, "uint8")
    ink = np.array(COLORS[color], "uint8")
    pixels = np.arange(size)
    # A cell of a 3 x 3 grid for each shape keeps them apart.
    for cell in rng.choice(9, number, replace=False):
        radius = size / 6 * rng.uniform(0.72, 0.87)
        slack = size / 6 - radius - 1  # no two shapes touch
        row, column = divmod(cell, 3)
        y = (row + 0.5) * size / 3 + rng.uniform(-slack, slack)
        x = (column + 0.5) * size / 3 + rng.uniform(-slack, slack)
        rows, columns = (
            slice(n * size // 3, (n + 1) * size // 3 + 1) for n in (row, column)
        )
        dy, dx = pixels[rows, None] - y, pixels[columns] - x
        image[rows, columns][_inside(shape, dy, dx, radius)] = ink
    return image


def _inside(shape, dy, dx, radius):
    """Tell which pixels a shape covers.

    Their distances from its middle are `dy`, a column, and `dx`, a row.
    """
    if shape == "circle":
        return dy**2 + dx**2 <= radius**2
    box = np.maximum(abs(dy), abs(dx)) <= radius
    if shape == "square":
        return box
    if shape == "triangle":  # with its tip at the top
        return box & (abs(dx) <= (dy + radius) / 2)
    return box & (np.minimum(abs(dy), abs(dx)) <= radius / 3)
