"""The arrays that losses take."""

from keras import ops

from kerasllm.checks import check_numbers


def float_tensor(name, array):
    """Return an array as a float32 tensor.

    Args:
        name: str. Name of the argument, for the message.
        array: tensor, array, number, or a list of these.

    Raises:
        UserError: it is none of these, such as a list of strings.
    """
    if not _has_tensors(array):
        array = check_numbers(name, array).astype("float32")
    return ops.cast(ops.convert_to_tensor(array), "float32")


def _has_tensors(array):
    """Return whether an array is a tensor, or a list with tensors.

    While a step is compiled, the numbers of a tensor are not known.
    """
    if isinstance(array, list | tuple):
        return any(map(_has_tensors, array))
    return ops.is_tensor(array)


def fits(shape, expected):
    """Return whether two shapes are equal, as far as they are known."""
    return len(shape) == len(expected) and all(
        None in sizes or len(set(sizes)) == 1
        for sizes in zip(shape, expected, strict=True)
    )
