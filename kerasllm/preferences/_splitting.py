"""Held-out preferences: no prompt is on both sides."""

from kerasllm.checks import check_list
from kerasllm.instructions import split_examples
from kerasllm.preferences._preference import check_preferences


def split_preferences(preferences, validation_fraction=0.1, seed=0):
    """Hold out some of the preferences, before anything is shuffled.

    A hash of the prompt decides where a pair goes, so all pairs with a prompt
    are on the same side. If something was said before the prompt, the first
    request of the conversation decides instead. Otherwise, a reward model
    could recognize on the held-out side a response that it has been trained
    on: in the pairs of one ranking, each response occurs several times.

    Args:
        preferences: list of `Preference`.
        validation_fraction: float in `(0, 1)`. The fraction of the prompts
            that is held out, approximately.
        seed: int. Another one holds out others.

    Returns:
        Two lists of `Preference`: to train on, and held out.

    Raises:
        UserError: the fraction is out of range, one of the preferences is
            something else, or one side would be empty.
    """
    preferences = check_list("preferences", preferences)
    check_preferences(preferences)
    asked = [preference.instructions()[0] for preference in preferences]
    _, held_out = split_examples(asked, validation_fraction, seed)
    prompts = {(example.messages, example.instruction) for example in held_out}
    sides = [], []
    for preference in preferences:
        prompt = preference.messages, preference.prompt
        sides[prompt in prompts].append(preference)
    return sides
