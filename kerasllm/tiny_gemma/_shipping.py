"""Saving both presets with their cards, and measuring what was saved."""

import argparse
import dataclasses
import json
import pathlib
import subprocess

import keras
import keras_hub

from kerasllm import backend
from kerasllm.evaluation import measure_facts, measure_pictures
from kerasllm.files import assets_dir, cache_dir, whole_file, whole_folder
from kerasllm.gemma import Gemma
from kerasllm.gguf import write_offsets
from kerasllm.presets import GEMMA_PRESETS
from kerasllm.tiny_gemma._data import fingerprint, unseen_pictures
from kerasllm.tiny_gemma._recipe import TinyRecipe
from kerasllm.tiny_gemma._training import pretrain_base, tune_instruct

CARD_FILE = "card.json"
TEST_SEED = 4000  # of pictures to measure on


def measure(gemma, recipe=None, num_pictures=200):
    """Score a model on questions that no training has seen.

    Args:
        gemma: a `Gemma`.
        recipe: `TinyRecipe` of the world to ask about.
        num_pictures: int. New pictures, with three questions each.

    Returns:
        dict of `evaluation.Share`, see `evaluation.measure_facts` and
        `evaluation.measure_pictures`.
    """
    recipe = recipe or TinyRecipe()
    shown, others = (
        unseen_pictures(num_pictures, seed, recipe)
        for seed in (TEST_SEED, TEST_SEED + 1)
    )
    return {
        **measure_facts(gemma, recipe.world()),
        **measure_pictures(gemma, shown, others),
    }


def save_preset(gemma, folder, card):
    """Write a model in bfloat16, with a card that says where it is from.

    Args:
        gemma: a `Gemma`.
        folder: str or path of the preset.
        card: dict for `card.json`.
    """
    model = gemma.causal_lm
    half = model.backbone.from_config(
        model.backbone.get_config() | {"dtype": "bfloat16"}
    )
    half.set_weights(model.backbone.get_weights())
    with whole_folder(folder) as temporary:
        keras_hub.models.Gemma3CausalLM(
            backbone=half, preprocessor=model.preprocessor
        ).save_to_preset(temporary)
        write_offsets(temporary, half)
        (temporary / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n")


def main(arguments=None):
    """Train both presets, or measure those that are there.

    Args:
        arguments: list of str. Defaults to those of the command line.
    """
    parser = argparse.ArgumentParser(
        "python -m kerasllm.tiny_gemma",
        description="The offline Gemma: train both presets, or measure them.",
    )
    parser.add_argument("--out", type=pathlib.Path, default=assets_dir())
    parser.add_argument(
        "--run", type=pathlib.Path, help="folder for checkpoints"
    )
    parser.add_argument(
        "--measure", action="store_true", help="only measure what is there"
    )
    options = parser.parse_args(arguments)
    backend.set_up()
    recipe = TinyRecipe()
    if options.measure:
        for name in GEMMA_PRESETS:
            scores = measure(Gemma.from_preset(options.out / name))
            print(name, json.dumps(scores, indent=2))
        return

    run = options.run or cache_dir("runs", "tiny-gemma")
    card = {
        "recipe": dataclasses.asdict(recipe),
        "commit": _commit(),
        "data_sha256": fingerprint(recipe),
        "backend": keras.config.backend(),
    }
    causal_lm, history = pretrain_base(recipe, run, verbose=2)
    card["pretraining"] = history[-1]
    _ship(Gemma(causal_lm), options.out / GEMMA_PRESETS[0], card)
    # From what is shipped, so that anybody can do it again from there.
    gemma = Gemma.from_preset(options.out / GEMMA_PRESETS[0])
    card["tuning"] = tune_instruct(gemma, recipe, verbose=2)[-1]
    _ship(gemma, options.out / GEMMA_PRESETS[1], card)


def _commit():
    """Return the commit of this code, or "unknown" outside of a clone."""
    result = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip() or "unknown"


def _ship(gemma, folder, card):
    """Save a preset, and measure what was saved, rounded to bfloat16."""
    save_preset(gemma, folder, card)
    scores = measure(Gemma.from_preset(folder))
    print(folder.name, json.dumps(scores, indent=2))
    with whole_file(folder / CARD_FILE) as file:
        json.dump(card | {"scores": scores}, file, indent=2)
