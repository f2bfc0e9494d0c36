"""The commands that show again what is in the report.

Each names the backend: from the same seed, another one draws other numbers.
"""

import shlex

from kerasllm import backend


def pretrain_command(recipe, seed, directory):
    """Return the command that trains the same mini-GPT in another folder."""
    return _command(
        *("kerasllm", "pretrain", "--recipe", recipe, "--seed", seed),
        *("--out", directory, "--backend", backend.name()),
    )


def generate_command(directory, prompt, arguments, max_length, seed):
    """Return the command that continues a prompt in the same way.

    Args:
        directory: path of a pretrained model.
        prompt: str.
        arguments: dict of arguments of `samplers.chain`.
        max_length: int.
        seed: int.
    """
    options = []
    for name, value in arguments.items():
        options += [f"--{name.replace('_', '-')}", value]
    return _command(
        *("kerasllm", "generate", prompt, "--model", directory, *options),
        *("--max-length", max_length, "--seed", seed),
        *("--backend", backend.name()),
    )


def chat_command(preset, adapters=None, image=None, max_length=None):
    """Return the command that begins a conversation with a model.

    Args:
        preset: str, the name of a preset.
        adapters: path of a file of adapters, or `None`.
        image: path of an image, or `None`.
        max_length: int, or `None` for as long as the model takes.
    """
    options = {
        "--lora": adapters,
        "--image": image,
        "--max-length": max_length,
        "--backend": backend.name(),
    }
    given = [
        part
        for option, value in options.items()
        if value is not None
        for part in (option, value)
    ]
    return _command("kerasllm", "chat", "--preset", preset, *given)


def ask_command(question, *arguments, **options):
    """Return the command that asks one question; see `chat_command`."""
    return f"{_command('echo', question)} | " + chat_command(
        *arguments, **options
    )


def _command(*words):
    return shlex.join(map(str, words))
