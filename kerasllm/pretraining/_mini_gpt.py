"""`pretrain_mini_gpt`: from text shards to a folder with a trained model."""

import contextlib
import functools
import hashlib
import json

import keras

from kerasllm import backend, corpora, files, pipeline, tokenizers
from kerasllm import distribution as devices
from kerasllm.checks import (
    RunError,
    TooLittleTextError,
    UserError,
    check_int,
    shown,
)
from kerasllm.generation import check_prompt, compiled_generate
from kerasllm.pretraining._pretrain import num_batches_of, pretrain
from kerasllm.pretraining._pretrained_model import (
    VOCABULARY_FILE,
    PretrainedModel,
    write_result,
)
from kerasllm.progress import working
from kerasllm.recipes import get_recipe
from kerasllm.training import (
    MODEL_FILE,
    RUN_FILE,
    check_run,
    claim,
    read_run,
    write_run,
)


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
):  # over sixty lines because of its docstring and its stages
    """Train the vocabulary and the mini-GPT of a recipe, once.

    Args:
        recipe: `"laptop"`, `"book"`, `"short"` or a `Recipe`.
        data: list of shard paths, or one path, as returned by `local_docs()`,
            `mini_c4()` or `text_shards()`. Defaults to `local_docs()`.
        directory: str or path. The folder of the run. Defaults to a folder in
            the cache that is named after the recipe, the data and the seed.
        seed: int in `[0, 2**32)`. Determines the initial weights and the
            dropout masks.
        dtype: name of a Keras dtype policy. `"auto"` selects the fastest one
            for the device; see `backend.best_dtype_policy`. When a run is
            resumed, `"auto"` keeps the policy that the run began with, even
            on another device.
        sample_prompt: str. Print a continuation of it after each epoch.
        callbacks: more Keras callbacks.
        verbose: as for `fit`.
        distribution: see `pretrain`. A batch consists of one stream of text
            for each process that the run began with. If it is resumed with
            fewer processes, the batches stay the same.

    Returns:
        A `PretrainedModel`, on one device. A finished run in `directory` is
        loaded, and an unfinished one is resumed.

    Raises:
        RunError: `directory` holds a run with another recipe or seed, with
            other data or another vocabulary, or with a number of processes
            that does not fit; or another run is using the folder.
        MissingFileError: a shard in `data` does not exist.
        UserError: an argument is out of range, or `sample_prompt` is empty
            or too long for the recipe.
        OSError, DivergedError, TrainingInterrupted: as for `pretrain`.
    """
    # 1. Identify the run by everything that determines its result.
    recipe = get_recipe(recipe).checked()
    directory, callbacks = check_run(directory, callbacks, verbose)
    seed = check_int("seed", seed, 0, 2**32 - 1)
    devices.check_batch_size(recipe.batch_size)
    with devices.first_process_first():  # it builds the corpus for all
        data = corpora.local_docs() if data is None else data
    data = tokenizers.check_shards(data)
    identity = _identity(recipe, data, seed)

    # 2. Look at its folder. If the run is finished, load it from there. It may
    # be in a folder that is read-only.
    directory = directory or _folder_of(identity)
    with devices.failing_together():
        files.check_same_run(directory, identity)
    is_done = (directory / MODEL_FILE).is_file()
    if backend.of_all_processes(is_done).all():
        with devices.use(None):
            return PretrainedModel.load(directory)
    if sample_prompt is not None:
        check_prompt(sample_prompt)
    policy = _policy_name(dtype)
    devices.check_directory(directory)  # before minutes of work

    with devices.only_run_in(directory):
        streams, policy = _claim_folder(directory, identity, dtype, policy)
        _remove_partial_files(directory)
        # 3. Seed. This must come before a tokenizer exists: seeding TensorFlow
        # clears its kernels, and with them the vocabularies of tokenizers.
        keras.utils.set_random_seed(seed)

        # 4. Train the vocabulary and open the data. The first process trains
        # the vocabulary and counts tokens for all processes.
        with devices.first_process_first():
            tokenizer = _vocabulary(directory, data, recipe, verbose)
            train_dataset, validation_dataset = _datasets(
                data, tokenizer, recipe, streams, verbose
            )

        # 5. Build the model and train it.
        build = functools.partial(_build, recipe, tokenizer, policy)
        model = build()
        history = pretrain(
            model,
            train_dataset,
            validation_dataset,
            directory=directory,
            sample=_sampler(tokenizer, sample_prompt, recipe.sequence_length),
            callbacks=callbacks,
            verbose=verbose,
            **_numbers_of_training(recipe, train_dataset),
        )

        # 6. Write the record of the result, and then the model.
        model = _on_one_device(model, build)
        result = _describe_result(model, directory, policy)
        record = identity | {"streams": streams} | result | {"history": history}
        with devices.failing_together():
            if devices.process_index() == 0:
                write_result(directory, model, record)
        return PretrainedModel(model, tokenizer, record, directory)


def _identity(recipe, data, seed):
    """Return everything that determines a run's result: a dict for JSON."""
    return {
        "recipe": recipe.identity(),
        "data": [files.sha256_once(path) for path in data],
        "seed": seed,
    }


def _folder_of(identity):
    """Return the folder in the cache for a run."""
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    return files.cache_dir("runs") / f"mini-gpt-{name}"


def _claim_folder(directory, identity, dtype, policy):
    """Claim the folder of a run; return its streams and its dtype policy."""
    with devices.first_process_first():
        is_begun = (directory / RUN_FILE).is_file()
        former = read_run(directory) if is_begun else {}
        streams = claim(
            directory, identity, devices.data_share()[1], dtype=policy
        )
        begun = read_run(directory)
        if "vocabulary" in former and "vocabulary" not in begun:
            # A run of other data failed here before it had trained anything.
            (directory / VOCABULARY_FILE).unlink(missing_ok=True)
    is_auto = dtype == "auto"
    return streams, begun.get("dtype", policy) if is_auto else policy


def _remove_partial_files(directory):
    """Remove what killed processes have left in the folder of a run."""
    if devices.process_index() == 0:  # only this process writes
        for name in (RUN_FILE, VOCABULARY_FILE):
            files.remove_partial(directory / name)


def _policy_name(dtype):
    """Return the name of a dtype policy, for `"auto"` of the best one."""
    dtype = backend.best_dtype_policy() if dtype == "auto" else dtype
    try:
        return keras.dtype_policies.get(dtype).name
    except (TypeError, ValueError) as error:
        raise UserError(
            "`dtype` must be the name of a Keras dtype policy. Received: "
            f'dtype={shown(dtype)} ({error}). Use "float32", "mixed_bfloat16", '
            '"mixed_float16" or "auto".'
        ) from error


def _vocabulary(directory, data, recipe, verbose):
    """Return the tokenizer of a run, training it if there is none."""
    path = directory / VOCABULARY_FILE
    if path.is_file():
        tokenizer = tokenizers.load_sentence_piece(path)
    else:
        size = recipe.vocabulary_size
        with contextlib.ExitStack() as stack:
            if verbose in ("auto", 1):
                what = f"Training a vocabulary of {size:,} tokens"
                stack.enter_context(working(what, at_once=False))
            tokenizer = tokenizers.train_sentence_piece(data, size, path=path)
    _check_vocabulary(directory)
    return tokenizer


def _check_vocabulary(directory):
    """Record the vocabulary of a run, or check that it has not changed."""
    path = directory / VOCABULARY_FILE
    digest = files.sha256(path)
    run = read_run(directory)
    if "vocabulary" not in run:
        write_run(directory, run | {"vocabulary": digest})
    elif run["vocabulary"] != digest:
        raise RunError(
            "A run must continue with the vocabulary that it began with "
            f"(SHA-256 {run['vocabulary'][:16]}...). Received: {path} (SHA-256 "
            f"{digest[:16]}...), in which token ids have other "
            "meanings. Restore the original file, or use another `directory`."
        )


def _datasets(*arguments):
    """Return the dataset to train on and the one to validate on."""
    return [_dataset(split, *arguments) for split in ("train", "validation")]


def _dataset(split, data, tokenizer, recipe, streams, verbose):
    """Return this process's share of the streams of text as one dataset."""
    index, shares = devices.data_share()
    own = streams // shares
    try:
        parts = [
            pipeline.pretraining_dataset(
                data,
                tokenizer,
                recipe.sequence_length,
                recipe.batch_size // streams,
                split=split,
                validation_fraction=recipe.validation_fraction,
                host_index=stream,
                num_hosts=streams,
                # A smaller last batch would require another compilation and
                # could not be divided among devices.
                drop_remainder=split == "train"
                or keras.distribution.distribution() is not None,
                verbose=0 if verbose == 0 else 1,
            )
            for stream in range(index * own, (index + 1) * own)
        ]
    except TooLittleTextError as error:
        purpose = "train on" if split == "train" else "validate with"
        raise TooLittleTextError(
            f"The documents to {purpose} must have at least {error.needed:,} "
            f"tokens. Received: {error.found:,}. About one document in "
            f"{round(1 / recipe.validation_fraction)} is held out to validate "
            "with, so a text that is a single document cannot be divided. "
            'Divide it with `documents="paragraphs"`, or give more text.',
            error.needed,
            error.found,
        ) from error
    return pipeline.side_by_side(parts)


def _build(recipe, tokenizer, dtype):
    """Return the untrained model of a recipe in a dtype policy."""
    with _dtype_policy(dtype):
        return recipe.build(tokenizer.vocabulary_size())


def _numbers_of_training(recipe, train_dataset):
    """Return the arguments of `pretrain` that a recipe determines."""
    steps = recipe.steps_per_epoch
    if steps is None:
        steps = _share_of_one_pass(train_dataset, recipe.epochs)
    accumulated = recipe.gradient_accumulation_steps or 1
    return {
        "epochs": recipe.epochs,
        "steps_per_epoch": steps,
        "validation_steps": recipe.validation_steps,
        "learning_rate": recipe.schedule(recipe.epochs * steps // accumulated),
        "loss_chunks": recipe.loss_chunks,
        "gradient_accumulation_steps": recipe.gradient_accumulation_steps,
    }


def _share_of_one_pass(dataset, epochs):
    """Return the number of batches per epoch if all epochs are one pass."""
    batches = num_batches_of(dataset)
    if batches < epochs:
        raise UserError(
            "The data must hold at least a batch for each epoch. Received: "
            f"{batches} batches for epochs={epochs}. Give more text, or a "
            "recipe with a smaller batch or a number of `steps_per_epoch`."
        )
    return batches // epochs


def _sampler(tokenizer, prompt, sequence_length):
    """Return a function from a model to its continuation of a prompt."""
    if prompt is None:
        return None
    max_length = min(64, sequence_length)
    # Refuse a prompt that is too long now, not after the first epoch.
    count = len(tokenizer(prompt))
    if count >= max_length:
        raise UserError(
            f"`sample_prompt` must have fewer than {max_length} tokens. "
            f"Received: a prompt of {count} tokens. Shorten it."
        )
    return lambda model: compiled_generate(
        model, tokenizer, prompt, max_length=max_length
    )


def _describe_result(model, directory, dtype):
    """Return the facts that are recorded for a finished run: a dict."""
    return {
        "vocabulary": files.sha256(directory / VOCABULARY_FILE),
        "backend": backend.name(),
        "device": devices.describe(keras.distribution.distribution()),
        "dtype": dtype,
        "parameters": model.count_params(),
    }


def _on_one_device(model, build):
    """Return a model with all of its weights on one device."""
    if keras.distribution.distribution() is None:
        return model
    with devices.use(None):
        whole = build()
    for ours, theirs in zip(whole.variables, model.variables, strict=True):
        ours.assign(backend.to_numpy(theirs))
    return whole


@contextlib.contextmanager
def _dtype_policy(policy):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)
