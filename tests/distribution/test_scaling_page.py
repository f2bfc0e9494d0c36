"""The numbers on the page about scaling are those of its formulas."""

import pathlib

import pytest

from kerasllm.recipes import get_recipe

ROOT = pathlib.Path(__file__).parent.parent.parent
pytestmark = pytest.mark.any_backend


def test_the_page_tells_what_the_formulas_say():
    page = (ROOT / "docs" / "scaling.md").read_text()
    words = " ".join(page.split())
    rows = {
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in page.splitlines()
        if line.startswith("| ")
    }
    book = get_recipe("book")
    hidden, inner = book.hidden_dim, book.intermediate_dim
    norm = 2 * hidden
    block = 4 * (hidden**2 + hidden) + 2 * norm
    block += hidden * inner + inner + inner * hidden + hidden
    table = book.vocabulary_size * hidden
    positions = book.sequence_length * hidden
    parameters = table + positions + norm + book.num_layers * block
    assert f"has {parameters:,} parameters" in words
    tokens = book.batch_size * book.sequence_length
    operations = 6 * parameters + 12 * book.num_layers * positions
    step = tokens * operations
    seconds = tokens / 200_000
    assert f"up to {step / 1e12:.2f} TFLOP per step" in words
    assert f"a step takes {seconds * 1000:.0f} ms" in words

    gradients, in_parts = (
        4 * (parameters + times * table) for times in (1, book.loss_chunks)
    )
    assert f"in float32, {gradients / 1e6:.0f} MB of them" in words
    assert f"logits in {book.loss_chunks} chunks" in words
    assert f"once per chunk, {in_parts / 1e6:.0f} MB in all" in words
    links = (300e9, 12.5e9, 1.25e9)
    for n in (1, 2, 4, 8, 16, 32, 64, 128):
        sent = 2 * (n - 1) / n * gradients
        faster = [seconds / (seconds / n + sent / link) for link in links]
        assert (
            *(str(n), str(book.batch_size // n), f"{step / n / 1e12:.2f}"),
            *(f"{sent / 1e6:.0f}", f"{seconds / n * 1000:.1f}"),
            *(f"{times:.1f}" for times in faster),
        ) in rows
    sent = 2 * 63 / 64 * gradients
    work = 64 * seconds / (seconds + sent / 12.5e9)
    assert f"12.5 GB/s do {work:.1f} times" in words

    sums = 6 * book.num_layers + 2
    activations = 4 * sums * tokens * hidden
    assert f"add up activations {sums} times per step" in words
    assert f"step, {activations / 1e9:.2f} GB in all" in words
    assert f"{activations / gradients:.1f} times the size of the" in words
    memory = 16 * parameters
    whole = norm + book.num_layers * (2 * norm + 2 * hidden)
    assert f"take {memory / 1e6:.0f} MB on each device" in words
    part = 16 * ((parameters - whole) / 8 + whole)
    assert (
        f"and {part / 1e6:.0f} MB on each device of a group of eight" in words
    )
    assert whole < parameters / 100

    everything = 1e12 / 4
    days = everything / 200_000 / 86_400
    assert f"is {everything / 1e9:.0f} billion tokens" in words
    assert f"{everything / tokens / 1e6:.1f} million steps" in words
    assert f"or {days:.1f} days" in words
    assert f"4,096 files of {1e12 / 4096 / 1e6:.0f} MB" in words
    assert f"and {8 * 200_000 * 4 / 1e6:.1f} MB/s" in words
    assert f"takes {everything / 1e6 / 3600:.1f} hours, once" in words
    for hosts in (1, 8, 64):
        own = everything / hosts
        assert (
            *(str(hosts), f"{4096 // hosts:,}", f"{own / 1e9:.0f} billion"),
            f"{own / 1e6 / 3600:.1f} h",
            f"{own / 8 / 200_000 / 3600:.1f} h",
        ) in rows
