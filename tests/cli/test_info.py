import importlib.metadata
import importlib.util

import keras

from kerasllm import recipes


def test_info_names_versions_backend_and_recipes(run):
    status, out, _ = run("info")
    assert status == 0
    for package in ("kerasllm", "keras", "keras-hub", "jax", "tensorflow"):
        version = importlib.metadata.version(package)
        assert f"{package:13} {version}" in out
    assert f"backend       {keras.config.backend()}" in out
    for name, recipe in recipes.RECIPES.items():
        assert f"{name}: vocabulary {recipe.vocabulary_size:,}" in out
