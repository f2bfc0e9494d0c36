"""What the README shows works as it stands there."""

import json
import pathlib
import pydoc_data.topics
import re

import keras
import pytest

from kerasllm import toyworld

README = pathlib.Path(__file__).parent.parent / "README.md"


def examples():
    text = README.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S)


@pytest.mark.any_backend
def test_there_are_five_short_examples():
    assert len(examples()) == 5
    assert max(code.count("\n") for code in examples()) <= 16


@pytest.mark.any_backend
def test_the_table_of_the_tiny_gemma_is_what_its_cards_say():
    """But for the column of chapter 5, which its own checks guard."""
    text = README.read_text(encoding="utf-8")
    rows = {
        "sentences completed": ["completed"],
        "held-out facts: questions": ["known"],
        "taught facts: questions": ["taught"],
        "names that exist": ["refused_known"],
        "names that do not exist": ["refused_unknown"],
        "new pictures": ["colour", "shape", "count"],
    }
    for column, preset in ((1, "tiny"), (3, "tiny_instruct")):
        card = README.parent / "assets" / preset / "card.json"
        scores = json.loads(card.read_text("utf-8"))["scores"]
        for words, names in rows.items():
            (row,) = re.findall(rf"^\|[^|]*{words}.*$", text, flags=re.M)
            shown = re.findall(r"([\d.]+)%", row.split("|")[column + 1])
            assert len(shown) == len(names), row
            for share, name in zip(shown, names, strict=True):
                assert abs(float(share) - 100 * scores[name]) <= 0.05, row


@pytest.mark.once
def test_the_examples_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = pydoc_data.topics.topics.values()
    pathlib.Path("my_texts").mkdir()
    for number, text in enumerate(texts):
        pathlib.Path("my_texts", f"{number}.txt").write_text(text)
    picture = toyworld.pictures(1)[0]
    keras.utils.save_img("shapes.png", picture.image)
    world = toyworld.World(entities_per_kind=2)
    lines = [
        json.dumps(
            {
                "instruction": example.instruction,
                "response": example.response,
            }
        )
        for example in world.instructions()
    ]
    pathlib.Path("my_examples.jsonl").write_text("\n".join(lines))
    names = {}
    for code in examples():
        exec(compile(code, str(README), "exec"), names)
    # Of 1,024 tokens, one is guessed with a loss of 6.93.
    assert names["history"][-1]["loss"] < 5
    assert pathlib.Path("my_adapters.lora.h5").is_file()
    # Shown to the model, the picture is seen, whatever is said of it.
    answer = names["gemma"].ask(
        "<start_of_image>What colour are the shapes?", images=["shapes.png"]
    )
    assert answer.startswith("The colour is ")
