"""Writes this folder: files as the first version of the package saved them.

Made once by kerasllm 0.1.0 at commit ee3b575, where the rooms of the package
still lay side by side. The compiled model is JAX's: a `.keras` file names the
class of its optimizer, and PyTorch's is one that the others cannot use.

    git worktree add /tmp/first ee3b575
    KERAS_BACKEND=torch PYTHONPATH=/tmp/first python make.py
    KERAS_BACKEND=jax PYTHONPATH=/tmp/first python make.py

`tests/test_first_version.py` reads the files with the package of today. Do not
make them again with a later version: that they are old is their use.
"""

import json
import pathlib
import random
import shutil
import zipfile

import keras
import numpy as np
from keras import ops

import kerasllm
from kerasllm import files, instructions, lora, pretraining
from kerasllm.checkpoints import CHECKPOINT_FILE
from kerasllm.gemma import Gemma
from kerasllm.images import vision_inputs
from kerasllm.layers import LoraLinear
from kerasllm.models import MiniGPTCausalLM, Recipe, mini_gpt
from kerasllm.schedules import WarmupSchedule

HERE = pathlib.Path(__file__).parent
PROMPT = "The old baker"
QUESTION = "What does the baker carry?"
MAX_LENGTH = 24
# No dropout: masks differ among backends, and what follows is compared.
RECIPE = Recipe(
    vocabulary_size=300,
    sequence_length=64,
    hidden_dim=16,
    intermediate_dim=32,
    num_heads=2,
    num_layers=2,
    dropout=0.0,
    batch_size=4,
    learning_rate=1e-2,
    warmup_steps=4,
    epochs=2,
    steps_per_epoch=20,
    validation_fraction=0.2,
    validation_steps=2,
)
RUN = {"recipe": RECIPE, "dtype": "float32", "seed": 3, "verbose": 0}
TUNING = {
    "batch_size": 4,
    "learning_rate": 1e-2,
    "sequence_length": 64,
    "verbose": 0,
}


class Killed(Exception):
    """Stands for a kill."""


class KillInEpoch(keras.callbacks.Callback):
    """Ends a run in its second epoch, after the checkpoint of the first."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise Killed


def write_text():
    """Write 300 documents of one or two sentences, a document a line."""
    rng = random.Random(0)
    words = {
        "who": "baker farmer sailor teacher miller".split(),
        "how": "old young tall quiet".split(),
        "what": "bread apples water letters stones".split(),
        "where": "market harbor school river mill".split(),
    }

    def sentence():
        pick = {key: rng.choice(options) for key, options in words.items()}
        return (
            "The {how} {who} carries {what} from the {where}, and "
            "comes back in the evening."
        ).format(**pick)

    lines = [
        " ".join(sentence() for _ in range(rng.randint(1, 2)))
        for _ in range(300)
    ]
    (HERE / "text.txt").write_text("\n".join(lines) + "\n")
    rows = [
        {"instruction": f"What does the {who} carry?", "response": what}
        for who, what in zip(words["who"], words["what"], strict=True)
    ]
    (HERE / "requests.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows)
    )


def logits(model, token_ids):
    """Return float32 logits `(1, length, vocabulary_size)`."""
    token_ids = np.array([token_ids], "int32")
    if hasattr(model, "backbone"):
        token_ids = {
            "token_ids": token_ids,
            "padding_mask": np.ones_like(token_ids),
        }
    return ops.convert_to_numpy(model(token_ids))


def greedy(generator, prompt):
    """Return the greedy text, of which no token was a near tie."""
    result = generator.generate(prompt, MAX_LENGTH, return_logprobs=True)
    causal_lm = generator.causal_lm
    token_ids = np.array(causal_lm.preprocessor.tokenizer(prompt))
    token_ids = [*token_ids, *result.token_ids]
    scores = np.sort(logits(causal_lm, token_ids)[0], axis=-1)
    lead = scores[-len(result.token_ids) - 1 : -1]
    if (lead[:, -1] - lead[:, -2]).min() < 1e-2:
        raise SystemExit("A near tie: another backend may choose otherwise.")
    return result.text


def sharpen(model):
    """Move weights of a fresh model, so that its logits differ widely."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(weight + rng.normal(0, 0.1, weight.shape))


def some_tokens():
    """Return int32 tokens `(8, 17)`."""
    return np.random.default_rng(1).integers(0, 50, (8, 17)).astype("int32")


def make_mini_gpt(arrays):
    """A model that was never compiled."""
    keras.utils.set_random_seed(1)
    model = mini_gpt(50, 16, 16, 32, 2, num_layers=2, dropout=0.1)
    sharpen(model)
    model.save(HERE / "mini_gpt.keras")
    arrays["tokens"] = some_tokens()
    arrays["mini_gpt"] = logits(model, some_tokens()[0, :-1])


def make_compiled(arrays):
    """A model in the middle of a training."""
    keras.utils.set_random_seed(1)
    x, y = some_tokens()[:, :-1], some_tokens()[:, 1:]
    model = mini_gpt(50, 16, 16, 32, 2, num_layers=1, dropout=0.0)
    sharpen(model)
    model.compile(
        keras.optimizers.Adam(WarmupSchedule(rate=1e-2, warmup_steps=4)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    for _ in range(6):
        model.train_on_batch(x, y)
    model.save(HERE / "mini_gpt_compiled.keras")
    arrays["compiled"] = logits(model, x[0])
    model.train_on_batch(x, y)  # one step that follows the file
    arrays["compiled_next"] = logits(model, x[0])


def make_runs(arrays, expected):
    """A finished run of pretraining, and one that was killed."""
    data = [HERE / "text.txt"]
    run = pretraining.pretrain_mini_gpt(
        data=data, directory=HERE / "finished", **RUN
    )
    token_ids = np.array(run.tokenizer(PROMPT))
    arrays["prompt_ids"] = token_ids
    arrays["finished"] = logits(run.model, token_ids)
    expected["finished"] = greedy(run.generator(), PROMPT)
    expected["history"] = run.record["history"]
    (HERE / "finished" / CHECKPOINT_FILE).unlink()  # of no use any more
    try:
        pretraining.pretrain_mini_gpt(
            data=data,
            directory=HERE / "unfinished",
            callbacks=[KillInEpoch()],
            **RUN,
        )
    except Killed:
        pass
    return run


def make_task(run, arrays, expected):
    """A preset, adapters of it, and a run of tuning that may go on."""
    causal_lm = run.causal_lm()
    causal_lm.save_to_preset(HERE / "preset")
    arrays["preset"] = logits(causal_lm, arrays["prompt_ids"])
    expected["preset"] = greedy(kerasllm.TextGenerator(causal_lm), PROMPT)

    rows = instructions.read_jsonl(HERE / "requests.jsonl")
    tuned = Gemma(causal_lm, "book")
    tuned.enable_lora(rank=2, lora_alpha=4.0)
    # Adapters begin at random, other ones on each backend.
    rng = np.random.default_rng(0)
    for _, layer in lora.adapted_layers(causal_lm):
        layer.lora_kernel_a.assign(
            rng.normal(0, 0.3, layer.lora_kernel_a.shape)
        )
    tuned.finetune(rows, epochs=2, **TUNING)
    tuned.save_lora(HERE / "mini_gpt.lora.h5")
    arrays["mini_gpt_lora"] = logits(causal_lm, arrays["prompt_ids"])

    tuned = Gemma(MiniGPTCausalLM.from_preset(str(HERE / "preset")), "book")
    tuned.finetune(rows, epochs=1, directory=HERE / "tuning", **TUNING)
    scratch = HERE / "scratch"
    shutil.copytree(HERE / "tuning", scratch)
    expected["tuning"] = tuned.finetune(
        rows, epochs=2, directory=scratch, **TUNING
    )
    shutil.rmtree(scratch)
    arrays["tuning"] = logits(tuned.causal_lm, arrays["prompt_ids"])


def make_gemma_adapters(arrays, expected):
    """Adapters of the small Gemma that comes with the package."""
    gemma = Gemma.from_preset("tiny")
    gemma.enable_lora(rank=2)
    rng = np.random.default_rng(0)
    for _, layer in lora.adapted_layers(gemma.causal_lm):
        for kernel in (layer.lora_kernel_a, layer.lora_kernel_b):
            kernel.assign(rng.normal(0, 0.2, kernel.shape))
    gemma.save_lora(HERE / "gemma.lora.h5")
    prompt = gemma.prompt(QUESTION)
    arrays["gemma_prompt_ids"] = np.array(prompt.token_ids)
    x = np.array([prompt.token_ids], "int32")
    x = {"token_ids": x, "padding_mask": np.ones_like(x)}
    # The other inputs, for one text without an image.
    preprocessor = gemma.causal_lm.preprocessor
    x |= vision_inputs(x["token_ids"], [()], preprocessor, 1)
    # All logits are 2,048 for each position: the last ones will do.
    arrays["gemma"] = ops.convert_to_numpy(gemma.causal_lm(x))[0, -1]
    expected["gemma"] = gemma.generate(QUESTION, MAX_LENGTH)
    weights = HERE.parents[2] / "assets" / "tiny" / "model.weights.h5"
    expected["gemma_weights"] = files.sha256(weights)


def make_lora_linear(arrays):
    """A model with the chapter's `LoraLinear`."""
    keras.utils.set_random_seed(2)
    layer = LoraLinear(6, 4, rank=2, lora_alpha=3.0)
    model = keras.Sequential([keras.Input((6,)), layer])
    rng = np.random.default_rng(2)
    layer.beta.assign(rng.normal(0, 1, layer.beta.shape))
    model.save(HERE / "lora_linear.keras")
    inputs = rng.normal(0, 1, (3, 6)).astype("float32")
    arrays["lora_linear_inputs"] = inputs
    arrays["lora_linear"] = ops.convert_to_numpy(model(inputs))


def squeeze(path):
    """Compress a `.keras` or `.npz` file in place; both are zip archives."""
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, part in parts.items():
            new.writestr(name, part)


def main():
    """Write everything but this file."""
    if kerasllm.__version__ != "0.1.0":
        raise SystemExit("Only the first version makes these.")
    if keras.backend.backend() == "jax":
        arrays = dict(np.load(HERE / "arrays.npz"))
        make_compiled(arrays)
        np.savez_compressed(HERE / "arrays.npz", **arrays)
        squeeze(HERE / "mini_gpt_compiled.keras")
        return
    for path in HERE.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "make.py":
            path.unlink()
    arrays, expected = {}, {"version": kerasllm.__version__}
    write_text()
    make_mini_gpt(arrays)
    run = make_runs(arrays, expected)
    make_task(run, arrays, expected)
    make_gemma_adapters(arrays, expected)
    make_lora_linear(arrays)
    np.savez_compressed(HERE / "arrays.npz", **arrays)
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (HERE / "expected.json").write_text(text + "\n")
    for pattern in ("**/*.keras", "*/*.npz"):
        for path in HERE.glob(pattern):
            squeeze(path)


if __name__ == "__main__":
    main()
