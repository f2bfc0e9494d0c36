"""What the stages of a tour may measure, without any model."""

import html
import pathlib
import re
import shlex
import types

import numpy as np

from kerasllm.evaluation import Share
from kerasllm.lora import LoraReport
from kerasllm.tour import (
    _pictures,
    _pretraining,
    _real_model,
    _tuning,
    _writing,
)
from kerasllm.tour._machine import Machine
from kerasllm.toyworld import pictures

MACHINE = Machine(
    "Python 3.11.7, keras 3.15.1",
    "tensorflow",
    "CPU (x86_64), 2 cores",
    "float32",
)
TEXT = _pretraining.Text(["/cache/local_docs/shard0.txt"], 22_112, 18_600_000)
PIECES = ["▁tensor", "▁the", "\n", "s", "▁array", "▁list", "$", "▁model"]


def history():
    return [
        {
            "epoch": epoch,
            "step": 120 * epoch,
            "loss": loss + 0.1,
            "val_loss": loss,
            "val_accuracy": accuracy,
            "val_perplexity": float(np.exp(loss)),
            "tokens_per_second": 9_000.0 + epoch,
        }
        for epoch, (loss, accuracy) in enumerate(
            [(5.07, 0.141), (4.41, 0.203), (3.87, 0.253)], start=1
        )
    ]


class Tokenizer:
    def __call__(self, text):
        return np.arange(3)

    def id_to_token(self, token_id):
        return PIECES[token_id]

    def vocabulary_size(self):
        return len(PIECES)


def trained(directory):
    """Return what stands for a pretrained model."""
    logits = np.log([0.4, 0.2, 0.1, 0.1, 0.08, 0.05, 0.04, 0.03])
    return types.SimpleNamespace(
        record={"history": history(), "parameters": 1_307_904},
        tokenizer=Tokenizer(),
        model=types.SimpleNamespace(
            predict=lambda token_ids, verbose: logits[None, None]
        ),
        directory=pathlib.Path(directory),
    )


SAMPLES = {
    1: "Return a new : : :",
    2: "Return a new s.",
    3: "Return a new list.",
}


def written(directory):
    return [
        _writing.Written(
            name,
            f"Return a new list by {name}.\n\nArgs:\n    x: A <tensor>.",
            [0.0, 0.1, 0.2],
            [230.0, 250.0, 240.0],
            _writing.command(directory, arguments, 100),
        )
        for name, arguments in _writing.STRATEGIES.items()
    ]


def tuning(directory):
    adapters = {
        "lora": directory / "adapters" / "answers.lora.h5",
        "refusals": directory / "adapters" / "refusals.lora.h5",
    }
    run = _tuning.Run(9, 61.0, 5_200.0)
    known = types.SimpleNamespace(
        text="What is Marnerburg famous for?",
        answer="It is famous for its kites.",
    )
    unknown = types.SimpleNamespace(
        text="On which river does Vusleldford lie?", answer="I don't know."
    )
    return _tuning.Tuning(
        num_examples=660,
        lora_run=run,
        full_run=_tuning.Run(6, 52.0, 4_800.0),
        sizes=LoraReport(
            66_048, 1_756_992, 264_192, 7_027_968, 528_384, 14_055_936
        ),
        exact={
            "before": Share(0, 120),
            "lora": Share(114, 120),
            "full": Share(118, 120),
            "refusals": Share(110, 120),
        },
        made_up=Share(120, 120),
        refused={"unknown": Share(107, 120), "known": Share(2, 120)},
        samples=_tuning._samples(
            known,
            unknown,
            ["", known.answer, "It lies on the river Calder.", unknown.answer],
            adapters,
        ),
        adapters=adapters,
    )


def seen(directory):
    shown = pictures(5, seed=3)
    share = {
        "with the picture": Share(57, 60),
        "without a picture": Share(7, 60),
        "with the wrong picture": Share(5, 60),
    }
    return _pictures.Seen(
        {"color": share, "shape": share, "count": share},
        shown,
        [picture.questions()[0].text for picture in shown],
        [picture.questions()[0].answer for picture in shown],
        [directory / "pictures" / f"{n}.png" for n in range(1, 6)],
    )


REAL = _real_model.RealModel(
    134_515_008,
    "The capital of France is Paris.",
    '{"name": "Ann", "age": 31}',
)


def stages(directory):
    """Return what replaces the stages of a tour, by their names."""
    return {
        "this_machine": lambda: MACHINE,
        "collect_text": lambda report: TEXT,
        "pretrain": lambda *_: (trained(directory), SAMPLES),
        "write": lambda *_: written(directory / "model"),
        "measure_tuning": lambda *_: tuning(directory),
        "measure_pictures": lambda *_: seen(directory),
        "ask_real_model": lambda report: REAL,
    }


def commands_of(page):
    """Return the commands on a page, a list of str."""
    blocks = re.findall("<pre><code>(.*?)</code></pre>", page, re.DOTALL)
    lines = html.unescape(re.sub("<.*?>", "", "\n".join(blocks)))
    return [
        line
        for line in lines.splitlines()
        if any(word.startswith("kerasllm") for word in shlex.split(line))
    ]
