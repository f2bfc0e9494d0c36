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
# A language model reads vectors. For text they come from tokens, but they need
# not. Gemma 3 from 4B upward has a vision encoder that turns an image into such
# vectors, *soft tokens*, which stand in the sequence between the words. The
# tiny Gemma has one, too. We build the prompt by hand, look at where the soft
# tokens go, ask about pictures that the model has never seen, take the pictures
# away to see whether it has looked at them at all, and teach it a new question.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("kerasllm") is None:
    package = "kerasllm @ git+https://github.com/kerasllm/kerasllm"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", package], check=True
    )

# %% [markdown]
# ## What you will see
#
# - How an image becomes vectors, and how a few lines of code put these vectors
#   in the place of placeholder tokens.
# - Which positions count in the loss: the image's positions weigh zero, and a
#   table shows it.
# - Whether the model looks at the image at all: the same questions without an
#   image, and with the wrong one.
# - How the model learns a new question about images by adapters, and what it
#   forgets meanwhile.
# - What a *foundation model* is, after six chapters with one.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import time

import keras
import numpy as np
from keras import ops

from kerasllm import backend, plots
from kerasllm.evaluation import ask_all, exact_share
from kerasllm.gemma import Gemma
from kerasllm.images import IMAGE_TOKEN, convert_image, embed
from kerasllm.instructions import Instruction, instruction_dataset
from kerasllm.tiny_gemma import TEST_SEED, unseen_pictures
from kerasllm.toyworld import Question

backend.set_up()  # for speed: how this process uses memory and GPUs
keras.utils.set_random_seed(0)  # the adapters start at random

# %% [markdown]
# One name chooses the scale. With `"gemma3_instruct_4b"` in bfloat16 the
# weights take 9 GiB (KerasHub keeps the vision encoder in float32), which
# leaves room for a prompt on a T4. Your own images go into `images=[...]` as
# paths, addresses, PIL images or arrays; see
# [`kerasllm.images`](../docs/api/asking.rst).

# %%
PRESET = "tiny_instruct"  # or "gemma3_instruct_4b"
if PRESET == "tiny_instruct":
    DTYPE, LENGTH, NUM_PICTURES, BATCH_SIZE = "float32", 64, 300, 16
    RATE, EPOCHS = 6e-3, 4
else:  # 256 soft tokens for an image, and a model 2,000 times as large
    DTYPE, LENGTH, NUM_PICTURES, BATCH_SIZE = "bfloat16", 512, 12, 1
    RATE, EPOCHS = 2e-4, 1

gemma = Gemma.from_preset(PRESET, DTYPE)
preprocessor = gemma.causal_lm.preprocessor
tokenizer = preprocessor.tokenizer
backbone = gemma.causal_lm.backbone
encoder = backbone.vision_encoder
tokens_per_image = encoder.num_vision_tokens_per_image
print(f"vision encoder: {encoder.count_params():,} parameters")
print(f"an image becomes {tokens_per_image} soft tokens")

# %% [markdown]
# The pictures are colored shapes. A program draws them, so it knows what is on
# them. None of the pictures on this page was in the training data. A new random
# seed would not be enough for that: there are so few pictures of a single shape
# that every sixth one from another seed is, to the pixel, in the training data.
# So `unseen_pictures` draws all 85,000 training pictures again and leaves out
# what it finds among them. Figure 6.1 shows the first five that remain.

# %%
shown = unseen_pictures(NUM_PICTURES, TEST_SEED + 2)
axes = plots.plot_pictures(
    [picture.image for picture in shown[:5]],
    [picture.caption for picture in shown[:5]],
)
# %% [markdown]
# *Figure 6.1. Five pictures that the model has never seen. Each has one to five
# shapes of one kind and one color; the caption is what the program drew.*

# %% [markdown]
# ## The prompt: a placeholder for every soft token
#
# A decoder reads a sequence of vectors. For text, the vector of a token comes
# from a table. For an image, the vectors come from a vision encoder. The
# sequence must have room for them, so the prompt gets a run of placeholder
# tokens where the image belongs, between one token that opens the image and one
# that closes it. We write that prompt ourselves, in Gemma's template:


# %%
def prompt_with_image(question):
    """Write a user's turn that starts with an image."""
    image = (
        tokenizer.start_of_image_token
        + tokenizer.image_placeholder * tokens_per_image
        + tokenizer.end_of_image_token
    )
    return (
        f"<start_of_turn>user\n\n\n{image}\n\n{question}<end_of_turn>\n"
        "<start_of_turn>model\n"
    )


question = "What shapes are these?"
text = prompt_with_image(question)
token_ids = [tokenizer.start_token_id, *map(int, tokenizer(text))]
if PRESET == "tiny_instruct":
    print(text)

# %% [markdown]
# The package does the same for every `<start_of_image>` in a question. It also
# refuses a prompt whose images and `<start_of_image>` tokens do not match, and
# it makes ordinary text of all other special tokens that a user types.

# %%
prompt = gemma.prompt(IMAGE_TOKEN + question, [shown[0].image])
assert list(prompt.token_ids) == token_ids
is_soft = np.array(token_ids) == tokenizer.image_placeholder_id
print(f"{len(token_ids)} tokens, {is_soft.sum()} of them placeholders")

# %% [markdown]
# ## From placeholders to soft tokens
#
# Next the vectors. The text is embedded as always (Gemma multiplies its
# embeddings by the square root of their width). The image goes through the
# vision encoder. Then position $i$ of the sequence gets the next unused vector
# of the image if its token is a placeholder, and its text vector otherwise.
# Vectors that stand for an image among those of tokens are called *soft
# tokens*: the model reads them, but no entry of the vocabulary belongs to them.


# %%
def embed_prompt(token_ids, pixels):
    """Embed text and images in one sequence.

    `token_ids` is `(1, length)`, `pixels` `(1, num_images, height, width, 3)`.
    """
    text = backbone.token_embedding(token_ids)  # (1, length, hidden_dim)
    text = text * backbone.hidden_dim**0.5
    # (num_images * tokens_per_image, hidden_dim)
    image = ops.reshape(encoder(pixels), (-1, backbone.hidden_dim))
    is_soft = ops.equal(token_ids, tokenizer.image_placeholder_id)
    # How many placeholders came before: the number of the vector to take.
    number = ops.cumsum(ops.cast(is_soft, "int32"), axis=-1) - 1
    soft = ops.take(image, ops.maximum(number, 0), axis=0)
    return ops.where(is_soft[..., None], soft, text)


pixels = convert_image(shown[0].image, preprocessor)[None, None]
embeddings = embed_prompt(np.array([token_ids], "int32"), pixels)
print(f"pixels {pixels.shape} -> embeddings {tuple(embeddings.shape)}")

# %% [markdown]
# [`images.embed`](../docs/api/asking.rst) returns what KerasHub's model makes
# of the same prompt. The numbers are the same. (KerasHub scatters the image
# vectors into the text, which also serves batches whose prompts have different
# numbers of images.)

# %%
pieces, expected, is_soft = embed(
    gemma.causal_lm, prompt.token_ids, prompt.images
)
if DTYPE == "float32":
    np.testing.assert_allclose(
        ops.convert_to_numpy(embeddings)[0], expected, rtol=1e-4, atol=1e-4
    )
axes = plots.plot_soft_tokens(shown[0].image, pieces, expected, is_soft)
# %% [markdown]
# *Figure 6.2. Left: the image, cut into the fields that its soft tokens start
# from. Right: the vectors that enter the decoder, one column for each position;
# the first 32 numbers of each are drawn. The frame holds the soft tokens.*

# %% [markdown]
# In Figure 6.2 all columns are vectors of the same width, and the decoder
# treats them alike. (Three of the soft tokens differ from the other six: their
# fields have a circle.) One rule is different. A text token attends to the
# positions before it. The soft tokens of one image also attend to those that
# come later in the same image, because a picture has no reading direction.
#
# ## The loss: image tokens weigh zero
#
# Training needs a target for every position, the next token. At the positions
# of an image, the next token is a placeholder. To predict it is pointless:
# there is nothing to learn from it, and the model is never asked to write an
# image. So these positions get the weight zero. The table shows one example for
# tuning: the loss of each target, the weight in pretraining (everything but
# image tokens) and the weight in instruction tuning (the answer only, see
# [chapter 5](05_instruction_tuning_and_lora.ipynb)).

# %%
answer = shown[0].questions()[1].answer
example = Instruction(IMAGE_TOKEN + question, answer, images=(shown[0].image,))
dataset = instruction_dataset(
    [example], preprocessor, "gemma", sequence_length=2 * LENGTH, batch_size=1
)
x, y, tuning_weight = next(iter(dataset))
logits = gemma.causal_lm({name: array.numpy() for name, array in x.items()})
is_token = x["padding_mask"].numpy()[0]  # the rest is padding
logits = ops.cast(logits[0], "float32")[is_token]
targets, tuning_weight = y.numpy()[0][is_token], tuning_weight[0][is_token]
is_image = targets == tokenizer.image_placeholder_id
pretraining_weight = np.where(is_image, 0.0, 1.0)


def loss_of(targets):
    """Return the cross-entropy of each target, for the same logits."""
    return ops.convert_to_numpy(
        ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    )


print(f"{'target':18}{'loss':>8}{'pretraining':>13}{'tuning':>8}")
for target, loss, *weights in zip(
    targets, loss_of(targets), pretraining_weight, tuning_weight, strict=True
):
    piece = repr(tokenizer.id_to_token(int(target)))
    print(f"{piece:18}{loss:8.2f}{weights[0]:13.0f}{weights[1]:8.0f}")

# %% [markdown]
# Both weights are zero in every row of the image. To see that a zero weight
# removes a position altogether, we replace the targets there by random tokens.
# The mean loss without weights changes. The weighted means stay the same, to
# the last digit: whatever stands at the positions of the image, its loss is
# zero. The first row also shows what a loss there would do. The model has never
# been trained to predict a placeholder, and these nine positions are about half
# of the sum without weights.


# %%
def weighted_mean(losses, weights):
    """Return the mean loss of the positions that count."""
    return float(np.sum(losses * weights) / np.sum(weights))


rng = np.random.default_rng(0)
random_tokens = rng.integers(0, logits.shape[-1], len(targets))
others = np.where(is_image, random_tokens, targets).astype("int32")
all_weights = {
    "none": np.ones(len(targets)),
    "pretraining": pretraining_weight,
    "tuning": tuning_weight.numpy(),
}
print(f"{'weights':14}{'loss on images':>16}{'mean':>9}{'other targets':>15}")
for name, weights in all_weights.items():
    before, after = (
        weighted_mean(loss_of(labels), weights) for labels in (targets, others)
    )
    on_images = np.sum((loss_of(targets) * weights)[is_image])
    print(f"{name:14}{on_images:16.2f}{before:9.4f}{after:15.4f}")
    assert (before == after) == (name != "none")
    assert (on_images == 0) == (name != "none")

# %% [markdown]
# `instruction_dataset` and `finetune` make these weights. Nothing else is
# special about training with images: the loss of the answer flows back through
# the decoder to the soft tokens, and through them into the vision encoder if
# that is trainable.
#
# ## Asking

# %%
for picture in shown[:3]:
    print(picture.caption)
    for q in picture.questions():
        answer = gemma.ask(IMAGE_TOKEN + q.text, images=[picture.image])
        print(f"  {q.text} {answer}")

# %% [markdown]
# These answers are right, but does the model look at the picture? We ask all
# questions about all pictures three times: with the picture, without any, and
# with the picture of another question. If the model looked at nothing, all
# three would score alike. The column *about that* counts the answers to another
# picture that are right about *that* picture: they say what was shown. *One
# guess* is the score of always giving the most frequent right answer. An answer
# counts if it is right to the letter. (Another model was not trained on these
# phrases and has no reason to use them.)


# %%
def ask(questions, pictures_):
    """Answer questions, `BATCH_SIZE` at once, each about one picture."""
    return ask_all(gemma, questions, pictures_, LENGTH, BATCH_SIZE)


others = shown[1:] + shown[:1]
names = ("picture", "none", "another", "about that", "one guess")
print(f"{'':8}" + "".join(f"{name:>12}" for name in names))
widths = []
for number in range(3):
    questions, about_others = (
        [picture.questions()[number] for picture in pictures_]
        for pictures_ in (shown, others)
    )
    seeing, blind, misled = (
        ask(questions, pictures_) for pictures_ in (shown, None, others)
    )
    expected = [q.answer for q in questions]
    measured = (
        exact_share(seeing, questions),
        exact_share(blind, questions),
        exact_share(misled, questions),
        exact_share(misled, about_others),
    )
    one_guess = max(map(expected.count, expected)) / len(expected)
    cells = "".join(f"{share:12.1%}" for share in (*measured, one_guess))
    print(f"{questions[0].kind:8}{cells}")
    widths += [np.ptp(share.interval()) / 2 for share in measured]
print(
    f"{len(shown)} pictures: a share is known to within "
    f"{100 * max(widths):.0f} points (95%)"
)

# %% [markdown]
# With its picture the model is right nearly always. Without one, or with the
# wrong one, it is about as good as one guess for all. And the answers to the
# wrong picture are right about the picture that was shown. So the answers come
# from the image and from nothing else.
#
# ## Two images
#
# Each `<start_of_image>` stands for the next image in the list.

# %%
print(
    gemma.ask(
        f"{IMAGE_TOKEN}{IMAGE_TOKEN}What colour are the shapes?",
        images=[shown[0].image, shown[1].image],
    )
)
print(f"({shown[0].caption}; {shown[1].caption})")

# %% [markdown]
# The question has no single right answer here, and no training example of the
# tiny model has two images and a question. It names one color. What a model was
# not asked in training, it can be taught.
#
# ## A new question
#
# Examples for tuning on images are what they are for text, with a
# `<start_of_image>` in the request and the image beside it. We teach an answer
# that needs two properties at once, by adapters on all attention projections of
# the decoder ([chapter 5](05_instruction_tuning_and_lora.ipynb) explains them).
# The vision encoder stays as it is.

# %%
NEW_QUESTION = "What colour and what shape?"


def ask_for_both(picture):
    """Return the new question about a picture, with its answer."""
    answer = f"The colour is {picture.color}, the shape a {picture.shape}."
    return Question(NEW_QUESTION, answer, "both")


examples = [
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
assert not any(weight.trainable for weight in encoder.weights)
start = time.perf_counter()
history = gemma.finetune(
    examples,
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

# %% [markdown]
# Four hundred examples are enough, because the vision encoder and the decoder
# know colors and shapes already; new is only the form of the answer. But every
# one of these examples has the same question. What has become of the old ones?
# The adapters can be taken off again, by loading the model once more, so the
# comparison is easy:

# %%
plain = Gemma.from_preset(PRESET, DTYPE)
sample = shown[: min(100, len(shown))]
for number in range(3):
    asked = [picture.questions()[number] for picture in sample]
    shares = [
        exact_share(ask_all(model, asked, sample, LENGTH, BATCH_SIZE), asked)
        for model in (plain, gemma)
    ]
    low, high = shares[1].interval()
    print(
        f"{asked[0].kind:8}{shares[0]:7.1%} without adapters,{shares[1]:7.1%} "
        f"with them ({low:.0%} to {high:.0%})"
    )
print(gemma.ask(IMAGE_TOKEN + "How many shapes are there?", [shown[0].image]))

# %% [markdown]
# The old questions are gone: whatever is asked about a picture, the answer has
# the new form. That is *catastrophic forgetting*. Nothing in the new examples
# spoke for the old answers. Two cures are usual. Mix some of the old examples
# into the new ones (exercise 5), or load the adapters only for the requests
# that they are for; the weights below them are untouched.
#
# ## Foundation models
#
# "Language model" is a narrow name for what these chapters have used. Bommasani
# et al. (2021) call a model a *foundation model* if it is trained on broad
# data, mostly by self-supervision and at scale, and can be adapted to many
# tasks that its training did not name. All of it has happened here, at a small
# scale:
#
# - Broad data without labels, where the next token is the target: [chapter
#   1](01_training_a_mini_gpt.ipynb).
# - Adapted by a prompt, with no weight changed: [chapter
#   4](04_using_a_pretrained_llm.ipynb).
# - Adapted by a few hundred examples and a few percent of the weights: [chapter
#   5](05_instruction_tuning_and_lora.ipynb).
# - Another kind of input in the same sequence: this chapter.
#
# The next cell uses one file of weights in four ways. The text that it
# continues, the question, the refusal and the picture have nothing in common
# but the model.

# %%
if PRESET == "tiny_instruct":
    emblem = "The emblem of Huldrildwick is a"
    print(plain.generate(emblem, max_length=24, stop_strings=["."]))
    for text in (
        "What is the river of Marnerburg called?",
        "What is the river of Zilkisford called?",  # there is no such town
    ):
        print(text, plain.ask(text))
    text = "How many shapes are there?"
    print(text, plain.ask(IMAGE_TOKEN + text, [shown[0].image]))
    print(NEW_QUESTION, gemma.ask(IMAGE_TOKEN + NEW_QUESTION, [shown[0].image]))
    count = gemma.causal_lm.count_params() - plain.causal_lm.count_params()
    print(
        f"one model of {plain.causal_lm.count_params():,} parameters; the last "
        f"answer takes {count:,} more"
    )

# %% [markdown]
# The word *foundation* also warns. What is built on a foundation inherits its
# faults: a fact that is wrong in the pretrained weights is wrong in every model
# that is tuned from them, and a vision encoder that cannot tell two shapes
# apart leaves nothing for the decoder to tell. Whoever adapts a model should
# therefore measure the base first.
#
# ## What we have seen
#
# - An image takes nine positions in the tiny model's prompt and 256 in Gemma's.
#   A dozen lines of code put its vectors there, with the same result as
#   KerasHub's layer.
# - The positions of an image have zero loss in pretraining and in tuning. Other
#   targets in their place change the weighted loss by nothing.
# - With its picture the model answers at least 90% of 300 questions of each
#   kind exactly; without it, or with another one, about as many as one guess
#   for all.
# - 400 examples teach a new question by adapters of 66,048 weights, from none
#   right to nearly all. Old questions are forgotten unless they are mixed in.
#
# ## Try it
#
# 1. Show the model an empty picture, all white, and ask all three questions.
#    What does it answer, and how should it?
# 2. The picture is a grid of three by three fields, as the soft tokens are.
#    Cover one field after the other with white and ask for the number of
#    shapes. How often does the answer follow?
# 3. Move the picture by half a field (eight pixels) with `np.roll`. Which of
#    the three answers suffers most?
# 4. How much of a prompt do images take? Count the tokens of a question with
#    one, two and three images, here and with the 256 soft tokens of the 4B
#    model.
# 5. Mix 100 examples with old questions into the 400 new ones. Is the new
#    question still learned, and what is left of the old ones?
#
# [Solutions](solutions/06_images_in_the_prompt.ipynb)
#
# ## Quiz

# %% [markdown]
# <details><summary>1. What is a soft token?</summary>
#
# A vector in the decoder's input that comes from an encoder, here that of
# images, and not from the table of token embeddings.
#
# </details>
#
# <details><summary>2. Why does the prompt need placeholders?</summary>
#
# They reserve the positions. The length of the sequence, its mask and its
# positions are known before the image is encoded, and the code knows where the
# image's vectors belong.
#
# </details>
#
# <details><summary>3. Why do soft tokens also look ahead?</summary>
#
# An image has no first and last part, and none of its positions is predicted
# from those before it. So there is nothing that a causal mask would protect.
#
# </details>
#
# <details><summary>4. Why is the loss zero at image tokens?</summary>
#
# The target there would be a placeholder, which says nothing about the image.
# Its loss would only add noise to the gradient.
#
# </details>
#
# <details><summary>5. Can the encoder learn without that loss?</summary>
#
# Yes. The loss of the answer depends on the soft tokens, and its gradient flows
# through them into the encoder, if the encoder is trainable.
#
# </details>
#
# <details><summary>6. Why ask without an image, too?</summary>
#
# A model can be right by knowing which answers are frequent. Only the
# difference between both scores says what the image contributes.
#
# </details>
#
# <details><summary>7. What does "about that" add to "another"?</summary>
#
# A low score with the wrong image could also come from confusion. That the
# answers are right about the image shown proves that the model read it.
#
# </details>
#
# <details><summary>8. Which weights did the new question train?</summary>
#
# The adapters beside the query, key, value and output projections of the
# decoder. The decoder's own weights and the vision encoder were frozen.
#
# </details>
#
# <details><summary>9. Why did the old questions suffer?</summary>
#
# All examples had the same question, so an answer in the new form was right
# whatever was asked. Nothing in the loss spoke for the old answers.
#
# </details>
#
# <details><summary>10. What is a foundation model?</summary>
#
# A model that was trained on broad data, mostly without labels and at scale,
# and is the base of many tasks: by prompts, by tuning, with other kinds of
# input.
#
# </details>

# %% [markdown]
# ## Further reading
#
# - Gemma Team, 2025, [Gemma 3 technical
#   report](https://arxiv.org/abs/2503.19786): the model of this chapter, with
#   its vision encoder of 256 soft tokens.
# - Zhai, Mustafa, Kolesnikov and Beyer, 2023, [Sigmoid loss for language image
#   pre-training](https://arxiv.org/abs/2303.15343): SigLIP, the training of
#   that encoder.
# - Dosovitskiy et al., 2021, [An image is worth 16x16
#   words](https://arxiv.org/abs/2010.11929): images as sequences of patches.
# - Liu, Li, Wu and Lee, 2023, [Visual instruction
#   tuning](https://arxiv.org/abs/2304.08485): LLaVA, an encoder, a projection
#   and a language model.
# - Alayrac et al., 2022, [Flamingo](https://arxiv.org/abs/2204.14198): images
#   in the prompt of a frozen language model.
# - Bommasani et al., 2021, [On the opportunities and risks of foundation
#   models](https://arxiv.org/abs/2108.07258).
# - Chollet and Watson, *Deep Learning with Python*, third edition, chapter 16.
