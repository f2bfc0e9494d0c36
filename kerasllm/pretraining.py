"""Pretraining: `compile`, `fit`, and what a run of hours needs around them.

`pretrain` is the chapter's listing 16.8 with checkpoints: kill it at any
moment, call it again with the same arguments, and it goes on at the batch
after its last checkpoint and ends where it would have ended.
`pretrain_mini_gpt` goes all the way from shards of text to a folder with a
trained model in it.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import pathlib
import time

import keras

from kerasllm import backend, corpora, files, losses, pipeline, tokenizers
from kerasllm import distribution as devices
from kerasllm.checkpoints import (
    CHECKPOINT_FILE,
    RUN_FILE,
    Checkpoint,
    describe_batch,
)
from kerasllm.generation import TextGenerator
from kerasllm.layers import check_positive_ints
from kerasllm.models import MiniGPTCausalLM, get_recipe
from kerasllm.samplers import greedy_search
from kerasllm.schedules import UpdateSchedule, WarmupSchedule

MODEL_FILE = "model.keras"
VOCABULARY_FILE = "vocabulary.spm"


@devices.distributed
def pretrain(
    model,
    train_dataset,
    validation_dataset=None,
    *,
    directory,
    epochs=8,
    steps_per_epoch=None,
    validation_steps=None,
    learning_rate=None,
    checkpoint_steps=200,
    loss_chunks=1,
    gradient_accumulation_steps=None,
    sample=None,
    variables=None,
    callbacks=(),
    verbose="auto",
    distribution=None,
):
    """Train a model to predict the next token, and survive interruption.

    Args:
        model: keras model from token ids to float logits, such as a
            `mini_gpt`. It starts from the weights that it has, unless
            `directory` holds a checkpoint.
        train_dataset: `tf.data.Dataset` of `(x, y)`, int32
            `(batch_size, sequence_length)` each, which gives the same batches
            in the same order whenever it is read, as `pretraining_dataset`
            does. A run longer than the data reads it again. A run that goes
            on is refused where the first batch is not what it was: data that
            are shuffled need a `seed` and `reshuffle_each_iteration=False`.
        validation_dataset: the same, or `None` for no validation.
        directory: str or path. Where the checkpoint and the log,
            `history.csv`, go. A run that lies there is continued. `None`
            keeps neither.
        epochs: int. Number of times that training stops to validate.
        steps_per_epoch: int. Batches in an epoch. Defaults to an equal share
            of one pass over the data, as in the chapter.
        validation_steps: int. Batches in a validation, or `None` for all.
        learning_rate: float or schedule. Defaults to `WarmupSchedule()`. A run
            that goes on takes the one that it is given then.
        checkpoint_steps: int. Batches between checkpoints; there is one
            after each epoch in any case.
        loss_chunks: int. Parts of the sequence for which the logits are
            computed in turns; more take less memory, see `losses`. The
            callbacks' `model` is then a `losses.training_model`.
        gradient_accumulation_steps: int, at least 2. Batches whose gradients
            are averaged for one update, as for every Keras optimizer. Unlike
            there a schedule is asked by updates, so that it does the same as
            with batches so many times as large. All other steps are batches.
        sample: callable `model -> str`, called and printed after each epoch.
        variables: see `resumable_fit`.
        callbacks: more Keras callbacks.
        verbose: `"auto"`, 0, 1 or 2, as for `fit`.
        distribution: a `keras.distribution.Distribution`, as
            `kerasllm.distribution` makes them, in whose scope `model` was
            built. Defaults to the current one. Of several processes each has
            its own part of all batches in its data sets; the first one writes
            what goes to `directory`, which all must see.

    Returns:
        A list of dicts, one an epoch: `epoch`, `step` (batches so far),
        `loss` (nats a token), `accuracy`, `perplexity`, `tokens_per_second`
        and, with validation, `val_loss`, `val_accuracy`, `val_perplexity`.

    Raises:
        ValueError: an argument is out of range, there are too few data, or
            model or batches do not fit `distribution`.
        OSError: nothing can be written to `directory`, or no more. The last
            checkpoint is still there.
        RuntimeError: the checkpoint in `directory` is of another model or of
            other data, has another number of steps in an epoch, or more
            epochs than `epochs`; another run is at work there; not all
            processes see `directory`, or one of them had an error.
        FloatingPointError: the loss, the validation's or a weight became NaN
            or infinite. The last checkpoint is from before that.
        TrainingInterrupted: Ctrl-C was pressed; the state was saved first.

    Source: chapter 16, "Pretraining the model", listing 16.8.
    """
    check_positive_ints(
        epochs=epochs,
        checkpoint_steps=checkpoint_steps,
        loss_chunks=loss_chunks,
    )
    if steps_per_epoch is None:
        steps_per_epoch = _share_of_one_pass(train_dataset, epochs)
    check_positive_ints(steps_per_epoch=steps_per_epoch)
    devices.check_model(model)
    devices.check_batches(train_dataset)
    devices.check_batches(validation_dataset)
    if validation_dataset is not None and validation_steps is not None:
        validation_dataset = validation_dataset.take(validation_steps)
    first_batch = _first_batch(train_dataset)
    trained, objective, prepare = losses.next_token_objective(
        model, loss_chunks
    )
    rate = WarmupSchedule() if learning_rate is None else learning_rate
    if gradient_accumulation_steps and isinstance(
        rate, keras.optimizers.schedules.LearningRateSchedule
    ):
        rate = UpdateSchedule(rate, gradient_accumulation_steps)
    train_dataset = train_dataset.map(prepare)
    if validation_dataset is not None:
        validation_dataset = validation_dataset.map(prepare)
    trained.compile(
        keras.optimizers.Adam(
            rate,
            gradient_accumulation_steps=gradient_accumulation_steps,
        ),
        **objective,
    )
    return resumable_fit(
        trained,
        train_dataset,
        validation_dataset,
        directory=directory,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        tokens_in_a_batch=math.prod(first_batch["shape"]),
        checkpoint_steps=checkpoint_steps,
        sample=None if sample is None else lambda: sample(model),
        first_batch=first_batch,
        variables=variables,
        callbacks=callbacks,
        verbose=verbose,
    )


def resumable_fit(
    model,
    train_dataset,
    validation_dataset=None,
    *,
    directory,
    epochs,
    steps_per_epoch,
    tokens_in_a_batch,
    identity=None,
    checkpoint_steps=200,
    sample=None,
    first_batch=None,
    variables=None,
    callbacks=(),
    verbose="auto",
):
    """Call `fit` on a compiled model so that it can be killed and called again.

    Args:
        model: compiled keras model.
        train_dataset: `tf.data.Dataset` that gives the same batches in the
            same order whenever it is read.
        validation_dataset: the same, or `None`.
        directory: str or path. See `pretrain`, as for the rest.
        epochs: int.
        steps_per_epoch: int.
        tokens_in_a_batch: number, the mean, for `tokens_per_second`.
        identity: dict for JSON. What decides the run and `directory` is to be
            claimed for, if nobody has done so.
        checkpoint_steps: int.
        sample: callable `() -> str`.
        first_batch: see `Checkpoint`.
        variables: callable from `model` to the list of its variables that a
            checkpoint has to keep, such as `lora.changing_variables`. Defaults
            to all of them. Those of the optimizer come by themselves.
        callbacks: more Keras callbacks.
        verbose: `"auto"`, 0, 1 or 2.

    Returns:
        A list of dicts, see `pretrain`.

    Raises:
        OSError, RuntimeError, FloatingPointError, TrainingInterrupted: as
            `pretrain`.
    """
    model.optimizer.build(model.trainable_variables)
    with devices.only_run_in(directory):
        if identity is not None:
            claim_for_model(pathlib.Path(directory), identity)
        run = Checkpoint(
            directory,
            steps_per_epoch,
            checkpoint_steps,
            first_batch,
            variables,
        )
        run.restore(model)
        if run.step > epochs * steps_per_epoch:
            raise RuntimeError(
                "A run must go on with at least the epochs that it has begun, "
                f"{-(-run.step // steps_per_epoch)}. Received: "
                f"epochs={epochs} for the run in {directory}. Pass as many, or "
                "use another directory for a shorter run."
            )
        # Keras passes one dict of logs along the callbacks in order: what the
        # first one adds is in the checkpoint, the progress bar and the history.
        callbacks = [_EpochLogs(tokens_in_a_batch), run, *callbacks]
        if sample is not None:
            callbacks.append(_PrintSample(run, sample))
        if devices.process_index() != 0:
            verbose = 0

        def fit(first_epoch, last_epoch, steps):
            model.fit(
                # Skipping reads and tokenizes what it skips, at about a million
                # tokens a second; in exchange no position has to be stored.
                train_dataset.repeat().skip(run.step),
                validation_data=validation_dataset,
                initial_epoch=first_epoch,
                epochs=last_epoch,
                steps_per_epoch=steps,
                callbacks=callbacks,
                shuffle=False,  # Keras warns that it cannot shuffle a dataset
                verbose=verbose,
            )

        with run.catching_interrupts():
            epoch, done = divmod(run.step, steps_per_epoch)
            if done and epoch < epochs:
                # `fit` begins with a whole epoch, so the rest of one that was
                # interrupted takes a `fit` of its own.
                fit(epoch, epoch + 1, steps_per_epoch - done)
                epoch += 1
            # Any callback may have had enough; a second `fit` would forget it.
            if epoch < epochs and not (done and model.stop_training):
                fit(epoch, epochs, steps_per_epoch)
        return run.history


@dataclasses.dataclass
class PretrainedModel:
    """What a finished run leaves: a model, its words and its record.

    Attributes:
        model: the `mini_gpt`.
        tokenizer: its `keras_hub.tokenizers.SentencePieceTokenizer`.
        record: dict. The recipe, data and `vocabulary` (its SHA-256) that
            decided the run, the `backend`, `device`, `dtype` and `parameters`
            it had, and its `history`, as `pretrain` returns it.
        directory: `pathlib.Path`. Where it lies.
    """

    model: keras.Model
    tokenizer: object
    record: dict
    directory: pathlib.Path

    @classmethod
    def load(cls, directory):
        """Load what `pretrain_mini_gpt` wrote into `directory`.

        Raises:
            FileNotFoundError: there is no finished run.
        """
        directory = pathlib.Path(directory)
        for name in (MODEL_FILE, VOCABULARY_FILE, RUN_FILE):
            if not (directory / name).is_file():
                raise FileNotFoundError(
                    "A model directory must hold a finished pretraining run. "
                    f"Received: {directory}, which has no {name}. Make one "
                    f"with `kerasllm pretrain --out {directory}`; the same "
                    "command finishes a run that was interrupted."
                )
        return cls(
            # Not compiled: Keras saves whether to compile just in time as it
            # was settled for the backend that trained, and JAX's answer would
            # make PyTorch compile anew for each length.
            keras.saving.load_model(directory / MODEL_FILE, compile=False),
            tokenizers.load_sentence_piece(directory / VOCABULARY_FILE),
            json.loads((directory / RUN_FILE).read_text()),
            directory,
        )

    def causal_lm(self):
        """Return the model as a KerasHub task: a `MiniGPTCausalLM`."""
        return MiniGPTCausalLM.from_mini_gpt(self.model, self.tokenizer)

    def generator(self, sampler=greedy_search):
        """Return a `TextGenerator` of the model.

        Args:
            sampler: see `TextGenerator`.
        """
        return TextGenerator(self.causal_lm(), sampler)


@devices.distributed
def pretrain_mini_gpt(
    recipe="laptop",
    data=None,
    directory=None,
    *,
    seed=0,
    dtype="auto",
    sample_prompt=None,
    callbacks=(),
    verbose="auto",
    distribution=None,
):
    """Train the vocabulary and the mini-GPT of a recipe, once.

    Args:
        recipe: `"laptop"`, `"book"` or a `Recipe`.
        data: list of shard paths, as `local_docs()`, `mini_c4()` and
            `text_shards()` return. Defaults to `local_docs()`.
        directory: str or path. Where the run lives. Defaults to a folder in
            the cache that is named after the recipe, the data and the seed.
        seed: int. Decides the initial weights and the dropout masks.
        dtype: name of a Keras dtype policy; `"auto"` takes the one in which
            the device is fastest, see `backend.best_dtype_policy`, and where
            a run goes on, on whatever device, the one that it began with.
        sample_prompt: str. Print a continuation of it after each epoch.
        callbacks: more Keras callbacks.
        verbose: as for `fit`.
        distribution: see `pretrain`. A batch consists of as many streams of
            text as there were processes when the run began, whoever reads
            them: on fewer processes it goes on with the same batches.

    Returns:
        A `PretrainedModel`, on one device. A finished run that lies in
        `directory` is loaded, an unfinished one is continued.

    Raises:
        RuntimeError: `directory` holds a run of another recipe or seed, of
            other data or another vocabulary, or of a number of processes that
            does not fit.
        OSError, ValueError, FloatingPointError, TrainingInterrupted: as
            `pretrain`.
    """
    recipe = get_recipe(recipe)
    devices.check_batch_size(recipe.batch_size)
    with devices.first_process_first():  # it makes the corpus for all
        data = corpora.local_docs() if data is None else list(data)
    _check_recipe(recipe)
    identity = {
        # What only saves memory makes no other run: who runs out goes on.
        "recipe": {
            name: value
            for name, value in dataclasses.asdict(recipe).items()
            if name not in ("loss_chunks", "remat")
        },
        "data": [files.sha256_once(path) for path in data],
        "seed": seed,
    }
    if directory is None:
        name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
        directory = files.cache_dir("runs") / f"mini-gpt-{name}"
    directory = pathlib.Path(directory)
    is_auto = dtype == "auto"
    if is_auto:
        dtype = backend.best_dtype_policy()
    dtype = keras.dtype_policies.get(dtype).name  # before it is noted
    with devices.first_process_first():
        streams = claim(
            directory, identity, devices.data_share()[1], dtype=dtype
        )
        begun = json.loads((directory / RUN_FILE).read_text())
        if devices.process_index() == 0:  # a run that was killed left these
            for name in (RUN_FILE, VOCABULARY_FILE):
                files.remove_partial(directory / name)
    if is_auto:
        dtype = begun.get("dtype", dtype)
    is_done = (directory / MODEL_FILE).is_file()
    if backend.of_all_processes(is_done).all():
        with devices.use(None):
            return PretrainedModel.load(directory)
    devices.check_directory(directory)  # before the work of minutes

    # Before there is a tokenizer: seeding TensorFlow clears its kernels, and
    # with them the vocabularies that tokenizers have loaded.
    keras.utils.set_random_seed(seed)
    # The first one trains the vocabulary and counts tokens for all.
    with devices.first_process_first():
        tokenizer, train_dataset, validation_dataset = _read_text(
            data, recipe, directory, streams, verbose
        )
    with _dtype_policy(dtype):
        model = recipe.build(tokenizer.vocabulary_size())

    def sample(model):
        # Imported here: generating is the next chapter, and a run without
        # samples does not need it.
        from kerasllm.generation import compiled_generate

        max_length = min(64, recipe.sequence_length)
        return compiled_generate(
            model, tokenizer, sample_prompt, max_length=max_length
        )

    history = pretrain(
        model,
        train_dataset,
        validation_dataset,
        directory=directory,
        epochs=recipe.epochs,
        steps_per_epoch=recipe.steps_per_epoch,
        validation_steps=recipe.validation_steps,
        learning_rate=WarmupSchedule(recipe.learning_rate, recipe.warmup_steps),
        loss_chunks=recipe.loss_chunks,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        sample=None if sample_prompt is None else sample,
        callbacks=callbacks,
        verbose=verbose,
    )
    if keras.distribution.distribution() is not None:
        trained = model
        with devices.use(None), _dtype_policy(dtype):
            model = recipe.build(tokenizer.vocabulary_size())
        for ours, theirs in zip(
            model.variables, trained.variables, strict=True
        ):
            ours.assign(backend.to_numpy(theirs))
    record = {
        **identity,
        "streams": streams,
        "vocabulary": files.sha256(directory / VOCABULARY_FILE),
        "backend": backend.name(),
        "device": devices.describe(keras.distribution.distribution()),
        "dtype": dtype,
        "parameters": model.count_params(),
        "history": history,
    }
    with devices.failing_together():
        if devices.process_index() == 0:
            _write_run(directory, model, record)
    return PretrainedModel(model, tokenizer, record, directory)


def _check_recipe(recipe):
    """Raise a `ValueError` for what would fail only after minutes of work."""
    counts = {
        name: getattr(recipe, name)
        for name in (
            "vocabulary_size",
            "sequence_length",
            "batch_size",
            "epochs",
            "steps_per_epoch",
            "validation_steps",
            "loss_chunks",
        )
    }
    if recipe.steps_per_epoch is None:
        del counts["steps_per_epoch"]
    check_positive_ints(**counts)
    WarmupSchedule(recipe.learning_rate, recipe.warmup_steps)
    keras.optimizers.Adam(
        gradient_accumulation_steps=recipe.gradient_accumulation_steps
    )


def _read_text(data, recipe, directory, streams, verbose):
    """Return tokenizer and the two data sets of what this process reads."""
    if (directory / VOCABULARY_FILE).is_file():
        tokenizer = tokenizers.load_sentence_piece(directory / VOCABULARY_FILE)
    else:
        tokenizer = tokenizers.train_sentence_piece(
            data, recipe.vocabulary_size, path=directory / VOCABULARY_FILE
        )
    _settle_vocabulary(directory)
    index, shares = devices.data_share()
    own = streams // shares

    def dataset(split, stream):
        return pipeline.pretraining_dataset(
            data,
            tokenizer,
            recipe.sequence_length,
            recipe.batch_size // streams,
            split=split,
            validation_fraction=recipe.validation_fraction,
            host_index=stream,
            num_hosts=streams,
            # A smaller last batch would cost a compilation of its own, and
            # not divide among devices.
            drop_remainder=split == "train"
            or keras.distribution.distribution() is not None,
            verbose=0 if verbose == 0 else 1,
        )

    return tokenizer, *(
        pipeline.side_by_side(
            [
                dataset(split, stream)
                for stream in range(index * own, (index + 1) * own)
            ]
        )
        for split in ("train", "validation")
    )


def _settle_vocabulary(directory):
    """Note the vocabulary of a run, or say that it is not the one it had."""
    path = directory / VOCABULARY_FILE
    digest = files.sha256(path)
    run = json.loads((directory / RUN_FILE).read_text())
    if "vocabulary" not in run:
        _write_json(directory / RUN_FILE, run | {"vocabulary": digest})
    elif run["vocabulary"] != digest:
        raise RuntimeError(
            "A run must go on with the vocabulary that it began with, of "
            f"SHA-256 {run['vocabulary'][:16]}... Received: {path}, of SHA-256 "
            f"{digest[:16]}..., whose tokens mean something else. Put a copy "
            "of the former in its place, or use another directory."
        )


def _write_run(directory, model, record):
    _write_json(directory / RUN_FILE, record)
    # The model comes last: its presence says that the run is finished. Keras
    # wants to see the ending of the name, hence no `whole_file`.
    partial = directory / f".partial-{MODEL_FILE}"
    model.save(partial)
    partial.replace(directory / MODEL_FILE)


class _EpochLogs(keras.callbacks.Callback):
    """Adds perplexity and tokens a second to the logs of an epoch."""

    def __init__(self, tokens_in_a_batch):
        super().__init__()
        self.tokens_in_a_batch = tokens_in_a_batch
        self.batches = self.start = self.end = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.end = time.perf_counter()
        if self.batches == 0:  # the first batch includes the compilation
            self.start = self.end
        self.batches += 1

    def on_epoch_end(self, epoch, logs=None):
        for name in ("loss", "val_loss"):
            if name in logs:
                perplexity = name.replace("loss", "perplexity")
                logs[perplexity] = math.exp(min(logs[name], 700.0))
        tokens = (self.batches - 1) * self.tokens_in_a_batch
        seconds = self.end - self.start
        logs["tokens_per_second"] = tokens / seconds if tokens else 0.0


class _PrintSample(keras.callbacks.Callback):
    """Prints what the model would write, after each epoch."""

    def __init__(self, run, sample):
        super().__init__()
        self.run, self.sample = run, sample

    def on_epoch_end(self, epoch, logs=None):
        if self.run.stopped == "diverged":
            return  # nothing can be sampled; what it is will be said
        text = self.sample()  # of all devices: all must call it
        if devices.process_index() == 0:
            print(f"\nEpoch {epoch + 1}: {text}")


def _share_of_one_pass(dataset, epochs):
    batches = int(dataset.cardinality())
    if batches < 0:
        raise ValueError(
            "`steps_per_epoch` must be given for a dataset that does not know "
            f"its own length. Received: cardinality {batches}. Datasets from "
            "`pretraining_dataset` know theirs."
        )
    if batches < epochs:
        raise ValueError(
            "The data must hold at least a batch for each epoch. Received: "
            f"{batches} batches for epochs={epochs}. Give more text, a "
            "smaller batch, or `steps_per_epoch`."
        )
    return batches // epochs


def _first_batch(dataset):
    """Describe the first batch, which also shows early that there is one."""
    for batch in dataset.take(1):
        return describe_batch(batch, devices.data_share()[1])
    raise ValueError(
        "The training data must hold at least one batch. Received: an empty "
        "dataset. Give more text or a smaller batch."
    )


def claim(directory, identity, shares=1, **settled):
    """Mark `directory` as the place of this run, or say whose it is.

    Args:
        directory: `pathlib.Path`.
        identity: dict, as JSON gives it back. What decides the run.
        shares: int. Processes among which a batch is divided.
        **settled: what a new run settles on, and what does not have to be the
            same when it goes on. It is noted beside `identity`.

    Returns:
        int. Of how many streams of text a batch of the run consists.

    Raises:
        RuntimeError: it is the place of another run.
    """
    path = directory / RUN_FILE
    if not path.is_file():
        _write_json(path, identity | {"streams": shares} | settled)
        return shares
    found = json.loads(path.read_text())
    different = [key for key in identity if found.get(key) != identity[key]]
    if different:
        raise RuntimeError(
            "A directory must hold one run only. Received: "
            f"{directory}, with a run of another "
            f"{' and '.join(different)}. Use another directory, or the "
            "arguments that it was begun with."
        )
    streams = found.get("streams", 1)
    if streams % shares:
        raise RuntimeError(
            "A run must go on with a number of processes that divides the one "
            f"it began with, {streams}. Received: {shares} processes for the "
            f"run in {directory}. One process always fits; or use another "
            "directory."
        )
    return streams


def claim_for_model(directory, identity):
    """Mark `directory` as the place of this run, which has its lock."""
    with devices.first_process_first():
        # Where nothing is trained yet, nothing can be mistaken. (The folder of
        # a pretrained model has such a file, too.)
        if not any(
            (directory / name).is_file()
            for name in (CHECKPOINT_FILE, MODEL_FILE)
        ):
            (directory / RUN_FILE).unlink(missing_ok=True)
        # As it will be read.
        claim(directory, json.loads(json.dumps(identity)))


def _write_json(path, value):
    with files.whole_file(path) as file:
        json.dump(value, file, indent=2)


@contextlib.contextmanager
def _dtype_policy(policy):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)
