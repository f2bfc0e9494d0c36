"""The response-only loss mask: only the tokens of a response are learned.

The request is read, for the response depends on it, but it weighs nothing in
the loss: the model is to answer requests, not to write them.
"""

from kerasllm.backend import tf


def mask_prompt(token_ids, prompt_length):
    """Return what `fit` takes of an example, with the prompt masked.

    Args:
        token_ids: int32 tensor `(length + 1,)`, the prompt and the response.
        prompt_length: int32 scalar tensor. Where the response begins.

    Returns:
        `(x, y, sample_weight)`: `x` a dict of the `token_ids` but for the last
        and a bool `padding_mask`, `y` the tokens that follow each of them, and
        `sample_weight`, float32, 1 where such a token is the response's and 0
        where it is the prompt's; each `(length,)`.

    Source: chapter 16, "Instruction fine-tuning", listing 16.12.
    """
    x = {
        "token_ids": token_ids[:-1],
        "padding_mask": tf.ones_like(token_ids[:-1], "bool"),
    }
    positions = tf.range(1, tf.shape(token_ids)[0])  # those of `y`
    sample_weight = tf.cast(positions >= prompt_length, "float32")
    return x, token_ids[1:], sample_weight
