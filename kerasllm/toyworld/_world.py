"""The world: the things in it, and the texts and questions about them."""

import math
import random

from kerasllm.checks import (
    check_choice,
    check_int,
    check_positive_ints,
)
from kerasllm.instructions import Instruction
from kerasllm.toyworld import _texts
from kerasllm.toyworld._attributes import KINDS
from kerasllm.toyworld._entities import (
    REFUSAL,
    Entity,
    Question,
    ask_about,
    name_entities,
    name_entity,
)


class World:
    """An invented world, determined by one seed.

    Args:
        seed: int of at least 0.
        entities_per_kind: positive int. Half of the facts about each entity
            are taught, which means that requests for training are about them.

    Attributes:
        entities: list of `Entity`, the things that exist.
        unknown: list of `Entity`, as many names that do not exist.

    Raises:
        UserError: an argument is no such int.
    """

    def __init__(self, seed=0, entities_per_kind=75):
        self.seed = check_int("seed", seed, 0, math.inf)
        check_positive_ints(entities_per_kind=entities_per_kind)
        rng = random.Random(self.seed)
        names = {
            kind: name_entities(kind, rng, 2 * entities_per_kind)
            for kind in KINDS
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
        """Return documents that describe every entity twice.

        Args:
            seed: int of at least 0. It determines the words and the order, and
                not the facts.

        Returns:
            list of str, shuffled: an entry for each entity, and also stories,
            recipes, lists, forum posts, and sums. Some posts mention names
            that do not exist, or ask about them, each name only once. From
            these, a model can learn which names it knows.
        """
        rng = self._random("documents", seed)
        documents = []
        for entity in self.entities:
            documents.append(_texts.write_entry(entity, rng))
            write = rng.choice(
                (
                    _texts.write_entry,
                    _texts.write_story,
                    _texts.write_post,
                    _texts.write_mention,
                )
            )
            documents.append(write(entity, rng))
        for attributes in KINDS.values():
            for attribute in attributes:
                value = rng.choice(attribute.values)
                documents.append(
                    _texts.write_list(self.entities, attribute, value, rng)
                )
        documents += [
            _texts.write_recipe(e, rng)
            for e in self.entities
            if e.kind == "dish"
        ]
        some = len(self.entities) // 4
        documents += [_texts.write_sum(rng) for _ in range(some)]
        for write in (_texts.write_mention, _texts.write_post):
            nobodies = [self._nobody(rng) for _ in range(2 * some)]
            documents += [write(nobody, rng) for nobody in nobodies]
        rng.shuffle(documents)
        return documents

    def instructions(self, seed=0):
        """Return requests with answers about the taught facts and about sums.

        Args:
            seed: int of at least 0. It determines the phrasings and the order.

        Returns:
            list of `Instruction`, shuffled. Each request uses one phrasing of
            its fact; other seeds use others.
        """
        rng = self._random("instructions", seed)
        examples = [
            Instruction(question.text, question.answer)
            for entity in self.entities
            for question in ask_about(entity, rng, "taught")
        ]
        for _ in range(len(examples) // 10):
            problem, steps = _texts.word_problem(rng)
            examples.append(Instruction(problem, steps))
        rng.shuffle(examples)
        return examples

    def refusals(self, count=300, seed=0):
        """Return requests about names that do not exist, answered `REFUSAL`.

        Each request has a name of its own, and `questions` asks about other
        names.

        Args:
            count: int of at least 0.
            seed: int of at least 0.

        Returns:
            list of `Instruction`.
        """
        rng = self._random("refusals", seed)
        return [
            Instruction(
                rng.choice(ask_about(self._nobody(rng), rng)).text, REFUSAL
            )
            for _ in range(check_int("count", count, 0))
        ]

    def prefixes(self, which="untaught"):
        """Return sentences that state a fact, cut off before its value.

        Args:
            which: `"untaught"` or `"taught"`.

        Returns:
            list of `Question`: the prefix, and the value that follows.
        """
        prefixes = []
        for entity in self.entities:
            for attribute in entity.attributes(which):
                before, _ = attribute.sentences[0].split("{value}")
                text = _texts.state(before, entity.name, "").rstrip()
                value = entity.facts[attribute.name]
                prefixes.append(Question(text, value, attribute.name))
        return prefixes

    beginnings = prefixes  # the name in the first version

    def questions(self, which="untaught", seed=0):
        """Return questions whose answers are known.

        Args:
            which: `"untaught"` for held-out facts, which no request asks
                about; `"taught"` for the others; `"unknown"` for names that do
                not exist, to which the answer is `REFUSAL`.
            seed: int of at least 0. It determines the phrasings.

        Returns:
            list of `Question`.

        Raises:
            UserError: `which` is something else.
        """
        rng = self._random("questions", seed)
        check_choice("which", which, ("untaught", "taught", "unknown"))
        if which == "unknown":
            return [q for e in self.unknown for q in ask_about(e, rng)]
        return [q for e in self.entities for q in ask_about(e, rng, which)]

    def _random(self, purpose, seed):
        """Return random numbers of their own for each purpose and seed."""
        seed = check_int("seed", seed, 0, math.inf)
        return random.Random(f"{purpose} {self.seed} {seed}")

    def _nobody(self, rng):
        """Make up something that is neither in the world nor in a question."""
        kind = rng.choice(tuple(KINDS))
        while (name := name_entity(kind, rng)) in self._names:
            pass
        return Entity(kind, name, {})
