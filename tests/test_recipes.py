"""Recipes: the sizes of the chapter, found by name, also where they were."""

import dataclasses
import pickle

import pytest

from kerasllm import models, recipes
from kerasllm.checks import UserError
from kerasllm.recipes import RECIPES, Recipe, get_recipe

pytestmark = pytest.mark.any_backend


def test_the_book_recipe_is_the_chapters_model():
    assert RECIPES["book"].build().count_params() == 41_800_768


def test_recipes_are_found_by_name_or_given():
    laptop = get_recipe("laptop")
    assert laptop is RECIPES["laptop"]
    smaller = dataclasses.replace(laptop, num_layers=1)
    assert get_recipe(smaller) is smaller
    for wrong in ("desktop", ["laptop"], None):
        with pytest.raises(UserError, match="'laptop', 'book'.*Received") as e:
            get_recipe(wrong)
        assert repr(wrong) in str(e.value)


def test_a_rate_that_decays_ends_at_zero():
    laptop = RECIPES["laptop"]
    held = laptop.schedule(600)
    assert float(held(600)) == pytest.approx(laptop.learning_rate)
    falling = dataclasses.replace(laptop, decay=True).schedule(600)
    rates = [float(falling(step)) for step in (0, 50, 100, 350, 600)]
    expected = [0, 0.5, 1, 0.5, 0]  # half a cosine after the warmup
    assert rates == pytest.approx(
        [laptop.learning_rate * share for share in expected], abs=1e-9
    )


def test_a_run_is_known_as_before_unless_its_rate_decays():
    laptop = RECIPES["laptop"]
    assert "decay" not in laptop.identity()
    assert dataclasses.replace(laptop, decay=True).identity()["decay"] is True


def test_recipes_answer_where_the_first_version_had_them():
    for name in ("Recipe", "RECIPES", "get_recipe"):
        assert getattr(models, name) is getattr(recipes, name)
    assert not hasattr(models, "recipe")
    laptop = RECIPES["laptop"]
    assert pickle.loads(pickle.dumps(laptop)) == laptop
    # As the first version wrote it.
    old = pickle.dumps(Recipe, protocol=0).replace(b"recipes", b"models")
    assert b"kerasllm.models" in old and pickle.loads(old) is Recipe


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"hidden_dim": 0}, "`hidden_dim` must be a positive int"),
        ({"num_heads": 5}, "`hidden_dim` must be a multiple of `num_heads`"),
        ({"num_layers": 1.5}, "`num_layers` must be a positive int"),
        ({"dropout": 1}, "`dropout` must be in"),
        ({"validation_fraction": 1}, "`validation_fraction` must be between"),
    ],
)
def test_sizes_are_told_before_a_vocabulary_is_trained(numbers, message):
    recipe = dataclasses.replace(RECIPES["laptop"], **numbers)
    with pytest.raises(UserError, match=message):
        recipe.checked()
