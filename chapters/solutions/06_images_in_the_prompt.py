# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Solutions: images in the prompt
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/solutions/06_images_in_the_prompt.ipynb)
#
# One way to solve the exercises of [chapter
# 6](../06_images_in_the_prompt.ipynb).

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("kerasllm") is None:
    package = "kerasllm @ git+https://github.com/kerasllm/kerasllm"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", package], check=True
    )

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from kerasllm import backend
from kerasllm.evaluation import Share, ask_all, exact_share
from kerasllm.gemma import Gemma
from kerasllm.images import IMAGE_TOKEN
from kerasllm.instructions import Instruction
from kerasllm.tiny_gemma import TEST_SEED, unseen_pictures
from kerasllm.toyworld import Question, picture_instructions

backend.set_up()
keras.utils.set_random_seed(0)
gemma = Gemma.from_preset("tiny_instruct")
shown = unseen_pictures(60, TEST_SEED + 2)


def ask(model, text, images):
    """Ask one question about each of many images."""
    asked = [IMAGE_TOKEN + text] * len(images)
    return model.ask(asked, [[image] for image in images], max_length=64)


# %% [markdown]
# ## 1. An empty picture

# %%
white = np.full((48, 48, 3), 255, "uint8")
for question in shown[0].questions():
    print(question.text, *ask(gemma, question.text, [white]))

# %% [markdown]
# It names a color, a shape and a number. It should say that there is nothing,
# but no example has taught it that answer. It is the hallucination of chapter 5
# in another form.
#
# ## 2. Cover one field after the other

# %%
NUMBERS = "one two three four five".split()
pictures, images, expected = [], [], []
for picture in shown:
    for field in range(9):
        row, column = 16 * (field // 3), 16 * (field % 3)
        image = picture.image.copy()
        image[row : row + 16, column : column + 16] = 255
        had_shape = (picture.image[row : row + 16, column : column + 16]).min()
        number = picture.count - int(had_shape < 255)
        if number:  # no answer stands for none
            pictures.append(picture)
            images.append(image)
            expected.append((number, had_shape < 255))
answers = []
for i in range(0, len(images), 60):
    answers += ask(gemma, "How many shapes are there?", images[i : i + 60])
for covered in (False, True):
    right = Share.of(
        answer == f"The number is {NUMBERS[number - 1]}."
        for answer, (number, was_covered) in zip(answers, expected, strict=True)
        if was_covered == covered
    )
    low, high = right.interval()
    print(
        f"field {'with a shape' if covered else 'without one':12} covered: "
        f"{right:.1%} of {right.size} right ({low:.0%} to {high:.0%})"
    )

# %% [markdown]
# Each shape lies in one field, so covering a field with a shape takes away one
# shape. The answer follows nearly always: the model counts what it sees.
#
# ## 3. Half a field aside

# %%
moved = [np.roll(picture.image, (8, 8), (0, 1)) for picture in shown]
for number in range(3):
    questions = [picture.questions()[number] for picture in shown]
    answers = ask(gemma, questions[0].text, moved)
    share = exact_share(answers, questions)
    low, high = share.interval()
    print(f"{questions[0].kind:8}{share:7.1%} ({low:.0%} to {high:.0%})")

# %% [markdown]
# All three answers break down, and the number most. In training, every shape
# lay inside one field, so the encoder has only seen whole shapes at such
# places. Moved by half a field, a shape is cut into two or four parts. The
# encoder of a real model was trained on photographs, where things may lie
# anywhere, and does not mind. What training data have in common, a model takes
# for granted.
#
# ## 4. How much of a prompt images take

# %%
for count in range(4):
    prompt = gemma.prompt(
        IMAGE_TOKEN * count + "What is on it?", [white] * count
    )
    length = len(prompt.token_ids)
    soft = 9 * count
    print(
        f"{count} images: {length} tokens, {soft / length:.0%} soft; with 256 "
        f"each: {length + 247 * count}, "
        f"{256 * count / (length + 247 * count):.0%} soft"
    )

# %% [markdown]
# With 256 soft tokens an image, nearly the whole prompt is images. They take
# memory in the cache and time in the prompt, like any other token.
#
# ## 5. Mixing in old examples


# %%
def ask_for_both(picture):
    """Return the new question about a picture, with its answer."""
    answer = f"The colour is {picture.color}, the shape a {picture.shape}."
    return Question("What colour and what shape?", answer, "both")


drawn = unseen_pictures(400, TEST_SEED + 3, but_not=shown)
new = [
    Instruction(
        IMAGE_TOKEN + ask_for_both(picture).text,
        ask_for_both(picture).answer,
        images=(picture.image,),
    )
    for picture in drawn
]
old = picture_instructions(drawn[:34])[:100]
gemma.enable_lora(rank=8, targets="attention")
gemma.finetune(
    new + old,
    epochs=4,
    batch_size=16,
    learning_rate=6e-3,
    sequence_length=64,
    buckets=False,
    verbose=0,
)
groups = [[ask_for_both(picture) for picture in shown]]
groups += zip(*(picture.questions() for picture in shown), strict=True)
for questions in groups:
    share = exact_share(ask_all(gemma, questions, shown), questions)
    low, high = share.interval()
    print(f"{questions[0].kind:8}{share:7.1%} ({low:.0%} to {high:.0%})")

# %% [markdown]
# The new question is learned, and the old ones stay. A hundred examples that
# say which answer belongs to which question are enough here.
