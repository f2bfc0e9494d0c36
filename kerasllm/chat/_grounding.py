"""Answers from passages that a store has found for a question."""

import dataclasses
import math

from kerasllm.chat._support import cited_in, find_support
from kerasllm.checks import (
    UserError,
    check_choice,
    check_int,
    check_list,
    check_real,
    check_text,
    shown,
)
from kerasllm.generation import TokenizedPrompt, check_prompt

CANNOT_TELL = "I cannot tell from the context."
# Of an answer, if nobody says how long it may be: it should be brief.
LONGEST_ANSWER = 256
UNSUPPORTED = "[?]"  # after a sentence whose claim is in no passage
# What models write that do not know, in small letters.
_REFUSALS = (
    *("i cannot tell", "i can't tell", "i cannot answer", "i can't answer"),
    *("i don't know", "i do not know"),
)


class Answer(str):
    """An answer from the passages of a store: a str with its evidence.

    It reads as the model wrote it, and after each sentence stands the number
    of the passage that has its claim, such as `[1]`, or `[?]` if none has.

    Attributes:
        text: str. What the model wrote, without these numbers. Empty if it
            was not asked, because no passage is close enough.
        passages: tuple of the passages that the model has read, the best
            first. `[1]` is the first of them. Those of a
            `kerasllm.retrieval.Store` have `id`, `text`, `source` and
            `offsets`.
        citations: tuple of the passages that are cited, each once.
        unsupported: tuple of str, the sentences whose claim is in no passage.
        refused: bool. Whether the answer is that the context does not tell.
    """

    def __new__(
        cls, marked, text="", passages=(), citations=(), unsupported=(),
        refused=False,
    ):  # fmt: skip
        answer = super().__new__(cls, marked)
        answer.text = text
        answer.passages = tuple(passages)
        answer.citations = tuple(citations)
        answer.unsupported = tuple(unsupported)
        answer.refused = refused
        return answer

    def __getnewargs__(self):
        return (
            str(self), self.text, self.passages, self.citations,
            self.unsupported, self.refused,
        )  # fmt: skip

    @classmethod
    def of(cls, text, question, passages):
        """Return what a model wrote, with citations.

        Args:
            text: str. The model may cite passages by itself. Where the claim
                is in another one, the citation is corrected.
            question: str.
            passages: sequence of the passages that it has read.
        """
        if is_refusal(text):
            return cls(CANNOT_TELL, text, passages, refused=True)
        texts = [passage.text for passage in passages]
        marked, cited, unsupported, plain = "", {}, [], ""
        for sentence, separator, named in cited_in(text):
            number = find_support(sentence, texts, question, named)
            mark = "" if number is None else f" [{number}]"
            if number == 0:
                mark = f" {UNSUPPORTED}"
                unsupported.append(sentence)
            elif number:
                cited[number] = passages[number - 1]
            marked += sentence + mark + separator
            plain += sentence + separator
        return cls(marked, plain, passages, cited.values(), unsupported)


@dataclasses.dataclass(frozen=True)
class _Text:
    """A passage of a store that is a function, and returns bare texts."""

    id: str
    text: str


@dataclasses.dataclass(frozen=True)
class Search:
    """How passages are found; see `ChatModel.ask` for the attributes."""

    store: object
    k: int
    mode: str
    max_distance: float | None

    def __post_init__(self):
        if not callable(getattr(self.store, "search", self.store)):
            raise UserError(
                "`store` must have a method `search`, or be a function from a "
                f"question to passages. Received: {shown(self.store)}. Open "
                "one with `kerasllm.Store(path, embedder)`."
            )
        check_int("k", self.k, 1)
        check_choice("mode", self.mode, ("vector", "bm25", "hybrid"))
        if self.max_distance is not None:
            check_real(
                "max_distance",
                self.max_distance,
                lambda value: 0 <= value <= 2,
                "a cosine distance in [0, 2]",
                cure="None always asks the model.",
            )

    def passages(self, question):
        """Return the passages for a question: a list, empty if all are far."""
        search = getattr(self.store, "search", None)
        if search is None:
            found = list(self.store(question))[: self.k]
            found = [
                _Text(str(number), passage)
                if isinstance(passage, str)
                else passage
                for number, passage in enumerate(found, 1)
            ]
            nearest = found
        else:
            found = nearest = search(question, k=self.k, mode=self.mode)
            if self.max_distance is not None and self.mode != "vector":
                nearest = search(question, k=1, mode="vector")
        if self.max_distance is not None and self._is_far(nearest):
            return []
        return found

    def _is_far(self, hits):
        """Return whether the best of a search by vectors is too far."""
        score = getattr(hits[0], "score", None) if hits else -1.0
        if score is None:
            raise UserError(
                "`max_distance` must come with a store whose passages have a "
                "`score`, their cosine similarity. Received: passages "
                "without. Leave it out."
            )
        return 1 - score > self.max_distance


def context_prompt(question, texts):
    """Return the chapter's prompt for an answer from passages.

    Args:
        question: str.
        texts: list of str, the passages, which are numbered from 1 on.

    Returns:
        str. A chat model puts its template around it.

    Source: section 16.4.3 of the chapter.
    """
    check_text("question", question)
    texts = check_list("texts", texts, "a list of strings")
    context = "".join(
        f"Context [{number}]: {text}\n" for number, text in enumerate(texts, 1)
    )
    return (
        "Use the following pieces of context to answer the question.\n"
        f"Question: {question}\n{context}Answer:"
    )


def ask_with_store(model, questions, search, max_length, **options):
    """Return the answers of a model from the passages for each question.

    Args:
        model: `ChatModel`.
        questions: list of str.
        search: `Search`.
        max_length: int or `None`.
        **options: passed on to `ChatModel._answers`.

    Returns:
        list of `Answer`.
    """
    found, prompts = [], []
    for question in questions:
        check_prompt(question)
        passages = search.passages(question)
        if passages:
            prompt, passages = fit(model, question, passages, max_length)
            prompts.append(prompt)
        found.append(passages)
    if max_length is None:
        max_length = min(
            model.causal_lm.preprocessor.sequence_length,
            max((len(prompt.token_ids) for prompt in prompts), default=0)
            + LONGEST_ANSWER,
        )
    texts = iter(model._answers(prompts, max_length, **options))
    return [
        Answer.of(next(texts), question, passages)
        if passages
        else Answer(CANNOT_TELL, refused=True)
        for question, passages in zip(questions, found, strict=True)
    ]


def fit(model, question, passages, max_length=None):
    """Return a prompt with as many whole passages as leave room to answer.

    Args:
        model: `ChatModel`.
        question: str.
        passages: list, the best first. The last ones are left out.
        max_length: int. Tokens of prompt and answer, of which a quarter
            belongs to the answer. `None` for as many as the model takes.

    Returns:
        `(prompt, passages)`: a `TokenizedPrompt`, and those passages that are
        in it.

    Raises:
        UserError: not even one passage fits.
    """
    if max_length is None:
        max_length = model.causal_lm.preprocessor.sequence_length
    longest = max_length - math.ceil(max_length / 4)
    for count in range(len(passages), 0, -1):
        texts = [passage.text for passage in passages[:count]]
        # No image, and no special token: all of it is somebody's text.
        segments = model.template.prompt_segments(
            context_prompt(question, texts)
        )
        prompt = TokenizedPrompt(model._encode(segments))
        if len(prompt.token_ids) <= longest:
            return prompt, passages[:count]
    raise UserError(
        "A question and its best passage must leave a quarter of `max_length` "
        f"for the answer. Received: {len(prompt.token_ids)} tokens for "
        f"max_length={max_length}. Index with fewer tokens in a chunk, or "
        "raise `max_length`."
    )


def is_refusal(text):
    """Return whether a model writes that it cannot answer."""
    plain = text.strip().casefold().replace("’", "'")
    return not plain or plain.startswith(_REFUSALS)
