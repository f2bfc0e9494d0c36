"""Gemma 3: load it, ask it, tune it (sections 16.3 and 16.4).

`Gemma` is a thin wrapper that hides nothing: `gemma.causal_lm` is KerasHub's
own model, and all that is done with it here can be done without.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import numbers
import os
import pathlib
import re

import keras
import keras_hub
import numpy as np
import safetensors

from kerasllm import backend, files, lora, pretraining
from kerasllm.arguments import check_prompt, check_text, position_tables
from kerasllm.images import (
    digest_of_image,
    is_image,
    list_images,
    load_image,
    place_images,
)
from kerasllm.instructions import TokenizedInstructions
from kerasllm.layers import check_positive_ints
from kerasllm.prompts import (
    MODEL,
    SYSTEM,
    USER,
    encode,
    get_template,
    start_tokens,
)
from kerasllm.rows import TokenizedPrompt
from kerasllm.samplers import greedy_search
from kerasllm.text_generator import TextGenerator

OFFLINE_PRESETS = ("tiny", "tiny_instruct")
KERAS_HUB_NAMES = (
    "hidden_dim",
    "num_layers",
    "num_query_heads",
    "num_key_value_heads",
    "head_dim",
)
HUGGING_FACE_NAMES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)
# In the same order, as Google published them. Gemma Team, 2025,
# arXiv:2503.19786.
ARCHITECTURES = {
    "270m": (640, 18, 4, 1, 256),
    "1b": (1152, 26, 4, 1, 256),
    "4b": (2560, 34, 8, 4, 256),
    "12b": (3840, 48, 16, 8, 256),
    "27b": (5376, 62, 32, 16, 128),
}
# Those from 4B upwards have a vision encoder, all the same but for the width
# of its output.
VISION_NAMES = (
    ("hidden_dim", "hidden_size"),
    ("num_layers", "num_hidden_layers"),
    ("intermediate_dim", "intermediate_size"),
    ("patch_size", "patch_size"),
    ("image_size", "image_size"),
)
VISION_ARCHITECTURE = (1152, 27, 4304, 14, 896)


class Gemma:
    """A Gemma 3 with its prompt template and its generator.

    Args:
        causal_lm: a `keras_hub.models.Gemma3CausalLM` with a preprocessor.
            Any other `CausalLM` that `TextGenerator` takes will do, too.
        template: `PromptTemplate` or the name of one.

    Example:
    ```python
    gemma = Gemma.from_preset("tiny_instruct")  # or "gemma3_instruct_4b"
    gemma.ask("What is the river of Marnerburg called?")
    ```

    Source: chapter 16, "Using a pretrained LLM".
    """

    def __init__(self, causal_lm, template="gemma"):
        self.causal_lm = causal_lm
        self.template = get_template(template)
        self.generator = TextGenerator(causal_lm)
        self._weights_digest = None
        self._adapters_digest = None

    @classmethod
    def from_preset(cls, name, dtype=None, template="gemma"):
        """Load a model.

        Args:
            name: `"tiny"` or `"tiny_instruct"`, which come with this package;
                the name of a Gemma 3 preset of KerasHub, such as
                `"gemma3_1b"`, which is downloaded from Kaggle once; a folder
                that `save_to_preset` wrote; or a folder with a Hugging Face
                checkpoint, with its tensors named as in the published ones. A
                folder comes before a preset of KerasHub with its name; one
                called `tiny` is `"./tiny"`.
            dtype: a Keras dtype. Defaults to Keras's own, float32;
                `"bfloat16"` takes half the memory.
            template: `PromptTemplate` or the name of one.

        Returns:
            A `Gemma`.

        Raises:
            ValueError: there is no such preset or dtype.
            OSError: the preset cannot be downloaded; says what is missing.
        """
        name = os.fspath(name)
        kwargs = {}
        if dtype is not None:
            _dtype_policy(dtype)  # KerasHub asks for it after the download
            kwargs["dtype"] = dtype
        source = preset_source(name)
        try:
            causal_lm = keras_hub.models.CausalLM.from_preset(source, **kwargs)
        except Exception as error:
            explained = _loading_error(name, source, error)
            if explained is None:  # no fault of the preset: no memory, ...
                raise
            raise explained from error
        _correct_pixels(causal_lm, source)
        return cls(causal_lm, template)

    def generate(
        self, prompts, max_length=None, sampler=greedy_search, **kwargs
    ):
        """Continue text, without any template.

        Args:
            prompts: str or list of str.
            max_length: int. See `TextGenerator.generate`, as for the rest.
            sampler: any sampler.
            **kwargs: passed on to `TextGenerator.generate`.

        Returns:
            What `TextGenerator.generate` returns.
        """
        return self.generator.generate(
            prompts, max_length, sampler=sampler, **kwargs
        )

    def ask(
        self,
        question,
        images=None,
        *,
        context=None,
        max_length=None,
        sampler=greedy_search,
        seed=None,
    ):
        """Ask as a user asks an instruction model.

        Special tokens in a question, all but the `<start_of_image>` that an
        image belongs to, are text: nobody can end a turn with them, or begin
        one.

        Args:
            question: str with one `<start_of_image>` for each image; or a
                list of questions, answered together.
            images: list of images, or one; see `kerasllm.images.load_image`.
                For a list of questions a list with an entry for each: such a
                list, an image, or `None`.
            context: str, a text that the question is about.
            max_length: int. Tokens of question and answer together.
            sampler: any sampler.
            seed: int.

        Returns:
            str, the answer, without marks; or a list of them.

        Raises:
            ValueError: a question is empty or too long, its marks and images
                do not fit, or an image is none.
            OSError: an image is not there.
        """
        one = isinstance(question, str)
        questions = [question] if one else list(question)
        if images is None:
            images = [()] * len(questions)
        elif one:
            images = [images]
        elif is_image(images):
            raise ValueError(
                "`images` must have a list of images for each question. "
                f"Received: one image for {len(questions)} questions. Write "
                "`[[image], ...]`."
            )
        images = list_images(images)
        if len(images) != len(questions):
            raise ValueError(
                "`images` must have a list of images for each question. "
                f"Received: {len(images)} for {len(questions)} questions."
            )
        prompts = [
            self.prompt(text, row_images, context)
            for text, row_images in zip(questions, images, strict=True)
        ]
        answers = self.generator.generate(
            prompts,
            max_length,
            seed=seed,
            strip_prompt=True,
            sampler=sampler,
            stop_strings=self._stop_strings(),
        )
        answers = [answer.strip() for answer in answers]
        return answers[0] if one else answers

    def prompt(self, question, images=None, context=None):
        """Return what `ask` has the model read, a `TokenizedPrompt`.

        Args:
            question: str.
            images: list of images, or one. They are read here.
            context: str.
        """
        check_prompt(question)
        if context is not None:
            check_text(
                "context", context, "It is for all questions: ask one by one."
            )
        images = list_images(images)
        preprocessor = self.causal_lm.preprocessor
        segments = place_images(
            self.template.prompt_segments(question, context),
            len(images),
            preprocessor,
        )
        arrays = tuple(map(load_image, images))
        return TokenizedPrompt(self._encode(segments), arrays)

    def chat(self, system=None, max_length=None, sampler=greedy_search):
        """Begin a conversation.

        Args:
            system: str. What the model is told before the first turn.
            max_length: int. Tokens that it sees at most, its answer included.
            sampler: any sampler.

        Returns:
            A `Chat`.
        """
        return Chat(self, system, max_length, sampler)

    def summary(self):
        """Print the layers of the model, as Keras does."""
        self.causal_lm.summary()

    def enable_lora(self, rank=8, targets=("query", "value"), lora_alpha=None):
        """Freeze the model and add adapters; see `kerasllm.enable_lora`."""
        report = lora.enable_lora(self.causal_lm, rank, targets, lora_alpha)
        self._adapters_digest = None
        return report

    def save_lora(self, path):
        """Write the adapters to a file; see `kerasllm.save_lora`."""
        lora.save_lora(self.causal_lm, path)

    def load_lora(self, path):
        """Read adapters from a file; see `kerasllm.load_lora`.

        A run of `finetune` that begins with them remembers from which.
        """
        lora.load_lora(self.causal_lm, path)
        self._adapters_digest = files.sha256(path)

    def merge_lora(self):
        """Add the adapters to the weights; see `kerasllm.merge_lora`."""
        lora.merge_lora(self.causal_lm)
        self._weights_digest = self._adapters_digest = None

    def finetune(
        self,
        rows,
        validation_rows=None,
        *,
        epochs=3,
        batch_size=8,
        learning_rate=1e-3,
        sequence_length=256,
        buckets=True,
        seed=0,
        directory=None,
        callbacks=(),
        verbose="auto",
    ):
        """Tune the model on requests and answers.

        What is trained is what is trainable: the adapters after
        `enable_lora`, the whole model otherwise, without the vision encoder
        where no row has an image. Only tokens of answers count.

        Args:
            rows: list of `Instruction`, see `kerasllm.instructions`.
            validation_rows: the same, to measure on after each epoch.
            epochs: int.
            batch_size: int.
            learning_rate: float or schedule. For adapters ten times that of
                full fine-tuning is usual.
            sequence_length: int. Rows with more tokens are left out and
                counted in a warning. At most what the model has positions
                for; a Gemma has no such limit.
            buckets: bool. See `TokenizedInstructions.dataset`.
            seed: int. The order of the rows.
            directory: str or path. Where checkpoints go; the same call with
                the same directory goes on where it was killed, and may ask
                for more epochs. `None` keeps none.
            callbacks: more Keras callbacks. When an epoch ends they may ask
                the model.
            verbose: as for `fit`.

        Returns:
            A list of dicts, one an epoch; see `kerasllm.pretrain`. Accuracy
            is that of all tokens of answers. Losses are means over batches,
            as in every `fit`: a batch with few such tokens counts as much as
            one with many, so compare losses with equal batches only.

        Raises:
            ValueError: rows or numbers do not fit the model, or none of its
                weights can be trained.
            FileNotFoundError: there is no such file of an image.
            RuntimeError: `directory` holds a run of another model, of other
                rows or of other arguments; says what differs. It has had more
                epochs already, or another process is at work there.
        """
        check_tuning(epochs, batch_size, learning_rate, sequence_length)
        positions = min(
            position_tables(self.causal_lm), default=sequence_length
        )
        if sequence_length > positions:
            raise ValueError(
                f"`sequence_length` must be at most {positions}, the length of "
                "the model's position table. Received: sequence_length="
                f"{sequence_length}. Pass less: longer rows are left out."
            )
        preprocessor = self.causal_lm.preprocessor
        parts = [
            TokenizedInstructions.of(
                part, preprocessor, self.template, sequence_length, name
            )
            for part, name in (
                (rows, "rows"),
                (validation_rows, "validation_rows"),
            )
            if part is not None
        ]
        for part in parts:
            part.warn_of_long_rows()
        train = parts[0]
        validation = None
        if validation_rows is not None:
            validation = parts[1].dataset(batch_size, buckets=buckets)
        steps = train.num_batches(batch_size, buckets)
        # A batch counts by the tokens in it, not by their share of its row.
        self.causal_lm.compile(
            optimizer=keras.optimizers.Adam(learning_rate),
            loss=keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction="mean_with_sample_weight"
            ),
            weighted_metrics=[
                keras.metrics.SparseCategoricalAccuracy(name="accuracy")
            ],
            sampler="greedy",
        )
        identity = None
        if directory is not None:
            identity = {
                "rows": _digest_of_rows(rows),
                "validation_rows": _digest_of_rows(validation_rows or ()),
                "learning_rate": keras.saving.serialize_keras_object(
                    learning_rate
                ),
                "batch_size": batch_size,
                "sequence_length": sequence_length,
                "buckets": buckets,
                "seed": seed,
                "template": dataclasses.asdict(self.template),
                **self._describe_model(),
            }
        frozen = contextlib.nullcontext()
        if not any(train.images):  # of the rows that were short enough
            frozen = _frozen_encoder(self.causal_lm.backbone)
        with frozen, _without_preprocessing(self.causal_lm):
            if not self.causal_lm.trainable_variables:
                raise ValueError(
                    "Something must be trainable. Received: a model whose "
                    "weights are all frozen. Call `enable_lora` for adapters, "
                    "or set `trainable = True` on the layers to train before "
                    "they get adapters of their own."
                )
            return pretraining.resumable_fit(
                self.causal_lm,
                train.endless(batch_size, seed, buckets),
                validation,
                directory=directory,
                identity=identity,
                epochs=epochs,
                steps_per_epoch=steps,
                tokens_in_a_batch=train.num_tokens / steps,
                variables=lora.changing_variables,
                callbacks=callbacks,
                verbose=verbose,
            )

    def _describe_model(self):
        """Return what a run of tuning depends on in the model: a dict."""
        model = self.causal_lm
        adapters = lora.adapted_layers(model)
        if adapters or self._weights_digest is None:
            # What adapters leave frozen is what it was, unless somebody has
            # changed it, so it is looked at each time. All weights only once:
            # a call that goes on may find some that were trained.
            self._weights_digest = _digest_of_weights(model)
        return {
            "model": self._weights_digest,
            "dtype": [model.variable_dtype, model.compute_dtype],
            "adapters": {
                key: [layer.lora_rank, float(layer.lora_alpha)]
                for key, layer in adapters
            },
            "loaded_adapters": self._adapters_digest,
            "trainable": [
                number
                for number, variable in enumerate(model.weights)
                if variable.trainable
            ],
        }

    def _encode(self, segments):
        """Return the tokens of segments, after the model's start token."""
        tokenizer = self.causal_lm.preprocessor.tokenizer
        return (*start_tokens(tokenizer), *encode(tokenizer, segments))

    def _stop_strings(self):
        """Return the mark that ends an answer, in a list."""
        end = self.template.end_of_turn
        return [end] if end else []


class Chat:
    """A conversation with a model.

    Attributes:
        messages: list of dicts `{"role": ..., "content": str}`, all that was
            said. What no longer fits into `max_length` stays here and is not
            shown to the model.
    """

    def __init__(self, gemma, system=None, max_length=None, sampler=None):
        self.gemma = gemma
        self.messages = []
        if system is not None:
            check_prompt(system)
            self.messages.append({"role": SYSTEM, "content": system})
        if max_length is None:
            max_length = gemma.causal_lm.preprocessor.sequence_length
        check_positive_ints(max_length=max_length)
        self.max_length = max_length
        self.sampler = greedy_search if sampler is None else sampler
        self._images = []

    def send(self, text, images=None, seed=None):
        """Say something and return the answer.

        Args:
            text: str, with one `<start_of_image>` for each image.
            images: list of images, or one. They are read once, here.
            seed: int.

        Returns:
            str.

        Raises:
            ValueError: the text alone does not fit into `max_length`, its
                marks and images do not fit, or an image is none.
            OSError: an image is not there.
        """
        return "".join(self.stream(text, images, seed)).strip()

    def stream(self, text, images=None, seed=None):
        """Say something and yield the answer in pieces, as it is written.

        Args:
            text: str, with one `<start_of_image>` for each image.
            images: list of images, or one. They are read once, here.
            seed: int.

        Returns:
            An iterator of str. What was said is remembered when it ends, and
            as far as it came when it is closed before.

        Raises:
            ValueError: see `send`.
            OSError: an image is not there.
        """
        check_prompt(text)
        message = {"role": USER, "content": text}
        # Every later turn shows them again; by then a file may be gone.
        images = [load_image(image) for image in list_images(images)]
        prompt = self._prompt(message, images)
        return self._stream(message, images, prompt, seed)

    def _stream(self, message, images, prompt, seed):
        gemma = self.gemma
        pieces = []
        try:
            for piece in gemma.generator.stream(
                prompt,
                self.max_length,
                seed=seed,
                sampler=self.sampler,
                stop_strings=gemma._stop_strings(),
            ):
                pieces.append(piece)
                yield piece
        except (GeneratorExit, KeyboardInterrupt):
            self._remember(message, images, pieces)
            raise
        self._remember(message, images, pieces)

    def _remember(self, message, images, pieces):
        answer = "".join(pieces).strip()
        self.messages += [message, {"role": MODEL, "content": answer}]
        self._images.append(images)

    def _prompt(self, message, images):
        """Return the tokens of as many turns as leave room for an answer."""
        is_system = bool(self.messages) and self.messages[0]["role"] == SYSTEM
        head = self.messages[:is_system]
        turns, past_images = self.messages[is_system:], list(self._images)
        # A quarter of the room belongs to the answer.
        longest = self.max_length - math.ceil(self.max_length / 4)
        while True:
            segments = self._segments(head, turns, past_images, message, images)
            shown = [image for row in past_images for image in row] + images
            prompt = TokenizedPrompt(self.gemma._encode(segments), tuple(shown))
            if len(prompt.token_ids) <= longest:
                return prompt
            if not turns:
                raise ValueError(
                    "A message must leave a quarter of `max_length` for the "
                    f"answer. Received: {len(prompt.token_ids)} tokens for "
                    f"max_length={self.max_length}. Say less, or raise it."
                )
            turns, past_images = turns[2:], past_images[1:]

    def _segments(self, head, turns, past_images, message, images):
        """Return the segments of a conversation with its images placed."""
        template = self.gemma.template
        preprocessor = self.gemma.causal_lm.preprocessor
        segments = template.chat_segments([*head, *turns, message])
        # Each text of the user's takes the images that came with it. A mark in
        # what the model or the system said is text.
        rows = iter([*past_images, images])
        spoken = [*head, *turns, message]
        roles = iter([m["role"] for m in spoken if m["content"]])
        placed = []
        for text, is_mark in segments:
            if not is_mark and next(roles) == USER:
                row = next(rows)
                placed += place_images([(text, False)], len(row), preprocessor)
            else:
                placed.append((text, is_mark))
        return placed


@dataclasses.dataclass(frozen=True)
class MemoryEstimate:
    """What a model needs, before it is loaded; activations come on top.

    Attributes:
        parameters: int.
        lora_parameters: int. Those of adapters at query and value.
        weights_bytes: int.
        adam_bytes: int. Weights, gradients and Adam's two moments.
        lora_bytes: int. Weights, adapters, their gradients and moments.
    """

    parameters: int
    lora_parameters: int
    weights_bytes: int
    adam_bytes: int
    lora_bytes: int

    def __str__(self):
        rows = (
            ("weights, to generate", self.weights_bytes),
            ("full fine-tuning with Adam", self.adam_bytes),
            ("LoRA", self.lora_bytes),
        )
        lines = [f"{self.parameters:,} parameters"]
        lines += [f"{name:28}{size / 2**30:9.2f} GiB" for name, size in rows]
        return "\n".join(lines)


class UnknownSizeError(ValueError):
    """Nothing is known of the size of a model before it is loaded."""


def estimate_memory(name, dtype="float32", rank=8):
    """Tell what a model needs without loading or downloading it.

    Args:
        name: a name of a preset, or a folder; see `Gemma.from_preset`.
        dtype: a Keras dtype. That of weights and optimizer; with a mixed one
            they are float32. A vision encoder and adapters always are.
        rank: int. That of the adapters.

    Returns:
        A `MemoryEstimate`.

    Raises:
        ValueError: there is no such preset or dtype.
        UnknownSizeError: there may be such a preset, but nothing is known of
            its size, as of all with an address, `"hf://..."`.
    """
    policy = _dtype_policy(dtype)
    lora.check_rank(rank)
    source = preset_source(name)
    if os.path.isdir(source):
        parameters, architecture, vision = _read_sizes(pathlib.Path(source))
    else:
        # An address is among neither.
        presets = keras_hub.models.Gemma3CausalLM.presets
        sizes = [size for size in ARCHITECTURES if size in source.split("_")]
        if source not in presets or not sizes:
            raise UnknownSizeError(
                "`name` must be a folder or a preset of KerasHub of a Gemma 3 "
                f"whose sizes were published: {', '.join(ARCHITECTURES)}. "
                f"Received: {name!r}."
            )
        parameters = presets[source]["metadata"]["params"]
        architecture = ARCHITECTURES[sizes[0]]
        is_text_only = sizes[0] in ("270m", "1b") or "text" in source
        vision = () if is_text_only else VISION_ARCHITECTURE
    hidden_dim, num_layers, num_heads, num_kv_heads, head_dim = architecture
    # Keras's adapters of a kernel (heads, hidden_dim, head_dim).
    per_layer = (num_heads + num_kv_heads) * hidden_dim + 2 * head_dim
    adapters = num_layers * rank * per_layer
    width = 2 if "16" in policy.variable_dtype else 4
    # KerasHub has the vision encoder, and Keras the adapters, in float32.
    seeing = _count_vision(*vision, hidden_dim) if vision else 0
    weights_bytes = width * (parameters - seeing) + 4 * seeing
    return MemoryEstimate(
        parameters=parameters,
        lora_parameters=adapters,
        weights_bytes=weights_bytes,
        adam_bytes=4 * weights_bytes,
        lora_bytes=weights_bytes + 4 * 4 * adapters,
    )


def _count_vision(
    width, num_layers, intermediate_dim, patch_size, image_size, output_dim
):
    """Return the number of parameters of a vision encoder: an int."""
    patches = 3 * patch_size**2 * width + width
    positions = (image_size // patch_size) ** 2 * width
    norm = 2 * width
    attention = 4 * (width**2 + width)
    feed_forward = 2 * width * intermediate_dim + intermediate_dim + width
    layer = attention + feed_forward + 2 * norm
    output = width + width * output_dim  # a norm without a bias; a projection
    return patches + positions + num_layers * layer + norm + output


def check_tuning(epochs=1, batch_size=1, learning_rate=1e-3, sequence_length=1):
    """Raise a `ValueError` for numbers that `Gemma.finetune` cannot take."""
    check_positive_ints(
        epochs=epochs, batch_size=batch_size, sequence_length=sequence_length
    )
    # The other kind is a schedule.
    is_number = isinstance(learning_rate, numbers.Real)
    if is_number and not 0 < learning_rate < math.inf:
        raise ValueError(
            "`learning_rate` must be positive. Received: learning_rate="
            f"{learning_rate!r}. 1e-3 is a good start with adapters, 1e-4 "
            "without."
        )


def preset_source(name):
    """Return what KerasHub should load: a folder or the name itself.

    Raises:
        ValueError: it is neither a folder nor the name of a preset.
    """
    name = os.fspath(name)
    if name in OFFLINE_PRESETS:
        return str(files.assets_dir() / name)
    if os.path.isdir(name):
        # KerasHub looks for a preset first, whose name a folder may have.
        return os.path.abspath(name)
    presets = keras_hub.models.Gemma3CausalLM.presets
    if name in presets or "://" in name:
        return name
    gemmas = [preset for preset in presets if preset.startswith("gemma3")]
    raise ValueError(
        f"`name` must be one of {', '.join(OFFLINE_PRESETS)} (offline), a "
        f"folder, or a preset of KerasHub: {', '.join(sorted(gemmas))}. "
        f"Received: {name!r}."
    )


def _correct_pixels(causal_lm, source):
    """Give a Hugging Face checkpoint the pixels that Gemma was trained on.

    They lie between -1 and 1. KerasHub's converter multiplies by the standard
    deviation that the checkpoint names, where it has to divide, and white
    becomes -0.5.
    """
    converter = getattr(causal_lm.preprocessor, "image_converter", None)
    names_them = os.path.isfile(
        os.path.join(source, "preprocessor_config.json")
    )
    if converter is not None and (names_them or source.startswith("hf://")):
        converter.scale, converter.offset = 2 / 255, -1.0


@contextlib.contextmanager
def _frozen_encoder(backbone):
    """Leave out the vision encoder, if there is one, where nothing is seen.

    Its gradients would be zero, take memory in Adam, and fail on TensorFlow:
    some CPUs cannot compute them for no image at all.
    """
    encoder = getattr(backbone, "vision_encoder", None)
    weights = encoder.trainable_weights if encoder else []
    for weight in weights:
        weight.trainable = False
    try:
        yield
    finally:
        for weight in weights:
            weight.trainable = True


@contextlib.contextmanager
def _without_preprocessing(task):
    """Have `fit` take what is tokenized already.

    `task.preprocessor = None` does so, too, but without a preprocessor nobody
    can ask the model, callbacks neither.
    """
    task.preprocess_samples = keras.utils.pack_x_y_sample_weight
    try:
        yield
    finally:
        del task.preprocess_samples


def _digest_of_weights(model):
    """Return a hash of what a run begins with: a str.

    Of a model with adapters, what is frozen: they begin at random, and what is
    trained beside them may have been trained already.
    """
    has_adapters = bool(lora.adapted_layers(model))
    digest = hashlib.sha256()
    for variable in model.weights:
        is_float = keras.backend.is_float_dtype(variable.dtype)
        if is_float and not (has_adapters and variable.trainable):
            # NumPy gets bfloat16 from some backends only.
            array = backend.to_numpy(variable).astype("float32")
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _digest_of_rows(rows):
    """Return a hash of rows in their order, images included: a str."""
    digest = hashlib.sha256()
    for row in rows:
        images = [digest_of_image(image) for image in row.images]
        parts = [row.instruction, row.response, row.context, images]
        digest.update(json.dumps(parts).encode())
    return digest.hexdigest()


def _read_sizes(folder):
    """Return a preset's number of parameters and both its architectures."""
    try:
        config = json.loads((folder / "config.json").read_text())
        if "model_type" in config:
            return _read_hugging_face_sizes(folder, config)
        metadata = json.loads((folder / "metadata.json").read_text())
        config = config["config"]
        vision = (config["vision_encoder"] or {}).get("config")
        return (
            metadata["parameter_count"],
            [config[name] for name in KERAS_HUB_NAMES],
            vision and [vision[name] for name, _ in VISION_NAMES],
        )
    except KeyError as error:
        raise UnknownSizeError(
            "`name` must be a Gemma 3 to know its sizes. Received: "
            f"{folder}, whose configuration has no {error}."
        ) from error
    except safetensors.SafetensorError as error:
        raise _loading_error(folder, folder, error) from error
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            "A folder must hold a KerasHub preset or a Hugging Face "
            f"checkpoint of Gemma 3. Received: {folder} ({error})."
        ) from error


def _read_hugging_face_sizes(folder, config):
    """Count parameters in the headers of the safetensors files."""
    # As KerasHub looks for them.
    names = {"model.safetensors"}
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text())["weight_map"].values())
    parameters = 0
    for name in sorted(names):
        with safetensors.safe_open(folder / name, framework="np") as file:
            parameters += sum(
                math.prod(file.get_slice(key).get_shape())
                for key in file.keys()
            )
    if not parameters:
        raise OSError("its safetensors files hold no weights")
    vision = config.get("vision_config")
    config = config.get("text_config", config)
    # What KerasHub takes where a published configuration is silent.
    config = {"num_attention_heads": 8, "num_key_value_heads": 4} | config
    return (
        parameters,
        [config[name] for name in HUGGING_FACE_NAMES],
        vision and [vision[name] for _, name in VISION_NAMES],
    )


def _dtype_policy(dtype):
    """Return the Keras policy of that name, or raise a `ValueError`."""
    try:
        policy = keras.dtype_policies.get(dtype)
        if not keras.backend.is_float_dtype(policy.variable_dtype):
            raise ValueError("not a float")
        return policy
    except (TypeError, ValueError) as error:
        raise ValueError(
            '`dtype` must be a Keras dtype, such as "float32", "bfloat16" or '
            f'"mixed_bfloat16". Received: dtype={dtype!r}.'
        ) from error


def _loading_error(name, source, error):
    """Return what explains that a preset was not loaded, or `None`."""
    if not os.path.isdir(source):
        return _download_error(name, error)
    if "does not contain tensor" in str(error):
        return ValueError(
            "The tensors of a Hugging Face checkpoint must have the names that "
            "KerasHub looks for, those of the published checkpoints. Received: "
            f"{name} ({error}). Transformers 5 writes a vision tower under "
            "other names: save that model with an older version, or its "
            "language model alone."
        )
    if isinstance(error, safetensors.SafetensorError):
        return ValueError(
            "The safetensors files of a folder must be whole. Received: "
            f"{name} ({error}). Copy or download them again."
        )
    if not isinstance(error, OSError | ValueError | KeyError):
        return None
    return ValueError(
        "A folder must hold a KerasHub preset or a Hugging Face checkpoint of "
        f"Gemma 3. Received: {name} ({error}). Write one with "
        "`causal_lm.save_to_preset(folder)`."
    )


def _download_error(name, error):
    """Return the `OSError` that says what a download lacks, or `None`."""
    causes = [error]  # what was raised, and what that was raised for
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    # KerasHub makes a `ValueError` of what Kaggle said, and of a file that
    # may not be read one that is not there.
    of_network = causes if isinstance(error, ValueError) else [error]
    has_nothing = "has no config.json" in str(error)
    is_closed = "://" not in name and has_nothing
    # Kaggle says the same to an account that has not accepted the terms and to
    # nobody at all.
    is_nobody = "://" not in name and not _has_kaggle_credentials()
    # KerasHub tells nothing else of Hugging Face, whatever went wrong there.
    is_silent = has_nothing and name.startswith("hf://")
    if not (is_closed or is_silent) and not any(
        isinstance(cause, OSError)
        or type(cause).__module__ == "kagglehub.exceptions"
        for cause in of_network
    ):
        return None
    messages = [f"{type(cause).__name__}: {cause}" for cause in causes]
    text = " ".join(messages).lower()
    hub = "Kaggle"
    login = "KAGGLE_USERNAME and KAGGLE_KEY, or run `kagglehub.login()`"
    if name.startswith("hf://"):
        hub, login = "Hugging Face", "HF_TOKEN, or run `hf auth login`"
    if is_closed or re.search(r"\b403\b|\bgated\b|not accessible", text):
        is_closed = True
    if is_closed and not is_nobody:
        problem = "its terms have not been accepted by this account"
        cure = f"Accept them on the model's page of {hub}, then try again"
    elif is_closed or re.search(r"\b401\b|credential|unauthenticated", text):
        problem = f"there are no valid {hub} credentials"
        cure = f"Create an API token in your {hub} account and set {login}"
    else:
        problem = "it could not be downloaded; is there a network?"
        cure = "Look at the network, and for room on the disk, and try again"
        if is_silent:
            problem = "it could not be downloaded, or there is no such model"
            cure += f"; a model whose terms must be accepted needs {login}"
    offline = "tiny_instruct" if "instruct" in name else "tiny"
    return OSError(
        f"The preset must be reachable. Received: {name!r}, but {problem} "
        f"({messages[0][:200]}). {cure}. {offline!r} is a small Gemma 3 that "
        "needs no network."
    )


def _has_kaggle_credentials():
    """Tell whether anybody has logged in to Kaggle, as KerasHub would."""
    from kagglehub import config  # only where a download has failed

    return config.get_kaggle_credentials() is not None
