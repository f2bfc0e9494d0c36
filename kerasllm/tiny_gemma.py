"""The offline Gemma: Gemma 3's architecture, small enough to train here.

A base model, `tiny`, that has read about the small world and nothing else, and
an instruction model, `tiny_instruct`, that was tuned from it. Both are presets
of KerasHub like Google's own and lie in `assets/`. Made by

    python -m kerasllm.tiny_gemma --out assets

in about half an hour on two cores, and measured again by

    python -m kerasllm.tiny_gemma --measure
"""

import argparse
import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
import random
import subprocess

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from kerasllm.files import assets_dir, cache_dir, whole_file, whole_folder
from kerasllm.gemma import OFFLINE_PRESETS, Gemma
from kerasllm.images import (
    IMAGE_MARK,
    convert_images,
    place_images,
    vision_inputs,
)
from kerasllm.pretraining import pretrain
from kerasllm.prompts import encode_all
from kerasllm.tokenizers import train_sentence_piece
from kerasllm.toyworld import (
    COLORS,
    NUMBERS,
    PICTURE_SIZE,
    REFUSAL,
    SHAPES,
    World,
    picture_instructions,
    pictures,
)

SEED = 0
CARD_FILE = "card.json"
NUM_PICTURES, NUM_REFUSALS = 2000, 300  # to tune on
PICTURES_IN_A_ROW = 3  # of every second row of pretraining
PICTURES_AT_ONCE = 256  # drawn and tokenized for pretraining
TEST_SEED = 4000  # of pictures to measure on
VOCABULARY_SIZE = 2048
SEQUENCE_LENGTH = 128
SPECIAL_TOKENS = (
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<img>",
)
# Gemma's own order.
CONTROL_TOKENS = {
    "pad": "<pad>",
    "eos": "<eos>",
    "bos": "<bos>",
    "unk": "<unk>",
}


def train_tokenizer(seed=SEED):
    """Learn a vocabulary from other worlds of the same kind.

    From others, so that no name of this world is a token by itself, and names
    of things that exist look like those of things that do not.

    Returns:
        A `keras_hub.tokenizers.Gemma3Tokenizer`.
    """
    # All that is ever said, about a few things that would fit in a room ...
    world = World(seed + 1000, entities_per_kind=4)
    texts = []
    for i in range(100):
        texts += world.documents(i)
        rows = world.instructions(i) + world.refusals(seed=i)
        texts += [part for r in rows for part in (r.instruction, r.response)]
    for picture in pictures(500, seed=seed + 1000):
        texts += [caption(picture), picture.caption]
        for question in picture.questions():
            texts += [question.text, question.answer]
    # ... and the syllables of many names.
    for entity in World(seed + 1001).entities:
        texts += [f"{entity.name} {entity.name}."] * 4
    tokenizer = train_sentence_piece(
        tf.data.Dataset.from_tensor_slices(texts),
        VOCABULARY_SIZE,
        special_tokens=SPECIAL_TOKENS,
        control_tokens=CONTROL_TOKENS,
        model_type="bpe",
    )
    return keras_hub.tokenizers.Gemma3Tokenizer(tokenizer.proto)


@dataclasses.dataclass(frozen=True)
class TinyRecipe:
    """What the tiny Gemma is and how it is pretrained.

    Attributes:
        hidden_dim: int. A feed-forward layer has three times as many units.
        num_layers: int. The last of six sees the whole text, the others a
            window, as in Gemma 3.
        vision_dim: int. Width of the vision encoder.
        entities_per_kind: int. Size of the world, see `World`.
        vision_steps: int. Batches of 64 pictures that the vision encoder sees
            before all else.
        steps: int. Batches of texts and pictures.
        batch_size: int. Rows of `SEQUENCE_LENGTH` tokens in such a batch.
        learning_rate: float. The highest; it falls along a cosine to zero.
        seed: int. Decides everything that is drawn.
    """

    hidden_dim: int = 128
    num_layers: int = 6
    vision_dim: int = 96
    entities_per_kind: int = 75
    vision_steps: int = 400
    steps: int = 2400
    batch_size: int = 16
    learning_rate: float = 2e-3
    seed: int = SEED

    def world(self):
        """Return the `World` that the model reads about."""
        return World(self.seed, self.entities_per_kind)


def pretrain_base(recipe, directory, verbose="auto"):
    """Train the base model, or go on where this was interrupted.

    First the vision encoder alone; then it is frozen, as Gemma's was, and the
    model reads texts and looks at pictures. Trained together from the start
    it learnt colours in 600 batches and shapes not in 1,800.

    Args:
        recipe: `TinyRecipe`.
        directory: str or path. Where checkpoints and logs go.
        verbose: as for `fit`.

    Returns:
        `(causal_lm, history)`: the task with its preprocessor, and what
        `kerasllm.pretrain` returns.
    """
    # Before there is a tokenizer: seeding TensorFlow clears its kernels.
    keras.utils.set_random_seed(recipe.seed)
    causal_lm = build(
        train_tokenizer(recipe.seed),
        recipe.hidden_dim,
        recipe.num_layers,
        recipe.vision_dim,
    )
    preprocessor, causal_lm.preprocessor = causal_lm.preprocessor, None
    vision_encoder = causal_lm.backbone.vision_encoder
    pretrain_vision(vision_encoder, recipe, preprocessor, verbose)
    vision_encoder.trainable = False
    warmup_steps = max(1, recipe.steps // 20)
    history = pretrain(
        causal_lm,
        pretraining_dataset(recipe, preprocessor),
        directory=directory,
        epochs=10,
        steps_per_epoch=recipe.steps // 10,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=recipe.learning_rate,
            warmup_steps=warmup_steps,
            decay_steps=recipe.steps - warmup_steps,
        ),
        verbose=verbose,
    )
    vision_encoder.trainable = True
    causal_lm.preprocessor = preprocessor
    return causal_lm, history


def pretrain_vision(vision_encoder, recipe, preprocessor, verbose="auto"):
    """Train a vision encoder to tell the three words of a caption.

    From its soft tokens a small head guesses number, colour and shape, and is
    thrown away afterwards. Takes less than a minute and is not resumed.

    Args:
        vision_encoder: a `keras_hub.models.Gemma3VisionEncoder`, trained in
            place.
        recipe: `TinyRecipe`.
        preprocessor: the `Gemma3CausalLMPreprocessor` of the model.
        verbose: as for `fit`.

    Returns:
        The history of `fit`: a dict from the name of a number to its values.
    """
    words = {"number": NUMBERS, "color": tuple(COLORS), "shape": SHAPES}

    def batches():
        for number in itertools.count():
            drawn = _vision_pictures(recipe, number)
            images = convert_images([p.image for p in drawn], preprocessor)
            labels = [
                (p.count - 1, words["color"].index(p.color),
                 SHAPES.index(p.shape))
                for p in drawn
            ]  # fmt: skip
            yield (
                images[:, None],
                dict(zip(words, np.array(labels).T, strict=True)),
            )

    image = keras.Input((1, PICTURE_SIZE, PICTURE_SIZE, 3))
    soft_tokens = keras.layers.Reshape((-1, vision_encoder.output_dim))(
        vision_encoder(image)
    )
    features = keras.layers.Dense(vision_encoder.output_dim, "gelu")(
        soft_tokens
    )
    features = keras.layers.GlobalAveragePooling1D()(features)
    model = keras.Model(
        image,
        {
            name: keras.layers.Dense(len(values), name=name)(features)
            for name, values in words.items()
        },
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(1e-3, recipe.vision_steps)
        ),
        loss=dict.fromkeys(words, loss),
        metrics=dict.fromkeys(words, ["accuracy"]),
    )
    return model.fit(
        _from_batches(batches),
        steps_per_epoch=recipe.vision_steps // 4,
        epochs=4,
        shuffle=False,
        verbose=verbose,
    ).history


def tune_instruct(gemma, recipe, verbose="auto"):
    """Make an instruction model of the base model, in place.

    It learns to answer questions about one half of the world, to say that it
    does not know what does not exist, and to answer questions about pictures.
    All weights are trained: adapters of rank 8 learnt all three together
    less well.

    Args:
        gemma: a `Gemma` with the base model.
        recipe: `TinyRecipe`.
        verbose: as for `fit`.

    Returns:
        What `Gemma.finetune` returns.
    """
    world = recipe.world()
    # Many pictures and one question about each; few would be learnt by heart.
    drawn = _tuning_pictures(recipe)
    asked = picture_instructions(drawn)
    about_pictures = [asked[3 * i + i % 3] for i in range(len(drawn))]
    return gemma.finetune(
        world.instructions() + world.refusals(NUM_REFUSALS) + about_pictures,
        epochs=3,
        batch_size=16,
        learning_rate=5e-4,
        sequence_length=SEQUENCE_LENGTH,
        seed=recipe.seed,
        verbose=verbose,
    )


def measure(gemma, recipe=None, num_pictures=200):
    """Score a model on questions that no training has seen.

    Args:
        gemma: a `Gemma`.
        recipe: `TinyRecipe` of the world to ask about.
        num_pictures: int. New pictures, with three questions each.

    Returns:
        dict of floats, shares of all questions of a kind:
        `completed`, facts that it ends a sentence with;
        `known`, exact answers about what no instruction is about;
        `taught`, exact answers about what instructions are about;
        `refused_known` and `refused_unknown`, answers `REFUSAL`;
        `colour`, `shape`, `count`, exact answers about pictures;
        and these three with `_without_image` and with `_other_image`.
    """
    world = (recipe or TinyRecipe()).world()
    beginnings = world.beginnings()
    texts = [beginning.text for beginning in beginnings]
    ends = in_batches(
        lambda batch: gemma.generate(
            batch, SEQUENCE_LENGTH // 2, strip_prompt=True, stop_strings=["."]
        ),
        texts,
    )
    scores = {
        "completed": _share(
            end.strip().startswith(b.answer)
            for end, b in zip(ends, beginnings, strict=True)
        )
    }
    for name, which in (("known", "untaught"), ("taught", "taught")):
        questions = world.questions(which)
        answers = ask_all(gemma, questions)
        scores[name] = exact_share(answers, questions)
        if which == "untaught":
            scores["refused_known"] = _share(a == REFUSAL for a in answers)
    answers = ask_all(gemma, world.questions("unknown"))
    scores["refused_unknown"] = _share(a == REFUSAL for a in answers)

    drawn = unseen_pictures(num_pictures, TEST_SEED, recipe)
    others = unseen_pictures(num_pictures, TEST_SEED + 1, recipe)
    for number in range(3):
        questions = [picture.questions()[number] for picture in drawn]
        kind = questions[0].kind
        for suffix, shown in (
            ("", drawn),
            ("_without_image", None),
            ("_other_image", others),
        ):
            answers = ask_all(gemma, questions, shown)
            scores[kind + suffix] = exact_share(answers, questions)
    return scores


def ask_all(
    gemma,
    questions,
    shown=None,
    max_length=SEQUENCE_LENGTH // 2,
    batch_size=64,
):
    """Return the answers to many questions, a list of str.

    Args:
        gemma: a `Gemma`.
        questions: list of `toyworld.Question`.
        shown: list of `toyworld.Picture`, one for each question, or `None`.
        max_length: int. Tokens of question and answer together.
        batch_size: int. Questions answered at once. Images are what takes
            memory: a vision encoder of 4,096 patches has scores between all
            pairs of them.
    """
    if shown is None:
        return in_batches(
            lambda batch: gemma.ask(
                [question.text for question in batch], max_length=max_length
            ),
            questions,
            batch_size,
        )
    return in_batches(
        lambda batch: gemma.ask(
            [IMAGE_MARK + question.text for question, _ in batch],
            [[picture.image] for _, picture in batch],
            max_length=max_length,
        ),
        list(zip(questions, shown, strict=True)),
        batch_size,
    )


def unseen_pictures(count, seed, recipe=None, but_not=()):
    """Draw pictures that are, to the pixel, none that the model has seen.

    Another seed is not enough: of single shapes there are so few, that every
    sixth picture of another seed was drawn for training, too. So training's
    are all drawn again, which takes seconds once.

    Args:
        count: int.
        seed: int.
        recipe: `TinyRecipe` of the model.
        but_not: list of `toyworld.Picture` that must not be among them either.

    Returns:
        list of `toyworld.Picture`.
    """
    seen = _seen_pictures(recipe or TinyRecipe())
    seen = seen | set(map(_digest, but_not))
    drawn = (
        picture
        for number in itertools.count()
        for picture in pictures(count, seed=[seed, number])
        if _digest(picture) not in seen
    )
    return list(itertools.islice(drawn, count))


@functools.cache
def _seen_pictures(recipe):
    """Return what tells all pictures of pretraining and tuning: a set."""
    return frozenset(map(_digest, _training_pictures(recipe)))


def _training_pictures(recipe):
    for number in range(recipe.vision_steps):
        yield from _vision_pictures(recipe, number)
    placed = recipe.steps * (recipe.batch_size // 2) * PICTURES_IN_A_ROW
    for number in range(-(-placed // PICTURES_AT_ONCE)):
        yield from _pretraining_pictures(recipe, number)
    yield from _tuning_pictures(recipe)


def _digest(picture):
    return hashlib.sha256(picture.image.tobytes()).digest()


def _vision_pictures(recipe, number):
    return pictures(64, seed=[recipe.seed, 1, number])


def _pretraining_pictures(recipe, number):
    return pictures(PICTURES_AT_ONCE, seed=[recipe.seed, 2, number])


def _tuning_pictures(recipe):
    return pictures(NUM_PICTURES, seed=recipe.seed + 2000)


def exact_share(answers, questions):
    """Return the share of answers that are right to the letter: a float."""
    return _share(
        answer == question.answer
        for answer, question in zip(answers, questions, strict=True)
    )


def in_batches(function, items, batch_size=64):
    """Return what `function` gives for batches of a list, as one list."""
    batches = [
        items[i : i + batch_size] for i in range(0, len(items), batch_size)
    ]
    return [result for batch in batches for result in function(batch)]


def _share(flags):
    return float(np.mean([bool(flag) for flag in flags]))


def build(tokenizer, hidden_dim=128, num_layers=6, vision_dim=96):
    """Return an untrained `Gemma3CausalLM` with its preprocessor."""
    vision_encoder = keras_hub.models.Gemma3VisionEncoder(
        image_size=PICTURE_SIZE,
        patch_size=16,
        num_heads=4,
        hidden_dim=vision_dim,
        num_layers=3,
        intermediate_dim=2 * vision_dim,
        output_dim=hidden_dim,
        pool_size=1,
    )
    backbone = keras_hub.models.Gemma3Backbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        image_size=PICTURE_SIZE,
        num_layers=num_layers,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=hidden_dim,
        intermediate_dim=3 * hidden_dim,
        head_dim=hidden_dim // 4,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        use_sliding_window_attention=True,
        sliding_window_size=512,
        vision_encoder=vision_encoder,
    )
    preprocessor = keras_hub.models.Gemma3CausalLMPreprocessor(
        tokenizer,
        image_converter=keras_hub.layers.Gemma3ImageConverter(
            image_size=(PICTURE_SIZE, PICTURE_SIZE), scale=1 / 127.5, offset=-1
        ),
        sequence_length=SEQUENCE_LENGTH,
        max_images_per_prompt=2,
        num_vision_tokens_per_image=(
            vision_encoder.num_vision_tokens_per_image
        ),
    )
    return keras_hub.models.Gemma3CausalLM(
        backbone=backbone, preprocessor=preprocessor
    )


def caption(picture):
    """Return the caption of a picture as a sentence."""
    text = picture.caption
    return f"{text[0].upper()}{text[1:]}."


def picture_texts(picture, rng):
    """Return what stands under a picture: its caption, or two questions."""
    if rng.random() < 0.5:
        return caption(picture)
    return " ".join(
        f"{question.text} {question.answer}"
        for question in rng.sample(picture.questions(), k=2)
    )


def pretraining_dataset(recipe, preprocessor):
    """Return batches of all that there is to read, without an end.

    Documents follow one another, each from `<bos>` to `<eos>`, in other words
    each time. Every second row begins with three pictures, each with its
    caption or with questions about it.

    Args:
        recipe: `TinyRecipe`.
        preprocessor: the `Gemma3CausalLMPreprocessor` of the model.

    Returns:
        `tf.data.Dataset` of `(x, y, sample_weight)`, the same each time that
        it is read.
    """
    tokenizer, world = preprocessor.tokenizer, recipe.world()
    bos, eos = tokenizer.start_token_id, tokenizer.end_token_id

    def document_tokens():
        for number in itertools.count(recipe.seed):
            for tokens in tokenizer(world.documents(number)):
                yield from (bos, *map(int, tokens), eos)

    def pictures_with_text():
        for number in itertools.count():
            rng = random.Random(f"pictures {recipe.seed} {number}")
            batch = _pretraining_pictures(recipe, number)
            segments = [
                place_images(
                    [(IMAGE_MARK + picture_texts(picture, rng), False)],
                    1,
                    preprocessor,
                )
                for picture in batch
            ]
            rows = encode_all(tokenizer, segments)
            for picture, tokens in zip(batch, rows, strict=True):
                yield picture.image, [bos, *tokens, eos]

    def batches():
        documents, drawn = document_tokens(), pictures_with_text()
        while True:
            rows, images = [], []
            for number in range(recipe.batch_size):
                row, row_images = [], []
                if number % 2:
                    for image, tokens in itertools.islice(
                        drawn, PICTURES_IN_A_ROW
                    ):
                        row += tokens
                        row_images.append(image)
                missing = SEQUENCE_LENGTH + 1 - len(row)
                rows.append([*row, *itertools.islice(documents, missing)])
                images.append(row_images)
            yield _next_token_batch(
                np.array(rows), images, preprocessor, PICTURES_IN_A_ROW
            )

    return _from_batches(batches)


def _from_batches(batches):
    """Return the dataset of a function that yields batches of arrays."""
    signature = keras.tree.map_structure(
        lambda array: tf.TensorSpec(array.shape, array.dtype), next(batches())
    )
    return tf.data.Dataset.from_generator(
        batches, output_signature=signature
    ).prefetch(4)


def _next_token_batch(rows, images, preprocessor, num_images):
    """Return `(x, y, sample_weight)` of rows of one token more."""
    x = {
        "token_ids": rows[:, :-1].astype("int32"),
        "padding_mask": np.ones_like(rows[:, :-1], "bool"),
        **vision_inputs(rows[:, :-1], images, preprocessor, num_images),
    }
    y = rows[:, 1:].astype("int32")
    # Nobody needs to guess where a picture's tokens are.
    weight = y != preprocessor.tokenizer.image_placeholder_id
    return x, y, weight.astype("float32")


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
        (temporary / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n")


def fingerprint(recipe):
    """Return a SHA-256 of what a recipe's models read: a str."""
    world = recipe.world()
    digest = hashlib.sha256()
    for text in world.documents(recipe.seed):
        digest.update(text.encode())
    for row in world.instructions() + world.refusals():
        digest.update(f"{row.instruction}\n{row.response}".encode())
    for picture in _pretraining_pictures(recipe, 0)[:16]:
        digest.update(picture.image.tobytes())
    return digest.hexdigest()


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


def main(arguments=None):
    """Train both presets, or measure those that are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=assets_dir())
    parser.add_argument(
        "--run", type=pathlib.Path, help="folder for checkpoints"
    )
    parser.add_argument(
        "--measure", action="store_true", help="only measure what is there"
    )
    options = parser.parse_args(arguments)
    recipe = TinyRecipe()
    if options.measure:
        for name in OFFLINE_PRESETS:
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
    _ship(Gemma(causal_lm), options.out / OFFLINE_PRESETS[0], card)
    # From what is shipped, so that anybody can do it again from there.
    gemma = Gemma.from_preset(options.out / OFFLINE_PRESETS[0])
    card["tuning"] = tune_instruct(gemma, recipe, verbose=2)[-1]
    _ship(gemma, options.out / OFFLINE_PRESETS[1], card)


def _ship(gemma, folder, card):
    """Save a preset, and measure what was saved, rounded to bfloat16."""
    save_preset(gemma, folder, card)
    scores = measure(Gemma.from_preset(folder))
    print(folder.name, json.dumps(scores, indent=2))
    with whole_file(folder / CARD_FILE) as file:
        json.dump(card | {"scores": scores}, file, indent=2)


if __name__ == "__main__":
    main()
