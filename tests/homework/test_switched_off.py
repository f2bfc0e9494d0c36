"""Ready-made attention and normalization are out of reach in homework 2."""

import subprocess
import sys

import pytest

from kerasllm import homework

NAME = "hw2_the_decoder"
# Ways to get at what is to be written: `q` is an array, `t` a tensor.
WAYS = """
keras.layers.MultiHeadAttention(2, 4)
keras.layers.GroupQueryAttention(4, 2, 1)
keras.layers.Attention()
keras.layers.AdditiveAttention()
keras.layers.LayerNormalization()
keras.layers.RMSNormalization()
keras.layers.BatchNormalization()
keras.layers.GroupNormalization()
keras.layers.UnitNormalization()
type("Mine", (keras.layers.LayerNormalization,), {})()
keras.ops.dot_product_attention(q, q, q)
keras.ops.nn.dot_product_attention(q, q, q)
keras.src.ops.nn.dot_product_attention(q, q, q)
keras.src.backend.nn.dot_product_attention(q, q, q)
keras.ops.layer_normalization(q)
keras.ops.rms_normalization(q)
keras.ops.batch_normalization(q, 0, 1, -1)
getattr(keras.layers, "Multi" + "HeadAttention")(2, 4)
getattr(keras.ops, "dot_product_" + "attention")(q, q, q)
vars(keras.layers)["Atten" + "tion"]()
keras.ops.__dict__["layer_" + "normalization"](q)
operator.attrgetter("layers.RMS" + "Normalization")(keras)()
eval("keras.layers.Layer" + "Normalization()")
importlib.import_module("keras.src.layers.attention.attention").Attention()
keras.layers.deserialize({"module": "keras.layers", **named})
"""
OF_BACKEND = {
    "torch": """
torch.nn.functional.scaled_dot_product_attention(t, t, t)
getattr(torch.nn.functional, "layer_" + "norm")(t, (4,))
torch.nn.functional.rms_norm(t, (4,))
torch.layer_norm(t, (4,))
torch.nn.LayerNorm(4)
torch.nn.MultiheadAttention(4, 2)
torch.nn.modules.activation.MultiheadAttention(4, 2)
""",
    "jax": """
jax.nn.dot_product_attention(q, q, q)
jax.nn.standardize(q)
""",
    "tensorflow": """
tensorflow.nn.batch_normalization(q, 0, 1, 0, 1, 1e-5)
tensorflow.keras.layers.LayerNormalization()
""",
}
# Is given the cell and the ways; prints which of them is not refused.
PROGRAM = """
import importlib, operator, sys
import keras
import numpy as np
backend = keras.backend.backend()
globals()[backend] = importlib.import_module(backend)
q = np.ones((1, 3, 2, 4), "float32")
t = keras.ops.convert_to_tensor(q)
named = {"class_name": "LayerNormalization", "config": {}}
exec(sys.argv[1])
for way in filter(None, sys.argv[2].splitlines()):
    try:
        eval(way)
    except Exception as error:
        assert "switched off" in str(error), (way, error)
    else:
        print("not refused:", way)
for other in {"jax", "tensorflow", "torch"} - {backend}:
    try:
        importlib.import_module(other)
    except ImportError:
        continue
    if other not in before:
        print("not refused:", other)
x = keras.ops.softmax(keras.ops.matmul(t, keras.ops.transpose(t, (0, 1, 3, 2))))
assert keras.ops.convert_to_numpy(x).shape == (1, 3, 2, 2)
"""


@pytest.mark.slow
def test_ready_made_attention_and_normalization_refuse_to_work():
    """By whichever name or way they are found; everything else works."""
    import keras

    source = homework.read_source(homework.sources()[NAME])
    (cell,) = [cell for cell in source.cells if cell.id == "switch_off"]
    ways = WAYS + OF_BACKEND[keras.backend.backend()]
    program = PROGRAM.replace(
        "exec(sys", "before = set(sys.modules)\nexec(sys", 1
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, cell.source, ways.strip()],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "", ran.stdout


@pytest.mark.any_backend
def test_a_process_without_keras_is_left_alone():
    source = homework.read_source(homework.sources()[NAME])
    (cell,) = [cell for cell in source.cells if cell.id == "switch_off"]
    program = "import sys; exec(sys.argv[1]); print('keras' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program, cell.source],
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "False\n", ran.stderr
