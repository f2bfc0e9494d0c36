"""`kerasllm grpo`: learning from rewards with adapters (LoRA)."""

import math
import pathlib
from typing import Annotated

import typer

from kerasllm import checks, files
from kerasllm.cli._options import (
    DEFAULT_TEMPLATE,
    BackendOption,
    DtypeOption,
    ForceOption,
    PresetOption,
    SeedOption,
    at_least,
    check_file,
    checked,
    one_of,
)
from kerasllm.cli._start import UsageError, starting
from kerasllm.cli.tuning._rewards import (
    check_numbers,
    check_reward,
    make_scorer,
)
from kerasllm.cli.tuning._runs import (
    LearningRateOption,
    OutOption,
    TemplateOption,
    ValidationOption,
    chat_command,
    check_out,
    counted,
    default_folder,
    full_name,
    hold_out,
    load,
    note_options,
    save,
)
from kerasllm.cli.tuning.dpo import (
    DEFAULT_RANK,
    DEFAULT_TARGETS,
    AdaptersOption,
    RankOption,
    TargetsOption,
    check_lora,
)
from kerasllm.progress import working

SCALES = ("group", "batch", "none")
LOSS_TYPES = ("grpo", "dr_grpo", "dapo")
# What the library records of a run, under the same names.
RECORDED = (
    *("num_generations", "beta", "epsilon", "scale_rewards", "loss_type"),
    *("num_iterations", "temperature", "max_completion_length", "batch_size"),
    *("learning_rate", "seed"),
)


DataOption = Annotated[
    pathlib.Path,
    typer.Option(
        exists=True,
        dir_okay=False,
        callback=checked(check_file),
        help="JSONL, one object per line, or a JSON array. An object has a "
        "prompt (or question, instruction) and an answer (or response, "
        "solution), which the model does not see.",
    ),
]
RewardOption = Annotated[
    str,
    typer.Option(
        callback=checked(check_reward),
        help="What scores responses: exact (the answer and nothing else), "
        "contains (the answer is in it, and perhaps others), answer (the "
        "number is the only one after ANSWER:), or module:function, a function "
        "(prompts, responses) or (prompts, responses, answers) of lists of "
        "strings that returns a list of numbers.",
    ),
]
GenerationsOption = Annotated[
    int,
    typer.Option(callback=at_least(2), help="Completions of each prompt."),
]
BetaOption = Annotated[
    float,
    typer.Option(
        callback=checked(
            checks.check_real,
            lambda value: 0 <= value < math.inf,
            "at least 0 and finite",
        ),
        help="Above 0, the model stays close to where it starts.",
    ),
]
EpsilonOption = Annotated[
    float,
    typer.Option(
        callback=checked(
            checks.check_real, lambda value: 0 <= value <= 1, "in [0, 1]"
        ),
        help="How far an update pays to change a token's probability.",
    ),
]
ScaleOption = Annotated[
    str,
    typer.Option(
        parser=one_of(SCALES),
        metavar="NAME",
        help="Whose standard deviation rewards are divided by: group, batch "
        "or none.",
    ),
]
LossOption = Annotated[
    str,
    typer.Option(
        parser=one_of(LOSS_TYPES), metavar="NAME", help=", ".join(LOSS_TYPES)
    ),
]
IterationsOption = Annotated[
    int,
    typer.Option(callback=at_least(1), help="Uses of each completion."),
]
SamplingTemperatureOption = Annotated[
    float,
    typer.Option(
        callback=checked(
            checks.check_real,
            lambda value: 0 < value <= checks.HOTTEST,
            "positive",
            cure="At 0, all completions of a prompt would be the same.",
        ),
        help="Below 1, completions are more alike; above 1, less so.",
    ),
]
CompletionLengthOption = Annotated[
    int,
    typer.Option(
        callback=at_least(1), help="Tokens at which a completion is cut off."
    ),
]
StepsOption = Annotated[
    int, typer.Option(callback=at_least(1), help="Batches of samples.")
]
PromptsOption = Annotated[
    int, typer.Option(callback=at_least(1), help="Prompts per step.")
]
MinibatchOption = Annotated[
    int | None,
    typer.Option(
        callback=at_least(1),
        help="Completions per update, to save memory. Default: all of a step.",
    ),
]


def grpo(
    data: DataOption,
    reward: RewardOption,
    out: OutOption = None,
    preset: PresetOption = "tiny",
    lora: AdaptersOption = None,
    num_generations: GenerationsOption = 8,
    beta: BetaOption = 0.0,
    epsilon: EpsilonOption = 0.2,
    scale_rewards: ScaleOption = "group",
    loss_type: LossOption = "grpo",
    num_iterations: IterationsOption = 1,
    temperature: SamplingTemperatureOption = 1.0,
    max_completion_length: CompletionLengthOption = 64,
    rank: RankOption = None,
    targets: TargetsOption = None,
    steps: StepsOption = 100,
    batch_size: PromptsOption = 8,
    minibatch_size: MinibatchOption = None,
    learning_rate: LearningRateOption = 1e-4,
    template: TemplateOption = DEFAULT_TEMPLATE,
    validation: ValidationOption = None,
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    backend: BackendOption = None,
    force: ForceOption = False,
):
    """Tune a model on rewards of its answers (GRPO), with adapters (LoRA).

    After an interruption, run the same command again to continue.
    """
    from kerasllm import instructions

    # Report mistakes that can be found before the model is loaded.
    preset = full_name(preset)
    if lora is not None:
        check_lora(lora, out, rank, targets)
    rank = rank or DEFAULT_RANK  # 0 is refused above
    targets = [name.strip() for name in (targets or DEFAULT_TARGETS).split(",")]
    numbers = {
        "num_generations": num_generations, "beta": beta, "epsilon": epsilon,
        "scale_rewards": scale_rewards, "loss_type": loss_type,
        "num_iterations": num_iterations, "temperature": temperature,
        "max_completion_length": max_completion_length,
        "batch_size": batch_size, "minibatch_size": minibatch_size,
        "learning_rate": learning_rate, "seed": seed,
    }  # fmt: skip
    options = numbers | {
        "data": files.sha256(data), "reward": reward, "preset": preset,
        "lora": lora and files.sha256(lora), "rank": rank,
        "targets": ",".join(targets), "template": template,
        "validation": validation, "dtype": dtype,
    }  # fmt: skip
    check_out(out, force, options, RECORDED)
    examples = instructions.read_jsonl(data)
    answers = _answers(examples)
    if reward == "answer":
        check_numbers(answers)
    train, held_out = hold_out(
        examples, validation, seed, instructions.split_examples
    )
    with working("Starting"), starting(backend):
        import kerasllm.chat  # noqa: F401  It starts the backend.

    scorer = make_scorer(reward, answers)
    model = load(preset, dtype, template, rank, targets, seed, lora)
    if out is None:
        out = default_folder(
            "grpo", options, max_completion_length, model.template
        )
    note_options(out, options)
    history = _tune(
        model, scorer, train, held_out, **numbers, steps=steps,
        directory=out / "checkpoint",
    )  # fmt: skip
    command = chat_command(preset, save(model, out), template, dtype)
    said = _what_it_earns(history, len(held_out or ()))
    print(*said, "Ask the tuned model with", f"  {command}", sep="\n")


def _tune(model, scorer, train, held_out, **options):
    """Call the library with the prompts of examples."""
    from kerasllm import tuning

    return tuning.grpo(
        model.causal_lm,
        [example.instruction for example in train],
        scorer,
        held_out and [example.instruction for example in held_out],
        template=model.template,
        **options,
    )


def _answers(examples):
    """Return the answer of each prompt: a dict."""
    answers = {}
    for example in examples:
        if example.messages or example.images or example.context is not None:
            raise UsageError(
                "--data must have a prompt and an answer in each line. "
                "Received: a conversation, a context or an image, with "
                f"{checks.shown(example.instruction)}. Write what the model "
                "should read into the prompt"
            )
        answer = answers.setdefault(example.instruction, example.response)
        if answer != example.response:
            raise UsageError(
                "--data must have one answer to each prompt. Received: "
                f"{checks.shown(answer)} and "
                f"{checks.shown(example.response)} to "
                f"{checks.shown(example.instruction)}. Leave one of them out"
            )
    return answers


def _what_it_earns(history, num_held_out):
    """Yield lines on the rewards of the tuned model."""
    rewards = [logs["val_reward"] for logs in history if "val_reward" in logs]
    if rewards:
        yield (
            f"Mean reward of {counted(num_held_out, 'held-out prompt')}: "
            f"{rewards[0]:.3f} at the start, {max(rewards):.3f} with the "
            "weights that are kept, the best of those measured."
        )
    elif history:
        yield f"Mean reward of the last step: {history[-1]['reward']:.3f}."
    equal = [logs["equal_groups"] for logs in history if "equal_groups" in logs]
    if equal and min(equal) == 1:
        yield (
            "In each step, all completions of a prompt earned the same, so "
            "there was nothing to learn. Begin with a model that is sometimes "
            "right, such as one that was tuned with finetune (--lora), or "
            "raise --num-generations."
        )
