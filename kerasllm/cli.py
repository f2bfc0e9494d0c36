"""The command line: `kerasllm tour`, `pretrain`, `finetune`, `chat`, ...

Nothing heavy is imported at the top: `KERAS_BACKEND` must be set before Keras
is imported, and help must come at once. So the commands import what they use.
"""

import contextlib
import dataclasses
import enum
import gc
import hashlib
import importlib.util
import json
import os
import pathlib
import platform
import re
import shlex
import sys
import tempfile
import traceback
from importlib import metadata
from typing import Annotated

import typer

import kerasllm

# The packages that the three backends live in have the same names.
BACKENDS = ("jax", "tensorflow", "torch")
DEFAULT_TEMPLATE = "gemma"
Backend = enum.StrEnum("Backend", BACKENDS)
Documents = enum.StrEnum("Documents", ("lines", "files", "paragraphs"))
# typer has moved this class between modules; its base is always there.
UsageError = typer.BadParameter.__base__

app = typer.Typer(
    help="The life of a language model in Keras 3, on the command line.",
    add_completion=False,
    rich_markup_mode="markdown",
)

BackendOption = Annotated[
    Backend | None,
    typer.Option(help="Default: $KERAS_BACKEND, or else Keras's own choice."),
]
RecipeOption = Annotated[
    str,
    typer.Option(help="laptop (minutes on two cores) or book (a GPU)."),
]
ModelOption = Annotated[
    pathlib.Path,
    typer.Option(
        exists=True, file_okay=False, help="Folder that pretrain wrote."
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        help="tiny or tiny_instruct (offline), gemma3_1b or another preset of "
        "KerasHub, or a folder with one."
    ),
]
DtypeOption = Annotated[
    str | None, typer.Option(help="float32 (default) or bfloat16.")
]
TopKOption = Annotated[
    int | None, typer.Option(help="Draw from the K likeliest tokens.")
]
TopPOption = Annotated[
    float | None,
    typer.Option(help="Draw from the fewest tokens with probability P."),
]
MinPOption = Annotated[
    float | None,
    typer.Option(help="Leave out tokens below P times the best one."),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(help="Below 1 more predictable, above 1 more surprising."),
]
FrequencyPenaltyOption = Annotated[
    float, typer.Option(help="Taken off a logit for each repetition.")
]
PresencePenaltyOption = Annotated[
    float, typer.Option(help="Taken off the logits of tokens seen before.")
]
MaxLengthOption = Annotated[
    int | None,
    typer.Option(
        help="Tokens, prompt included. Default: as many as the model takes, "
        "but 64 for generate."
    ),
]
SeedOption = typer.Option(
    min=0, max=2**31 - 1, help="The same seed gives the same result again."
)


def main(arguments=None):
    """Run the command line and exit.

    The exit status is 0 for success, 2 for wrong options and values, 1 for
    what went wrong on the way and 130 for Ctrl-C. Of an error that the user can
    mend there is one line on stderr; of any other, a traceback.

    Args:
        arguments: list of str. Defaults to those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # Imports and traced functions are millions of objects, hardly any of them
    # garbage: a command starts in 12% less time where it is looked for less.
    gc.set_threshold(50_000)
    # TensorFlow greets with lines about the CPU that tell a user nothing.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    command = typer.main.get_command(app)
    try:
        # Not `app()`, which would draw a box around errors.
        with command.make_context("kerasllm", arguments) as context:
            command.invoke(context)
            sys.stdout.flush()
    except typer.Exit as finished:  # after --help and --version
        raise SystemExit(finished.exit_code) from None
    except UsageError as error:
        place = error.ctx.command_path if error.ctx else "kerasllm"
        _fail(2, f"{error.format_message().rstrip('.')}. See `{place} --help`.")
    except KeyboardInterrupt as interrupt:
        # Training says what it saved; everything else is whole or absent.
        said = str(interrupt) or "Interrupted; what was finished is kept."
        again = shlex.join(["kerasllm", *arguments])
        _fail(130, f"{said} The same command goes on: {again}")
    except BrokenPipeError:  # `kerasllm info | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        status = _status(error)
        if status is None:
            raise
        _fail(status, _message(error))


def _fail(status, message):
    print(f"kerasllm: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status) from None


def _status(error):
    """Return the exit status of an error that the user can mend, or `None`."""
    if isinstance(error, PermissionError | NotADirectoryError):
        return 2
    # Errors of this package say what they received; one that comes from its
    # code without that, such as a failed `int(...)`, is a mistake in it.
    raised_at = pathlib.Path(traceback.extract_tb(error.__traceback__)[-1][0])
    is_ours = pathlib.Path(__file__).parent in raised_at.parents
    if not is_ours or "Received:" not in str(error):
        return None
    wrong_values = (ValueError, FileNotFoundError, RuntimeError)
    return 2 if isinstance(error, wrong_values) else 1


def _message(error):
    """Return what an error says, without what Keras writes around it."""
    message = str(error)
    if message.startswith("Exception encountered when calling"):
        # Keras prints the original message in bold.
        bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", message, re.DOTALL)
        message = bold[1] if bold else message
    return message


@contextlib.contextmanager
def _started(backend):
    """Select the backend for imports in this block, and keep them quiet."""
    _select_backend(backend)
    # Libraries in C++ write to file 2 while they are loaded, past Python and
    # whatever log level is set. It counts only if something fails.
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _select_backend(backend):
    """Set `KERAS_BACKEND` before Keras is imported."""
    name = str(backend or _configured_backend())
    if name not in BACKENDS:
        raise UsageError(
            f"The backend must be one of {', '.join(BACKENDS)}. Received: "
            f"{name!r}, from KERAS_BACKEND or keras.json. Choose with "
            "--backend."
        )
    if importlib.util.find_spec(name) is None:
        package = "kerasllm[torch]" if name == "torch" else name
        raise UsageError(
            f"The backend {name} needs a package that is not installed. "
            f'Install it with `pip install "{package}"`.'
        )
    if "keras" in sys.modules and _running_backend() != name:
        raise UsageError(
            "The backend must be chosen before Keras starts. Received: "
            f"{name}, while {_running_backend()} is running. Set KERAS_BACKEND."
        )
    os.environ["KERAS_BACKEND"] = name


def _configured_backend():
    """Return the backend that Keras would choose by itself."""
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    try:
        config = json.loads(pathlib.Path(home, "keras.json").read_text())
    except (OSError, ValueError):
        config = {}
    return os.environ.get("KERAS_BACKEND") or config.get(
        "backend", "tensorflow"
    )


def _running_backend():
    import keras

    return keras.backend.backend()


def _print_version(wanted: bool):
    if wanted:
        print(f"kerasllm {kerasllm.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
):
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def tour(
    out: Annotated[
        pathlib.Path,
        typer.Option(file_okay=False, help="Folder for report.html and model."),
    ] = pathlib.Path("kerasllm-tour"),
    recipe: RecipeOption = "laptop",
    backend: BackendOption = None,
):
    """Train a small model, write with it, and report: the main job.

    Works offline and takes some minutes on two cores.
    """
    with _started(backend):
        from kerasllm import models, tour

    models.get_recipe(recipe)  # a wrong name should leave no folder behind
    tour.run(out, recipe=recipe)


@app.command()
def pretrain(
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Text files or folders, may be repeated; or mini-c4, the "
            "chapter's download. Default: the documentation of the installed "
            "packages.",
        ),
    ] = None,
    documents: Annotated[
        Documents, typer.Option(help="What one document in the data is.")
    ] = Documents.lines,
    recipe: RecipeOption = "laptop",
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            file_okay=False, help="Folder for the model. Default: in the cache."
        ),
    ] = None,
    seed: Annotated[int, SeedOption] = 0,
    sample: Annotated[
        str | None,
        typer.Option(help="A text to continue after each epoch."),
    ] = None,
    devices: Annotated[
        str,
        typer.Option(
            metavar="N",
            help="How many devices share a batch, or auto: all, or the cores "
            "of a CPU.",
        ),
    ] = "1",
    backend: BackendOption = None,
):
    """Train a vocabulary and a mini-GPT on text.

    Stopped with Ctrl-C or killed, the same command goes on from its last
    checkpoint.
    """
    with _started(backend):
        from kerasllm import backend as running
        from kerasllm import distribution, models, pretraining

    recipe_name = recipe
    recipe = models.get_recipe(recipe)
    several = distribution.from_options(devices, recipe.batch_size)
    with distribution.first_process_first():  # one download is enough
        shards = _find_text(data, str(documents))
    if distribution.process_index() == 0:
        print(
            f"Recipe {recipe_name}, {len(shards)} shards of text, "
            f"{running.name()} on {distribution.describe(several)}.",
            flush=True,
        )
    trained = pretraining.pretrain_mini_gpt(
        recipe,
        shards,
        out,
        seed=seed,
        sample_prompt=sample,
        distribution=several,
    )
    if distribution.process_index() != 0:
        return
    last = trained.record["history"][-1]
    print(f"\nThe model of {trained.record['parameters']:,} parameters lies in")
    print(f"  {trained.directory}")
    for name, value in last.items():
        number = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
        print(f"  {name.replace('_', ' '):18} {number}")
    place = shlex.quote(str(trained.directory))
    prompt = shlex.quote(sample or "The")
    print("Generate from it with")
    print(f"  kerasllm generate --model {place} {prompt} --top-k 5")


def _find_text(data, documents):
    """Return the shards that `--data` names."""
    from kerasllm import corpora

    if not data:
        return corpora.local_docs()
    if data == ["mini-c4"]:
        return corpora.mini_c4()
    if "mini-c4" in data:
        raise UsageError(
            "--data mini-c4 must stand alone. Received: it and other paths. "
            "Write ./mini-c4 for a folder of that name."
        )
    return corpora.text_shards(data, documents)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    model: ModelOption,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    min_p: MinPOption = None,
    temperature: TemperatureOption = None,
    frequency_penalty: FrequencyPenaltyOption = 0.0,
    presence_penalty: PresencePenaltyOption = 0.0,
    max_length: MaxLengthOption = None,
    seed: Annotated[int | None, SeedOption] = None,
    stream: Annotated[
        bool, typer.Option(help="Print the text while it is written.")
    ] = False,
    backend: BackendOption = None,
):
    """Continue a prompt.

    Without --top-k, --top-p, --min-p and --temperature each token is the most
    likely one (greedy search).
    """
    generator, longest = _load_generator(
        model, backend, temperature, top_k, top_p, min_p, frequency_penalty,
        presence_penalty,
    )  # fmt: skip
    max_length = min(64, longest) if max_length is None else max_length
    if stream:
        pieces = generator.stream(prompt, max_length, seed=seed)
        print(prompt, end="", flush=True)
        _print_pieces(pieces, generator)
        return
    text = generator.generate(prompt, max_length, seed=seed)
    print(text)


@app.command()
def finetune(
    data: Annotated[
        pathlib.Path,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="JSONL: an instruction (or prompt, question) and a response "
            "(or output, solution, answer) a line, maybe a context (input) "
            "and an image: a path from the file's folder, or an address.",
        ),
    ],
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            file_okay=False,
            help="Folder for adapters.lora.h5. Default: in the cache.",
        ),
    ] = None,
    preset: PresetOption = "tiny",
    rank: Annotated[int, typer.Option(help="Inner size of the adapters.")] = 8,
    targets: Annotated[
        str,
        typer.Option(help="What to adapt: query,value or attention or ..."),
    ] = "query,value",
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Rows in a step.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Adam's.")] = 1e-3,
    sequence_length: Annotated[
        int | None,
        typer.Option(help="Longest row in tokens; longer ones are left out."),
    ] = None,
    template: Annotated[
        str, typer.Option(help="gemma, book, alpaca, vicuna or chatml.")
    ] = DEFAULT_TEMPLATE,
    validation: Annotated[
        float | None,
        typer.Option(
            help="Share of the rows to measure on, 0 for none. Default: 0.1, "
            "or none if too few rows differ."
        ),
    ] = None,
    seed: Annotated[int, SeedOption] = 0,
    dtype: DtypeOption = None,
    backend: BackendOption = None,
):
    """Tune a model on instructions, by adapters (LoRA).

    Interrupted, it goes on when the same command is given again.
    """
    with _started(backend):
        import keras

        from kerasllm import files, instructions, lora, prompts
        from kerasllm import gemma as gemma_

    # What can be told without the model is told before it is loaded.
    lora.check_rank(rank)
    gemma_.check_tuning(
        epochs,
        batch_size,
        learning_rate,
        1 if sequence_length is None else sequence_length,
    )
    template = prompts.get_template(template)
    targets = [target.strip() for target in targets.split(",")]
    rows = instructions.read_jsonl(data)
    train, held_out = _split_rows(rows, validation, seed)
    with contextlib.suppress(gemma_.UnknownSizeError):
        print(gemma_.estimate_memory(preset, dtype or "float32", rank))
    # The adapters begin at random. Before there is a tokenizer: seeding
    # TensorFlow clears its kernels, and the vocabularies in them.
    keras.utils.set_random_seed(seed)
    with _started(backend):
        model = gemma_.Gemma.from_preset(preset, dtype, template)
    print(model.enable_lora(rank, targets))
    if sequence_length is None:
        sequence_length = model.causal_lm.preprocessor.sequence_length
    if out is None:
        # All that decides the run but the number of epochs, as more of them
        # go on with it.
        if preset not in gemma_.OFFLINE_PRESETS:
            preset = gemma_.preset_source(preset)  # a folder's full name
        decisions = [
            files.sha256(data), preset, rank, targets, batch_size,
            learning_rate, sequence_length, dataclasses.asdict(template),
            validation, seed, dtype,
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(decisions).encode()).hexdigest()
        out = files.cache_dir("runs") / f"adapters-{digest[:12]}"
    model.finetune(
        train,
        held_out,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        sequence_length=sequence_length,
        seed=seed,
        directory=out / "checkpoint",
        verbose=2,
    )
    path = out / f"adapters{lora.SUFFIX}"
    model.save_lora(path)
    command = ["kerasllm", "chat", "--preset", preset, "--lora", str(path)]
    if template.name != DEFAULT_TEMPLATE:
        command += ["--template", template.name]
    if dtype is not None:
        command += ["--dtype", dtype]
    print(shlex.join(command))


def _split_rows(rows, validation, seed):
    """Return rows to train on, and those to measure on or `None`."""
    from kerasllm import instructions

    share = 0.1 if validation is None else validation
    if not 0 <= share < 1:
        raise UsageError(
            "--validation must be at least 0, for none, and below 1. Received: "
            f"{validation}. 0.1 is usual."
        )
    if share == 0:
        return rows, None
    try:
        return instructions.split_rows(rows, share, seed)
    except ValueError:  # one side would be empty
        if validation is None:
            print(
                "Too few different rows to measure on some: all are trained on."
            )
            return rows, None
        raise UsageError(
            "--validation must leave rows to train on and to measure on. "
            f"Received: {validation} of {len(rows)} rows, where equal ones "
            "stay together. Choose another share or --seed, or 0 to train on "
            "all."
        ) from None


@app.command()
def chat(
    model: Annotated[
        pathlib.Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder that pretrain wrote: goes on with each line.",
        ),
    ] = None,
    preset: PresetOption = None,
    adapters: Annotated[
        pathlib.Path | None,
        typer.Option("--lora", exists=True, help="File that finetune wrote."),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(help="File or address; shown with the first line."),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            help="That of finetune: gemma, book, ... Default: "
            f"{DEFAULT_TEMPLATE}."
        ),
    ] = None,
    dtype: DtypeOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    min_p: MinPOption = None,
    temperature: TemperatureOption = None,
    frequency_penalty: FrequencyPenaltyOption = 0.0,
    presence_penalty: PresencePenaltyOption = 0.0,
    max_length: MaxLengthOption = None,
    seed: Annotated[int | None, SeedOption] = None,
    backend: BackendOption = None,
):
    """Talk with a model, line by line, until an empty one or Ctrl-D.

    With --preset an instruction model answers and remembers what was said.
    With --model a pretrained one, which does not answer, goes on with each
    line for itself.
    """
    if (model is None) == (preset is None):
        raise ValueError(
            "`chat` needs either a --preset or a --model. Received: "
            f"{'none' if model is None else 'both'}. --preset tiny_instruct "
            "needs no network."
        )
    only_preset = {
        "--lora": adapters,
        "--image": image,
        "--template": template,
        "--dtype": dtype,
    }
    given = [option for option, value in only_preset.items() if value]
    if model is not None and given:
        raise ValueError(
            f"{', '.join(only_preset)} must come with a --preset. "
            f"Received: {', '.join(given)} with --model, which goes on with "
            "text and no more. Leave them out."
        )
    numbers = (top_k, top_p, min_p, frequency_penalty, presence_penalty)
    if preset is not None:
        gemma, conversation, pictures = _begin_chat(
            preset, adapters, image, template, dtype, max_length, temperature,
            numbers, backend,
        )  # fmt: skip
        from kerasllm.images import IMAGE_MARK

        generator = gemma.generator

        def stream(text):
            # With the first line that was not refused.
            images = [] if conversation.messages else pictures
            # Images that the line does not place come before it.
            marks = IMAGE_MARK * (len(images) - text.count(IMAGE_MARK))
            return conversation.stream(marks + text, images, seed)
    else:
        if temperature is None:
            temperature = 0.8
        generator, longest = _load_generator(
            model, backend, temperature, *numbers
        )

        def stream(text):
            length = longest if max_length is None else max_length
            pieces = generator.stream(text, length, seed=seed)
            print(text, end="", flush=True)
            return pieces

    asks = sys.stdin.isatty()
    # Bytes that are no UTF-8 are refused with their line, not with all.
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")
    while True:
        if asks:
            print("> ", end="", flush=True)
        try:
            text = sys.stdin.readline().rstrip("\r\n")
            if not text:
                return
            _print_pieces(stream(text), generator)
        except KeyboardInterrupt:  # a way to leave: there is nothing to keep
            raise typer.Exit(130) from None
        except ValueError as error:  # too long a line is no reason to leave
            if _status(error) is None:
                raise
            print(f"kerasllm: {_message(error)}", file=sys.stderr)


def _begin_chat(preset, adapters, image, template, dtype, max_length,
                temperature, numbers, backend):  # fmt: skip
    """Return a model, a conversation with it, and the images to show."""
    with _started(backend):
        from kerasllm.gemma import Gemma
        from kerasllm.images import check_takes_images, load_image
        from kerasllm.layers import check_positive_ints
        from kerasllm.prompts import get_template

    # What can be told without the model is told before it is loaded.
    sampler = _make_sampler(temperature, *numbers)
    if max_length is not None:
        check_positive_ints(max_length=max_length)
    template = get_template(template or DEFAULT_TEMPLATE)
    pictures = [load_image(source) for source in image or ()]
    with _started(backend):
        gemma = Gemma.from_preset(preset, dtype, template)
    if pictures:
        check_takes_images(gemma.causal_lm.preprocessor)
    if adapters is not None:
        gemma.load_lora(adapters)
    conversation = gemma.chat(max_length=max_length, sampler=sampler)
    return gemma, conversation, pictures


def _load_generator(directory, backend, temperature, *numbers):
    """Return the generator of a trained model and its longest text."""
    with _started(backend):
        from kerasllm import pretraining

    # Before the model is loaded, so that a wrong number shows at once.
    sampler = _make_sampler(temperature, *numbers)
    trained = pretraining.PretrainedModel.load(directory)
    return (
        trained.generator(sampler),
        trained.record["recipe"]["sequence_length"],
    )


def _make_sampler(temperature, top_k, top_p, min_p, *penalties):
    """Return the sampler that the options describe; greedy without any."""
    from kerasllm import samplers

    if temperature is None:
        draws = any(number is not None for number in (top_k, top_p, min_p))
        temperature = 1.0 if draws else 0.0
    return samplers.chain(temperature, top_k, top_p, min_p, *penalties)


def _print_pieces(pieces, generator):
    """Print a text as it is written, and its speed on stderr."""
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    speed = generator.tokens_per_second
    if speed is not None:
        print(f"{speed:,.0f} tokens/s", file=sys.stderr)


homework_app = typer.Typer(
    help="Hand out homework, check it at home, grade it.", no_args_is_help=True
)
app.add_typer(homework_app, name="homework")

SourcesOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="Folder of the assignments. Default: chapters/homework of the "
        "checkout."
    ),
]


@homework_app.command("release")
def release_homework(
    directory: Annotated[
        pathlib.Path,
        typer.Argument(metavar="DIR", file_okay=False, help="Where to write."),
    ],
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Which data the class works on this term."),
    ] = None,
    sources: SourcesOption = None,
):
    """Write the students' notebooks: no solutions, no hidden tests."""
    from kerasllm import homework_course

    for path in homework_course.release(directory, sources, seed):
        print(path)


@homework_app.command("check")
def check_homework(
    file: Annotated[
        pathlib.Path,
        typer.Argument(exists=True, dir_okay=False, help="Your notebook."),
    ],
):
    """Run your notebook and its visible tests. Needs no nbgrader."""
    from kerasllm import homework

    result = homework.check(file)
    for question, score in result.scores.items():
        failure = result.failures.get(question)
        said = "graded by a person" if score is None else "passes"
        print(f"{question:28} {failure or said}")
    for note in result.notes:
        print(f"note: {note}")
    print(
        f"{len(result.failures)} tests fail; those that pass give up to "
        f"{result.total:g} points. Grading runs more tests than these."
    )
    if result.failures:
        raise typer.Exit(1)


@homework_app.command("grade")
def grade_homework(
    submissions: Annotated[
        pathlib.Path,
        typer.Argument(
            exists=True,
            file_okay=False,
            help="Folder with STUDENT.ipynb or STUDENT/.../NAME.ipynb.",
        ),
    ],
    csv: Annotated[
        pathlib.Path, typer.Option(dir_okay=False, help="Table to write.")
    ],
    assignment: Annotated[
        str | None,
        typer.Option(help="Which one. Default: recognized by file names."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Draws the hidden inputs. Default: a new one, printed."
        ),
    ] = None,
    feedback: Annotated[
        pathlib.Path | None,
        typer.Option(
            file_okay=False, help="Folder for pages. Default: beside the table."
        ),
    ] = None,
    course: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="New folder to keep as nbgrader's course, for its formgrader."
        ),
    ] = None,
    memory: Annotated[float, typer.Option(help="GB a submission.")] = 4.0,
    cell_seconds: Annotated[int, typer.Option(help="Time of a cell.")] = 60,
    call_seconds: Annotated[
        int, typer.Option(help="Time of a call by a test.")
    ] = 20,
    total_seconds: Annotated[
        int, typer.Option(help="Time of a submission.")
    ] = 600,
    unprotected: Annotated[
        bool,
        typer.Option("--unprotected", help="Grade without Landlock, too."),
    ] = False,
    sources: SourcesOption = None,
    backend: BackendOption = None,
):
    """Grade a class: a table, a page a student, what failed most often."""
    from kerasllm import homework_course

    results, seed = homework_course.grade(
        submissions,
        csv,
        sources,
        assignment,
        seed,
        feedback,
        course,
        memory_gb=memory,
        cell_seconds=cell_seconds,
        call_seconds=call_seconds,
        total_seconds=total_seconds,
        backend=str(backend or _configured_backend()),
        unprotected=unprotected,
        progress=lambda line: print(line, flush=True),
    )
    print()
    for line in homework_course.summarize(results):
        print(line)
    print(f"{csv}; the same hidden inputs again: --seed {seed}")


@app.command()
def info(backend: BackendOption = None):
    """Print versions, backends, the device, the cache and the recipes."""
    print(f"kerasllm      {kerasllm.__version__}")
    print(f"python        {platform.python_version()} ({sys.executable})")
    for package in ("keras", "keras-hub", *BACKENDS):
        print(f"{package:13} {_version(package)}")
    # What follows imports Keras, which takes seconds.
    sys.stdout.flush()
    with _started(backend):
        from kerasllm import backend as running
        from kerasllm import files, models

    print(f"backend       {running.name()}")
    print(f"device        {running.device_name()}")
    print(f"precision     {running.best_dtype_policy()}")
    print(f"cache         {files.cache_dir()}")
    for recipe, size in models.RECIPES.items():
        print(
            f"recipe        {recipe}: vocabulary {size.vocabulary_size:,}, "
            f"{size.sequence_length} positions, {size.num_layers} layers of "
            f"{size.hidden_dim} with {size.num_heads} heads, batches of "
            f"{size.batch_size}"
        )


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
