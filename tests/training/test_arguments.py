"""What every run takes is checked before any of its work begins."""

import keras
import pytest

from kerasllm.checks import UserError
from kerasllm.training import check_run

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, (), 0), "`directory` must be a str or a path. Received: directo"),
        ((b"run", (), 0), "`directory` must be"),
        (("", (), 0), "`directory` must be"),
        (("a\0b", (), 0), "`directory` must be"),
        ((None, 3, 0), "`callbacks` must be a list. Received: callbacks=3"),
        ((None, [3], 0), "Each of `callbacks` must be.*Received: 3. Pass"),
        (
            (None, [keras.callbacks.EarlyStopping], 0),
            "Each of `callbacks` must be.*not its class",
        ),
        ((None, (), "loud"), "`verbose` must be one of 'auto', 0, 1, 2. Rec"),
        ((None, (), 3), "`verbose` must be"),
        ((None, (), None), "`verbose` must be"),
        ((None, (), [1, 2]), "`verbose` must be"),
    ],
)
def test_what_a_run_cannot_take(arguments, message):
    with pytest.raises(UserError, match=message):
        check_run(*arguments)


def test_a_run_takes_callbacks_as_keras_does(tmp_path):
    callback = keras.callbacks.Callback()
    for given, expected in (
        (None, []),
        (callback, [callback]),
        ((callback,), [callback]),
        (iter([callback]), [callback]),
    ):
        assert check_run(None, given, "auto") == (None, expected)
    for verbose in (0, 1, 2, True, False):
        assert check_run(str(tmp_path), [], verbose) == (tmp_path, [])
