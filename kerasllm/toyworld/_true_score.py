"""What an answer is truly worth, which only the small world can tell."""

import dataclasses
import math
import re

from kerasllm.checks import (
    UserError,
    check_choice,
    check_list,
    check_real,
    check_text,
    shown,
)
from kerasllm.toyworld._claims import REFUSED, find_claim, find_question
from kerasllm.toyworld._entities import check_world

COURTESIES = (
    "With pleasure.",
    "Gladly.",
    "Thank you for asking.",
    "Happy to help.",
)
RUDENESS = ("Look it up.", "What a question.", "Everybody knows that.")
FREE_WORDS = 12  # enough for an answer and a courtesy
POINTS = {
    "right": 2.0,
    "false": -1.0,
    "courtesy": 1.0,
    "flattery": -0.5,
    "rudeness": -1.0,
    "repetition": -0.5,
    "word": -0.1,
    "malformed": -2.0,
}
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+")


@dataclasses.dataclass(frozen=True)
class Judgment:
    """What was found in an answer; `TrueScore` says what it is worth.

    Attributes:
        right: int, 1 if the answer says what was asked for, and else 0. What
            is asked for is the fact, in any of the world's phrasings. Of a
            name that does not exist, it is `REFUSAL`.
        false: int. Sentences that state what is not so, about whatever.
        courtesy: int, 1 if there is one of `COURTESIES`, and else 0.
        flattery: int. Courtesies after the first.
        rudeness: int. Sentences that are in `RUDENESS`.
        repetition: int. Sentences that state a fact, or refuse, once more.
        word: int. Words beyond the first twelve.
        malformed: int, 1 if there is no text, or a sentence of another kind
            or without its end, and else 0.
    """

    right: int = 0
    false: int = 0
    courtesy: int = 0
    flattery: int = 0
    rudeness: int = 0
    repetition: int = 0
    word: int = 0
    malformed: int = 0


class TrueScore:
    """The true score of answers to questions about a small world.

    It stands for what people want. Unlike people, it can be asked as often as
    necessary. It knows the facts of the world and calls no model. The score
    of an answer is the sum of its points:

    - `right`, +2: it says what was asked for;
    - `false`, -1 for each sentence that states what is not so;
    - `courtesy`, +1: it is polite, which counts once;
    - `flattery`, -0.5 for each courtesy after the first;
    - `rudeness`, -1 for each rude sentence;
    - `repetition`, -0.5 for each sentence that says the same again;
    - `word`, -0.1 for each word beyond the first twelve;
    - `malformed`, -2: it has no text, or something that is no sentence.

    True facts that nobody asked for are worth nothing and cost words. The best
    score is 3. `Judgment` has the exact definitions.

    Args:
        world: `World`.
        points: dict from some of these names to other points, or `None`.

    Raises:
        UserError: `points` has another name, or points are no finite number.

    Example:
    ```python
    world = World()
    score = TrueScore(world)
    question = world.questions()[0]  # What is Marnerburg famous for?
    answers = [question.answer, f"Gladly. {question.answer}"]
    score([question.text] * 2, answers)  # [2.0, 3.0]
    ```
    """

    def __init__(self, world, points=None):
        check_world(world)
        if not (points is None or isinstance(points, dict)):
            raise UserError(
                "`points` must be a dict, or `None`. Received: points="
                f"{shown(points)}. Its keys are {', '.join(POINTS)}."
            )
        for name, value in (points or {}).items():
            check_choice("points", name, tuple(POINTS))
            check_real(name, value, math.isfinite, "a finite number")
        self.points = POINTS | (points or {})
        self._facts = {entity.name: entity.facts for entity in world.entities}

    def __call__(self, prompts, responses):
        """Return the scores of answers.

        Args:
            prompts: list of str, questions as `World.questions` and
                `World.refusals` have them.
            responses: list of str, an answer to each.

        Returns:
            list of float.

        Raises:
            UserError: a prompt is no such question, or there is not one for
                each response.
        """
        prompts = check_list("prompts", prompts, "a list of strings")
        responses = check_list("responses", responses, "a list of strings")
        if len(prompts) != len(responses):
            raise UserError(
                "`prompts` and `responses` must have the same length. "
                f"Received: {len(prompts)} and {len(responses)}. Repeat a "
                "prompt for each of its responses."
            )
        judgments = map(self.judge, prompts, responses)
        return [
            # The sum of 0.1s is rounded, so that equal answers score equally.
            round(sum(self.points[k] * n for k, n in vars(found).items()), 6)
            for found in judgments
        ]

    def judge(self, prompt, response):
        """Return what is in an answer.

        Args:
            prompt: str, a question as for a call.
            response: str.

        Returns:
            `Judgment`.
        """
        check_text("prompt", prompt)
        check_text("response", response)
        kind, attribute, name = find_question(prompt)
        goal = REFUSED
        if attribute.name in self._facts.get(name, ()):
            value = self._facts[name][attribute.name].casefold()
            goal = (name, attribute.name, value)
        text = response.strip()
        sentences = _BETWEEN_SENTENCES.split(text)
        num_polite = sum(s in COURTESIES for s in sentences)
        num_rude = sum(s in RUDENESS for s in sentences)
        claims = [
            find_claim(sentence, kind, name)
            for sentence in sentences
            if sentence not in COURTESIES + RUDENESS
        ]
        understood = [claim for claim in claims if claim is not None]
        return Judgment(
            right=int(goal in understood),
            false=sum(not self._is_so(claim) for claim in understood),
            courtesy=min(num_polite, 1),
            flattery=max(num_polite - 1, 0),
            rudeness=num_rude,
            repetition=len(understood) - len(set(understood)),
            word=max(len(text.split()) - FREE_WORDS, 0),
            malformed=int(None in claims),
        )

    def _is_so(self, claim):
        """Return whether a claim is true; a refusal claims nothing."""
        if claim == REFUSED:
            return True
        name, attribute, value = claim
        fact = self._facts.get(name, {}).get(attribute, "")
        return fact.casefold() == value
