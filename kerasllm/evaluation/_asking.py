"""Asking many questions in batches that fit into memory."""

from kerasllm.checks import (
    UserError,
    accept_former_names,
    check_callable,
    check_list,
    check_positive_ints,
)
from kerasllm.checks import shown as show
from kerasllm.images import IMAGE_TOKEN

MAX_LENGTH = 64  # enough for a question about the small world and its answer


@accept_former_names(gemma="chat_model")
def ask_all(
    chat_model, questions, shown=None, max_length=MAX_LENGTH, batch_size=64
):
    """Return the answers to many questions.

    Args:
        chat_model: a `Gemma`, or anything else whose method
            `ask(questions, images=None, max_length=None)` takes a list of str
            and returns a list of str.
        questions: list of `toyworld.Question`.
        shown: list of `toyworld.Picture`, one for each question, or `None`.
        max_length: int. Tokens of question and answer together.
        batch_size: int. Questions answered at once. Images take most of the
            memory: in a vision encoder with 4,096 patches, each attention
            layer scores all pairs of them.

    Returns:
        list of str, in the order of the questions.

    Raises:
        UserError: a size is not a positive int, or there is not one picture
            for each question.
    """
    if not hasattr(chat_model, "ask"):
        raise UserError(
            "`chat_model` must have a method `ask`. Received: "
            f"{show(chat_model)}. A `ChatModel` has."
        )
    questions = check_list("questions", questions)
    for question in questions:
        if not hasattr(question, "text"):
            raise UserError(
                "Each of `questions` must have a `text`. Received: "
                f"{show(question)}. A `toyworld.Question` has."
            )
    if shown is None:
        return in_batches(
            lambda batch: chat_model.ask(
                [question.text for question in batch], max_length=max_length
            ),
            questions,
            batch_size,
        )
    questions, shown = check_pairs(questions=questions, shown=shown)
    return in_batches(
        lambda batch: chat_model.ask(
            [IMAGE_TOKEN + question.text for question, _ in batch],
            [[picture.image] for _, picture in batch],
            max_length=max_length,
        ),
        list(zip(questions, shown, strict=True)),
        batch_size,
    )


def in_batches(function, items, batch_size=64):
    """Return what `function` gives for batches of a list, as one list.

    Args:
        function: callable from a list of items to a list of results.
        items: list.
        batch_size: int. The last batch may be smaller.

    Raises:
        UserError: `batch_size` is not a positive int.
    """
    check_positive_ints(batch_size=batch_size)
    check_callable("function", function)
    items = check_list("items", items)
    batches = [
        items[i : i + batch_size] for i in range(0, len(items), batch_size)
    ]
    return [result for batch in batches for result in function(batch)]


def check_pairs(**lists):
    """Return two values as lists, or refuse those of different lengths."""
    (one, first), (other, second) = (
        (name, check_list(name, value)) for name, value in lists.items()
    )
    if len(first) != len(second):
        raise UserError(
            f"`{one}` and `{other}` must have the same length. Received: "
            f"{len(first)} and {len(second)}. Give one for each of the other."
        )
    return first, second


def check_hashable(name, values):
    """Refuse values that cannot be counted, such as lists."""
    for value in values:
        try:
            hash(value)
        except TypeError as error:
            raise UserError(
                f"`{name}` must be hashable, such as numbers or strings. "
                f"Received: {show(value)} ({error}). Make a tuple of a list, "
                "for example."
            ) from error
