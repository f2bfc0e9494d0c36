"""One comparison of two responses."""

import dataclasses
import math

from kerasllm.checks import UserError, check_list, check_real, check_text, shown
from kerasllm.instructions import Instruction


@dataclasses.dataclass(frozen=True)
class Preference:
    """Two responses to a prompt, of which one is preferred.

    Attributes:
        prompt: str. What is asked.
        chosen: str. The preferred response.
        rejected: str. The other response.
        margin: float, by how much the chosen response is better, or `None` if
            nobody said; see `kerasllm.tuning.reward_loss`.
        messages: tuple of pairs `(role, text)`, what was said before the
            prompt; as of an `Instruction`.

    Raises:
        UserError: a part is no string, or the margin is no finite number.

    Source: chapter 16, section 16.4.1.
    """

    prompt: str
    chosen: str
    rejected: str
    margin: float | None = None
    messages: tuple = ()

    def __post_init__(self):
        for part in ("prompt", "chosen", "rejected"):
            check_text(part, getattr(self, part), "Leave out pairs without it.")
        if self.margin is not None:
            check_real(
                "margin",
                self.margin,
                lambda margin: -math.inf < margin < math.inf,
                "a finite number or `None`",
                cure="Leave it out if nobody said how much better the chosen "
                "response is.",
            )
            object.__setattr__(self, "margin", float(self.margin))
        messages = Instruction(self.prompt, "", messages=self.messages).messages
        object.__setattr__(self, "messages", messages)

    def instructions(self):
        """Return both responses as instructions: the chosen one, the other."""
        return tuple(
            Instruction(self.prompt, response, messages=self.messages)
            for response in (self.chosen, self.rejected)
        )


def check_preferences(preferences, name="preferences"):
    """Refuse what is no `Preference`.

    Args:
        preferences: list.
        name: str. What the message calls them.

    Raises:
        UserError: one of them is something else.
    """
    for preference in check_list(name, preferences):
        if not isinstance(preference, Preference):
            raise UserError(
                f"Each of `{name}` must be a `Preference`. Received: "
                f"{shown(preference)}. Make one of it, as `read_preferences` "
                "does of the lines of a file."
            )
