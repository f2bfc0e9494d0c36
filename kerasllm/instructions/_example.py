"""One request and its answer."""

import dataclasses

from kerasllm.checks import UserError, check_list, check_text, shown
from kerasllm.images import list_images

_PAIRS = "a list of pairs (role, text)"


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A request and its answer.

    Attributes:
        instruction: str. What is asked.
        response: str. The answer to learn.
        context: str, a text that the request is about, or `None`.
        images: tuple of images, one for each `<start_of_image>` in the
            request, or one image; see `kerasllm.images.load_image`.
        messages: tuple of pairs `(role, text)`, what was said before the
            request: at most one `"system"` message, then `"user"` and
            `"model"` in turns. An example with messages has no context.

    Raises:
        UserError: a part is no string, or none that UTF-8 can write; or there
            are both messages and a context.
    """

    instruction: str
    response: str
    context: str | None = None
    images: tuple = dataclasses.field(default=(), compare=False)
    messages: tuple = ()

    def __post_init__(self):
        for part in ("instruction", "response", "context"):
            value = getattr(self, part)
            if value is not None or part != "context":
                # What a table lacks is None, or NaN, which is a float.
                check_text(part, value, "Leave out examples without it.")
        messages = tuple(
            _check_pair(pair)
            for pair in check_list("messages", self.messages, _PAIRS)
        )
        if messages and self.context is not None:
            raise UserError(
                "An example must have `messages` or a `context`, not both. "
                f"Received: context={shown(self.context)}. Make it part of "
                "the request."
            )
        object.__setattr__(self, "messages", messages)
        object.__setattr__(self, "images", tuple(list_images(self.images)))


def _check_pair(pair):
    """Return a message, a pair of a role and a text, after checking it."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise UserError(
            f"`messages` must be {_PAIRS}. Received: one that is "
            f'{shown(pair)}. Write ("user", "What is said").'
        )
    for text in pair:
        check_text("messages", text, "Each of them must have text.")
    return tuple(pair)


def check_examples(examples, name="examples"):
    """Refuse what is no `Instruction`.

    Args:
        examples: list.
        name: str. What the message calls them.

    Raises:
        UserError: one of them is something else.
    """
    for example in examples:
        if not isinstance(example, Instruction):
            raise UserError(
                f"Each of `{name}` must be an `Instruction`. Received: "
                f"{shown(example)}. Make one of it, as `read_jsonl` does of "
                "the lines of a file."
            )
