"""Where to go from here: the chapters behind each stage, and what to try."""

import os
import pathlib
import urllib.parse

import kerasllm
from kerasllm.tour._commands import chat_command

CHAPTERS = {
    1: ("Training a mini-GPT", "01_training_a_mini_gpt"),
    2: ("Generative decoding", "02_generative_decoding"),
    3: ("Sampling strategies", "03_sampling_strategies"),
    4: ("Using a pretrained LLM", "04_using_a_pretrained_llm"),
    5: ("Instruction fine-tuning and LoRA", "05_instruction_tuning_and_lora"),
    6: ("Images in the prompt", "06_images_in_the_prompt"),
    7: ("Learning from preferences", "07_learning_from_preferences"),
    8: ("Reasoning", "08_reasoning"),
    9: ("Retrieval-augmented generation", "09_retrieval"),
}
WHAT_THEY_SHOW = {
    1: "text, tokens, windows, warmup and pretraining",
    2: "the loop that writes, eager, compiled and with a cache",
    3: "each strategy by hand, and what it does to a text",
    4: "completion, prompting and hallucination",
    5: "a loss on answers only, adapters, and learning to refuse",
    6: "soft tokens, and tuning on pictures",
    7: "reward models, best of N, DPO, and how a reward is exploited",
    8: "worked steps, self-training, GRPO, and votes among samples",
    9: "search by vectors and words, citations, and why models make things up",
}


def link_chapters(report, directory, *numbers):
    """Add links to chapters that tell more about this stage.

    Args:
        report: `Report`.
        directory: path of the folder of the page.
        *numbers: ints.
    """
    report.links(
        [
            (
                f"Chapter {number}, {CHAPTERS[number][0]}",
                chapter_address(number, directory),
                WHAT_THEY_SHOW[number],
            )
            for number in numbers
        ]
    )


def chapter_address(number, directory):
    """Return the address of a chapter, or `None` if it is not here.

    The chapters are beside the package in a checkout. A wheel has none.

    Args:
        number: int.
        directory: path of the folder of the page that has the link.
    """
    root = pathlib.Path(kerasllm.__file__).parent.parent
    name = CHAPTERS[number][1]
    for path in (
        root / "docs" / "_build" / "html" / "chapters" / f"{name}.html",
        root / "chapters" / f"{name}.ipynb",
    ):
        if path.is_file():
            relative = os.path.relpath(path, directory.resolve())
            return urllib.parse.quote(pathlib.Path(relative).as_posix())
    return None


def write_next(report, directory, adapters):
    """Say what to do next: talk with the models, read, train one's own.

    Args:
        report: `Report`.
        directory: path of the tour.
        adapters: path of the adapters that have learned to refuse.
    """
    report.text("Talk with the model that was tuned above:")
    report.code(chat_command("tiny", adapters=adapters))
    report.text(
        "Train a mini-GPT on your own text, and let it write. A megabyte of "
        "text or more works best:"
    )
    report.code(
        "kerasllm pretrain --data my_texts/ --documents files --out my_model\n"
        'kerasllm generate --model my_model "Once upon a time" --top-k 5'
    )
    report.text("Tune a model on your own requests and answers:")
    report.code(
        "kerasllm finetune --data my_examples.jsonl --preset tiny --rank 8 "
        "--out my_adapters"
    )
    report.text(
        "The same code runs at full scale. You change one name, and you need "
        "a GPU and a network connection:"
    )
    report.code(
        "kerasllm pretrain --recipe book --data mini-c4 --out book_model\n"
        "kerasllm chat --preset gemma3_instruct_4b --dtype bfloat16"
    )
    report.text("Read the chapters, which explain the code behind this page:")
    link_chapters(report, directory, *CHAPTERS)
