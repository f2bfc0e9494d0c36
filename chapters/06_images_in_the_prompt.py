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
# # Images in the prompt
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/06_images_in_the_prompt.ipynb)
#
# A language model reads vectors; that they come from tokens is a habit. Gemma
# 3 from 4B upwards has a vision encoder that turns an image into such vectors,
# *soft tokens*, and they stand in the sequence between the words. The tiny
# Gemma has one, too. We look at where the soft tokens go, ask about pictures
# that the model has never seen, take the pictures away to see whether it has
# looked at them at all, and teach it a new question.

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

import time

from kerasllm import backend, plots
from kerasllm.evaluation import ask_all, exact_share
from kerasllm.gemma import Gemma
from kerasllm.images import IMAGE_TOKEN, embed
from kerasllm.instructions import Instruction
from kerasllm.tiny_gemma import TEST_SEED, unseen_pictures
from kerasllm.toyworld import Question

backend.set_up()  # for speed: how this process uses memory and GPUs

# %% [markdown]
# One name chooses the scale. `"gemma3_instruct_4b"` in bfloat16, with a vision
# encoder that KerasHub keeps in float32, takes 9 GiB for its weights, which
# leaves room for a prompt on a T4; images of your own go into `images=[...]` as
# paths, addresses, PIL images or arrays.

# %%
PRESET = "tiny_instruct"  # or "gemma3_instruct_4b"
if PRESET == "tiny_instruct":
    DTYPE, LENGTH, NUM_PICTURES, BATCH_SIZE = "float32", 64, 300, 16
    RATE, EPOCHS = 6e-3, 4
else:  # 256 soft tokens for an image, and a model 2,000 times as large
    DTYPE, LENGTH, NUM_PICTURES, BATCH_SIZE = "bfloat16", 512, 12, 1
    RATE, EPOCHS = 2e-4, 1

gemma = Gemma.from_preset(PRESET, DTYPE)
encoder = gemma.causal_lm.backbone.vision_encoder
tokens_per_image = encoder.num_vision_tokens_per_image
print(f"vision encoder: {encoder.count_params():,} parameters")
print(f"an image becomes {tokens_per_image} soft tokens")

# %% [markdown]
# The pictures are coloured shapes; a program draws them and knows what is on
# them. None of those on this page was in the training data. Another seed would
# not see to that: of single shapes there are so few that every sixth picture
# had been there, to the pixel. So `unseen_pictures` draws training's again,
# some 85,000, and leaves out what it finds among them.

# %%
shown = unseen_pictures(NUM_PICTURES, TEST_SEED + 2)
plots.plot_pictures(
    [picture.image for picture in shown[:5]],
    [picture.caption for picture in shown[:5]],
)
# %% [markdown]
# ## Soft tokens
#
# In a prompt `<start_of_image>` marks where an image belongs. Behind the mark
# comes a run of placeholders and a mark for its end, the text is embedded as
# always, the image goes through the vision encoder, and its vectors take the
# places of the placeholders. The figure is drawn from a real forward pass: each
# column is one vector that enters the decoder, or its first 32 numbers.

# %%
question = "What shapes are these?"
prompt = gemma.prompt(IMAGE_TOKEN + question, [shown[0].image])
pieces, embeddings, is_soft = embed(
    gemma.causal_lm, prompt.token_ids, prompt.images
)
plots.plot_soft_tokens(shown[0].image, pieces, embeddings, is_soft)
# %% [markdown]
# Words look back only. The soft tokens of one image also look ahead to each
# other, for a picture has no beginning.
#
# ## Asking

# %%
for picture in shown[:3]:
    print(picture.caption)
    for q in picture.questions():
        answer = gemma.ask(IMAGE_TOKEN + q.text, images=[picture.image])
        print(f"  {q.text} {answer}")

# %% [markdown]
# All questions about all pictures; then the same questions without a picture,
# and with the picture of another question. If the model looked at nothing,
# these would be as good. The last column but one has the answers to another
# picture that are right about *that* picture: they say what was shown. The last
# is what one would get for always giving the answer that is right most often.
# (Answers count if they are right to the letter, which a model that was not
# trained on these phrases has no reason to be.)


# %%
def ask(questions, pictures_):
    """Answer questions, `BATCH_SIZE` at once, each about one picture."""
    return ask_all(gemma, questions, pictures_, LENGTH, BATCH_SIZE)


others = shown[1:] + shown[:1]
names = ("picture", "none", "another", "about that", "one guess")
print(f"{'':8}" + "".join(f"{name:>12}" for name in names))
for number in range(3):
    questions, about_others = (
        [picture.questions()[number] for picture in pictures_]
        for pictures_ in (shown, others)
    )
    seeing, blind, misled = (
        ask(questions, pictures_) for pictures_ in (shown, None, others)
    )
    expected = [q.answer for q in questions]
    shares = (
        exact_share(seeing, questions),
        exact_share(blind, questions),
        exact_share(misled, questions),
        exact_share(misled, about_others),
        max(map(expected.count, expected)) / len(expected),
    )
    cells = "".join(f"{share:12.1%}" for share in shares)
    print(f"{questions[0].kind:8}{cells}")

# %% [markdown]
# ## Two images
#
# Each mark stands for the next image in the list.

# %%
print(
    gemma.ask(
        f"{IMAGE_TOKEN}{IMAGE_TOKEN}What colour are the shapes?",
        images=[shown[0].image, shown[1].image],
    )
)
print(f"({shown[0].caption}; {shown[1].caption})")

# %% [markdown]
# The tiny model was never asked about two pictures, and it shows. What it was
# not asked about it can be taught.
#
# ## A new question
#
# Rows for tuning on images are what they are for text, with a mark in the
# request and the image beside it. We teach an answer that needs two properties
# at once, by adapters on all attention projections of the decoder. The vision
# encoder stays as it is.

# %%
NEW_QUESTION = "What colour and what shape?"


def ask_for_both(picture):
    """Return the new question about a picture, with its answer."""
    answer = f"The colour is {picture.color}, the shape a {picture.shape}."
    return Question(NEW_QUESTION, answer, "both")


rows = [
    Instruction(
        IMAGE_TOKEN + NEW_QUESTION,
        ask_for_both(picture).answer,
        images=(picture.image,),
    )
    for picture in unseen_pictures(400, TEST_SEED + 3, but_not=shown)
]
questions = [ask_for_both(picture) for picture in shown]
answers = ask(questions, shown)
print(f"before: {exact_share(answers, questions):.1%}")
print(gemma.enable_lora(rank=8, targets="attention"))
start = time.perf_counter()
history = gemma.finetune(
    rows,
    epochs=EPOCHS,
    batch_size=BATCH_SIZE,
    learning_rate=RATE,
    sequence_length=2 * LENGTH,
    verbose=0,
)
print(f"{time.perf_counter() - start:.0f} s, loss {history[-1]['loss']:.3f}")
answers = ask(questions, shown)
print(f"after:  {exact_share(answers, questions):.1%}")
for picture, answer in list(zip(shown, answers, strict=True))[:3]:
    print(f"  {picture.caption}: {answer}")
