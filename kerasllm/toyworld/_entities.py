"""The things of the small world, their names, and questions about them."""

import dataclasses

from kerasllm.checks import UserError, check_choice, shown
from kerasllm.toyworld._attributes import KINDS

REFUSAL = "I don't know."

# 750 syllables: two names rarely share one, so a model can tell a name that it
# has read from one that it has not. With 40 syllables all looked familiar.
_ONSETS = "b br c d dr f g gl h j k kr l m n p pl r s st t tr v w z".split()
_CODAS = ("l", "ld", "n", "nd", "r", "s")
_SYLLABLES = [
    onset + vowel + coda
    for onset in _ONSETS
    for vowel in "aeiou"
    for coda in _CODAS
]
_ENDINGS = {
    "town": ("burg", "ford", "stead", "wick"),
    "person": ("a", "o", "in", "eth"),
    "creature": ("ling", "mouse", "bird", "fox"),
    "dish": ("stew", "pie", "cake", "soup"),
}


@dataclasses.dataclass(frozen=True)
class Entity:
    """A thing that exists in the world, or a name that belongs to nothing.

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

        Raises:
            UserError: `which` is something else.
        """
        if which is None:
            return KINDS[self.kind]
        check_choice("which", which, ("taught", "untaught"))
        wanted = which == "taught"
        return [
            a for a in KINDS[self.kind] if (a.name in self.taught) == wanted
        ]

    def answer(self, attribute):
        """Return the answer to a question about an attribute, a sentence.

        The answer says `"It"` instead of the name, so that a model has to know
        only the fact.
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
        answer: str. The only answer that counts as exact.
        kind: str. What it is about, for averages.
    """

    text: str
    answer: str
    kind: str


def name_entity(kind, rng):
    """Make up a name, which tells its kind by its ending."""
    syllables = rng.choice(_SYLLABLES) + rng.choice(_SYLLABLES)
    return syllables.capitalize() + rng.choice(_ENDINGS[kind])


def name_entities(kind, rng, count):
    """Make up different names for things of one kind."""
    names = []
    while len(names) < count:
        name = name_entity(kind, rng)
        if name not in names:
            names.append(name)
    return names


def ask_about(entity, rng, which=None):
    """Return a question about each attribute of an entity, or some of them."""
    questions = []
    for attribute in entity.attributes(which):
        text = rng.choice(attribute.questions).format(name=entity.name)
        answer = entity.answer(attribute) if entity.facts else REFUSAL
        questions.append(Question(text, answer, attribute.name))
    return questions


def check_world(world):
    """Refuse what is no `World`.

    Raises:
        UserError: it has no entities.
    """
    if not hasattr(world, "entities"):
        raise UserError(
            f"`world` must be a `World`. Received: world={shown(world)}. Write "
            "`World()`."
        )
