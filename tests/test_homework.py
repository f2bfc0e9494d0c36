"""The assignments: what they ask, what is released, what they cost."""

import json
import pathlib
import re
import tomllib

import keras
import numpy as np
import pytest

from kerasllm import cli, homework, homework_course

nbformat = pytest.importorskip(
    "nbformat", reason='notebooks need `pip install -e ".[notebooks]"`'
)
pytest.importorskip(
    "jupytext", reason='notebooks need `pip install -e ".[notebooks]"`'
)
ROOT = pathlib.Path(__file__).parent.parent
ASSIGNMENTS = homework.sources()


# --- The assignments -------------------------------------------------------


def run_cells(notebook, changes=(), only=None):
    """Run an assignment here; return the message of each failed test.

    The figure, which a person grades, is left out, and so are all tests but
    `only` where one is named.
    """
    namespace, failures = {"__name__": "__main__"}, {}
    changes = dict(changes)
    for cell in notebook.cells:
        details = cell.metadata.get("nbgrader", {})
        is_test = details.get("grade")
        if cell.cell_type != "code" or (is_test and details.get("solution")):
            continue
        if is_test and only not in (None, details.grade_id):
            continue
        source = cell.source
        for old in [old for old in changes if old in source]:
            if details.get("solution"):
                source = source.replace(old, changes.pop(old))
        try:
            exec(compile(source, details.get("grade_id", "cell"), "exec"),
                 namespace)  # fmt: skip
        except Exception as error:
            if not is_test:
                raise
            failures[details.grade_id] = f"{type(error).__name__}: {error}"
    assert not changes, f"not in any solution: {list(changes)}"
    return failures


@pytest.mark.parametrize(
    "name",
    [
        # These train for a while.
        pytest.param(name, marks=pytest.mark.slow)
        if name.startswith(("hw2", "hw4"))
        else name
        for name in ASSIGNMENTS
    ],
)
def test_the_solution_passes_in_any_term(name, monkeypatch):
    """Another one on each backend."""
    seed = 1 + ["jax", "tensorflow", "torch"].index(keras.backend.backend())
    monkeypatch.setenv("KERASLLM_HOMEWORK_SEED", str(seed))
    notebook = homework.read_source(ASSIGNMENTS[name], seed)
    assert run_cells(notebook) == {}


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_an_assignment_is_in_form(name):
    notebook = homework.read_source(ASSIGNMENTS[name])
    points = [
        cell.metadata.nbgrader.points
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade")
    ]
    assert sum(points) == 100
    graded = notebook.metadata.kerasllm.graded
    solutions = "".join(
        cell.source
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    )
    for name in graded:
        assert re.search(rf"(def|class) {name}\(", solutions)
    assert "kerasllm" in str(notebook.metadata.kerasllm.forbidden)


ADAPTERS = "hw4_adapters_and_instructions"


def helpers(name, *grade_ids):
    """Run some cells of an assignment; return what they define."""
    namespace = {}
    for cell in homework.read_source(ASSIGNMENTS[name]).cells:
        if cell.id in grade_ids:
            exec(cell.source, namespace)
    return namespace


# A mistake that students make, and the first test that must notice.
MISTAKES = {
    "words counted once": (
        "counts[pair] += count", "counts[pair] += 1", "test_pair_counts"
    ),
    "overlapping merges": ("i += 2", "i += 1", "test_merge_pair"),
    "a list for a tuple": (
        "return tuple(merged)", "return merged", "test_merge_pair"
    ),
    "ties to the largest": (
        "min(counts, key=lambda pair: (-counts[pair], pair))",
        "max(counts, key=lambda pair: (counts[pair], pair))",
        "test_train_bpe_small",
    ),
    "pairs that occur once": (
        "max(counts.values()) < 2", "max(counts.values()) < 1",
        "test_train_bpe_small",
    ),
    "counts lost in a merge": (
        "merged_words[merge_pair(symbols, best)] += count",
        "merged_words[merge_pair(symbols, best)] = 1",
        "test_train_bpe_oracle",
    ),
    "merges in the wrong order": (
        "for pair in merges:\n                if",
        "for pair in reversed(merges):\n                if",
        "test_encode",
    ),
    "ids without room for the end": ("257 + i)", "256 + i)", "test_encode"),
    "strict decoding": ('errors="replace"', 'errors="strict"',
                        "test_round_trip"),
    "no end after the last": (
        "for token in [*ids, end_id]]",
        "for token in [*ids, end_id]][:-1]",
        "test_pack",
    ),
    "windows that overlap": (
        "length = sequence_length + 1\n    num",
        "length = sequence_length + 1\n    stream = [t for i in range(0, "
        "len(stream) - length, sequence_length) for t in "
        "stream[i : i + length]]\n    num",
        "test_make_windows",
    ),
    "targets that are inputs": (
        "windows[:, :-1], windows[:, 1:]",
        "windows[:, :-1], windows[:, :-1]",
        "test_make_windows",
    ),
    "no shuffling": (
        "np.random.default_rng(seed).permutation(len(x))",
        "np.arange(len(x))",
        "test_make_batches",
    ),
    "the same order for all seeds": (
        "default_rng(seed)", "default_rng(0)", "test_make_batches"
    ),
    "targets left behind": (
        "y[order[i : i + batch_size]]", "y[i : i + batch_size]",
        "test_make_batches",
    ),
    "Python's hash": (
        'int.from_bytes(digest[:8], "big") / 2**64',
        "hash(text) % 1000 / 1000",
        "test_held_out_number",
    ),
    "a split by place": (
        "held_out_number(text) < fraction",
        "len(train) > 4 * len(validation)",
        "test_split_documents",
    ),
    "each document once": (
        "for text in documents:", "for text in dict.fromkeys(documents):",
        "test_split_documents",
    ),
    "the last batch forgotten": (
        "-(-windows // batch_size)", "windows // batch_size",
        "test_count_batches",
    ),
    "counting with floats": (
        "divmod(num_tokens, sequence_length + 1)",
        "int(num_tokens * (1 / (sequence_length + 1))), "
        "num_tokens % (sequence_length + 1)",
        "test_count_batches",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_costs_points(mistake, monkeypatch):
    monkeypatch.setenv("KERASLLM_HOMEWORK_SEED", "3")
    old, new, test = MISTAKES[mistake]
    notebook = homework.read_source(ASSIGNMENTS["hw1_tokens_and_windows"])
    failures = run_cells(notebook, {old: new})
    assert test in failures
    message = failures[test]
    # A test says which rule is broken, in a sentence.
    assert re.search(r"[a-z]{3,} [a-z]{2,}.*", message), message


# The same for the assignment about adapters.
ADAPTER_MISTAKES = {
    "a change at the start": (
        'initializer="zeros"', 'initializer="ones"', "test_LoraLinear"
    ),
    "A of zeros": (
        'initializer="glorot_uniform"', 'initializer="zeros"',
        "test_LoraLinear",
    ),
    "A of ones": (
        'initializer="glorot_uniform"', 'initializer="ones"',
        "test_LoraLinear",
    ),
    "a matrix that is trained": (
        "shape=kernel.shape, trainable=False", "shape=kernel.shape",
        "test_LoraLinear",
    ),
    "alpha not divided": (
        "else lora_alpha / rank", "else lora_alpha", "test_LoraLinear"
    ),
    "alpha of one": (
        "1.0 if lora_alpha is None", "1.0 / rank if lora_alpha is None",
        "test_LoraLinear",
    ),
    "merged without alpha": (
        "layer.kernel + layer.scale * change", "layer.kernel + change",
        "test_merge",
    ),
    "a product for a sum": (
        "rank * sum(shapes[name])",
        "rank * shapes[name][0] * shapes[name][1]",
        "test_lora_costs",
    ),
    "one moment": (
        "2 * bytes_per_number * trainable", "bytes_per_number * trainable",
        "test_lora_costs",
    ),
    "always four bytes": (
        "2 * bytes_per_number * parameters", "8 * parameters",
        "test_lora_costs",
    ),
    "no beginning": (
        "return [BOS, *before", "return [*before", "test_encode_prompt"
    ),
    "forged marks": (
        "*tokenize(request)", "*tokenize(request, marks=True)",
        "test_encode_prompt",
    ),
    "no line break": (
        "<start_of_turn>model\\n", "<start_of_turn>model",
        "test_encode_prompt",
    ),
    "no end": (
        "*tokenize(answer), END_OF_TURN]", "*tokenize(answer)]",
        "test_encode_row",
    ),
    "forged marks in an answer": (
        "*tokenize(answer), END", "*tokenize(answer, marks=True), END",
        "test_encode_row",
    ),
    "no shift": ("y[i, :end] = ids[1:]", "y[i, :end] = ids[:-1]",
                 "test_make_batch"),
    "weights one too late": (
        "weights[i, prompt_length - 1 : end]", "weights[i, prompt_length:end]",
        "test_make_batch",
    ),
    "padding that counts": (
        "weights[i, prompt_length - 1 : end]",
        "weights[i, prompt_length - 1 :]",
        "test_make_batch",
    ),
    "prompts that count": (
        "weights[i, prompt_length - 1 : end]", "weights[i, :end]",
        "test_make_batch",
    ),
    "a place too few": (
        "len(row[0]) - 1 <= length", "len(row[0]) <= length",
        "test_make_batch",
    ),
    "rows that are cut": (
        "short = [row for row in rows if len(row[0]) - 1 <= length]",
        "short = [(ids[: length + 1], n) for ids, n in rows]",
        "test_make_batch",
    ),
    "rows lost in silence": (
        "weights, len(rows) - len(short)", "weights, 0", "test_make_batch"
    ),
    "a mean over padding": (
        "/ ops.where(total > 0, total, 1.0)", "/ ops.size(weights)",
        "test_masked_loss",
    ),
    "divided by nothing": (
        "/ ops.where(total > 0, total, 1.0)", "/ total", "test_masked_loss"
    ),
    "logarithm of a softmax": (
        "ops.log_softmax(logits, axis=-1)",
        "ops.log(ops.softmax(logits, axis=-1))",
        "test_masked_loss",
    ),
    "a mean of means": (
        "return ops.sum(losses * weights) / ops.where(total > 0, total, 1.0)",
        "rows = ops.sum(weights, -1)\n"
        "    rows = ops.where(rows > 0, rows, 1.0)\n"
        "    return ops.mean(ops.sum(losses * weights, -1) / rows)",
        "test_masked_loss",
    ),
    "right everywhere": (
        "right | (np.asarray(weights) == 0)", "right", "test_exact_rows"
    ),
    "right somewhere": (
        "np.all(right | (np.asarray(weights) == 0)",
        "np.any(right & (np.asarray(weights) > 0)",
        "test_exact_rows",
    ),
    "the share of tokens": (
        "return np.all(right | (np.asarray(weights) == 0)",
        "return np.mean(right | (np.asarray(weights) == 0)",
        "test_exact_rows",
    ),
    "alpha forgotten": (
        "LoraLinear(block[name], rank, lora_alpha)",
        "LoraLinear(block[name], rank)",
        "test_adapt",
    ),
    "one adapter for all blocks": (
        "for block in weights[\"blocks\"]\n        ]\n\n    def call",
        "for block in weights[\"blocks\"][:1]\n        ] * "
        "len(weights[\"blocks\"])\n\n    def call",
        "test_adapt",
    ),
    "adapters that nobody asks": (
        "{**block, **adapters}", "{**adapters, **block}", "test_adapt"
    ),
    "all tokens count": (
        "masked_loss(y_pred, y, sample_weight)",
        "masked_loss(y_pred, y, ops.ones_like(y))",
        "test_tune",
    ),
    "a rate of its own": (
        "keras.optimizers.Adam(rate)", "keras.optimizers.Adam(0.1)",
        "test_tune",
    ),
    "plain descent": (
        "keras.optimizers.Adam(rate)", "keras.optimizers.SGD(rate)",
        "test_tune",
    ),
}  # fmt: skip


# Layers and models are compiled, which takes seconds.
COMPILED = {"test_LoraLinear", "test_merge", "test_masked_loss", "test_adapt",
            "test_tune"}  # fmt: skip


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(name, marks=[pytest.mark.once] * (test in COMPILED))
        for name, (_, _, test) in ADAPTER_MISTAKES.items()
    ],
)
def test_a_mistake_with_adapters_costs_points(mistake, monkeypatch):
    monkeypatch.setenv("KERASLLM_HOMEWORK_SEED", "3")
    old, new, test = ADAPTER_MISTAKES[mistake]
    notebook = homework.read_source(ASSIGNMENTS[ADAPTERS])
    message = run_cells(notebook, {old: new}, only=test)[test]
    assert re.search(r"[a-z]{3,} [a-z]{2,}.*", message), message


def test_requests_are_those_of_the_world():
    """Copies, because grading has no kerasllm to make a world."""
    from kerasllm.toyworld import KINDS

    namespace = helpers(ADAPTERS, "read_world")
    assert namespace["QUESTIONS"] == {
        attribute.name: (
            attribute.sentences[0].replace("{name}", "It").format(value="{}"),
            *(text.replace("{name}", "{}") for text in attribute.questions),
        )
        for attribute in KINDS["town"]
    }
    towns = [line.split()[0] for line in namespace["TOWNS"].split("\n")[1:-1]]
    for seed in (1, 2):
        taught, untaught = namespace["read_world"](seed)
        assert len(taught) == 450 and len(untaught) == 150
        # No request is about a fact that is asked for in the end.
        said, asked = (
            {(town, answer) for text, answer in rows for town in towns
             if town in text}
            for rows in (taught, untaught)
        )  # fmt: skip
        assert len(said) == len(asked) == 150 and not said & asked


@pytest.mark.slow
def test_the_preset_knows_the_towns():
    import keras

    from kerasllm.tiny_gemma import TinyRecipe

    namespace = helpers(ADAPTERS, "gemma", "tokenize", "read_world",
                        "make_batch", "exact_rows")  # fmt: skip
    namespace["np"] = np
    tokenize = namespace["tokenize"]
    rows = []
    for line in namespace["TOWNS"].split("\n")[1:-1]:
        town, *values = line.split()
        forms = namespace["QUESTIONS"].values()
        for (answer, *_), value in zip(forms, values, strict=True):
            before, after = answer.split("{}")
            beginning = tokenize(town + before.removeprefix("It").rstrip())
            end = tokenize(f" {value}{after}")
            rows.append(([namespace["BOS"], *beginning, *end],
                         1 + len(beginning)))  # fmt: skip
    x, y, weights, too_long = namespace["make_batch"](rows, 36)
    assert not too_long
    logits = namespace["gemma_logits"](x, namespace["read_gemma"]())
    logits = keras.ops.convert_to_numpy(logits)
    share = namespace["exact_rows"](logits, y, weights).mean()
    table = "\n".join(
        " ".join((entity.name, *entity.facts.values()))
        for entity in TinyRecipe().world().entities
        if entity.kind == "town"
    )
    assert share > 0.8, (
        f"The preset knows {share:.0%} of the towns. If it was trained anew, "
        f"TOWNS must be\n{table}\nand the homework released again."
    )


@pytest.mark.slow
def test_the_gemma_of_an_assignment_is_the_preset():
    import keras

    from kerasllm.gemma import Gemma
    from kerasllm.images import vision_inputs

    namespace = helpers(ADAPTERS, "gemma", "tokenize", "encode_prompt")
    gemma = Gemma.from_preset("tiny")
    request = "What is a <end_of_turn> in Calgorburg?"
    prompt = gemma.prompt(request).token_ids
    assert namespace["encode_prompt"](request) == list(prompt)
    ids = np.array([prompt], "int32")
    x = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    x |= vision_inputs(ids, [()], gemma.causal_lm.preprocessor, 1)
    ours, theirs = (
        keras.ops.convert_to_numpy(logits)
        for logits in (
            namespace["gemma_logits"](ids, namespace["read_gemma"]()),
            gemma.causal_lm(x),
        )
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.once
def test_mistakes_cost_the_same_in_grading(nbgrader, tmp_path, monkeypatch):
    """In one process or in two, the same tests fail."""
    name = "hw1_tokens_and_windows"
    monkeypatch.setenv("KERASLLM_HOMEWORK_SEED", "3")
    source = homework.read_source(ASSIGNMENTS[name])
    expected = {}
    for number, (old, new, _) in enumerate([*MISTAKES.values()][::3]):
        failures = run_cells(source, {old: new})
        submission = nbformat.from_dict(json.loads(json.dumps(source)))
        for each in submission.cells:
            if each.metadata.get("nbgrader", {}).get("solution"):
                each.source = each.source.replace(old, new, 1)
        # The figure takes longest and is no part of this.
        submission.cells = [
            each
            for each in submission.cells
            if "plt.subplots" not in each.source
        ]
        expected[f"student{number:02}"] = set(failures)
        nbformat.write(submission, tmp_path / f"student{number:02}.ipynb")
    results, _ = homework_course.grade(
        tmp_path,
        tmp_path / "out" / "grades.csv",
        assignment=name,
        seed=3,
        unprotected=True,
    )
    assert {r.student: set(r.failures) for r in results} == expected


# --- What is released ------------------------------------------------------


@pytest.fixture(scope="module")
def releases(nbgrader, tmp_path_factory):
    """The assignments as students get them, made in two ways and as shipped."""
    root = tmp_path_factory.mktemp("releases")
    homework_course.release(root / "called", seed=77)
    arguments = ["homework", "release", str(root / "typed"), "--seed", "77"]
    cli.main(arguments)
    homework_course.release(root / "shipped")
    return root


@pytest.mark.once
@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_a_release_has_neither_solutions_nor_hidden_tests(name, releases):
    path = releases / "called" / f"{name}.ipynb"
    text = path.read_text()
    assert "BEGIN SOLUTION" not in text and "HIDDEN TESTS" not in text
    source = homework.read_source(ASSIGNMENTS[name])
    secret = {
        line.strip()
        for cell in source.cells
        for part in re.findall(
            r"### BEGIN (?:SOLUTION|HIDDEN TESTS)(.*?)### END",
            cell.source,
            re.DOTALL,
        )
        for line in part.splitlines()
        if len(line.strip()) >= 20
    }
    public = re.sub(
        r"### BEGIN (SOLUTION|HIDDEN TESTS).*?### END",
        "",
        "\n".join(cell.source for cell in source.cells),
        flags=re.DOTALL,
    )
    for line in secret:
        if line not in public:
            assert json.dumps(line)[1:-1] not in text
    assert "SEED = 77" in text
    assert "raise NotImplementedError()" in text
    # Ids of cells, too: a release changes no file that it need not change.
    typed = releases / "typed" / f"{name}.ipynb"
    assert typed.read_bytes() == path.read_bytes()


@pytest.mark.once
@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_notebook_beside_an_assignment_is_its_release(name, releases):
    made, kept = (
        nbformat.read(folder / f"{name}.ipynb", as_version=4)
        for folder in (releases / "shipped", ASSIGNMENTS[name].parent)
    )
    assert [(each.id, each.source) for each in kept.cells] == [
        (each.id, each.source) for each in made.cells
    ], "Run `kerasllm homework release chapters/homework` again."


@pytest.mark.once
@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_solution_earns_all_that_is_automatic(name, nbgrader, tmp_path):
    """The whole way; the limits are a slow machine's, their effect is tested
    elsewhere.
    """
    notebook = homework.read_source(ASSIGNMENTS[name])
    (tmp_path / "class").mkdir()
    nbformat.write(notebook, tmp_path / "class" / f"{name}_ann.ipynb")
    (result,), _ = homework_course.grade(
        tmp_path / "class",
        tmp_path / "grades.csv",
        assignment=name,
        unprotected=True,
        call_seconds=100,
        cell_seconds=200,
    )
    assert result.failures == {} and result.student == "ann"
    by_hand = [key for key, score in result.scores.items() if score is None]
    most = {
        cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade")
    }
    assert 1 <= len(by_hand) <= 2
    assert result.total == 100 - sum(most[key] for key in by_hand)
    page = (tmp_path / "feedback" / "ann.html").read_text()
    assert "data:image/png" in page  # the figure, for whoever grades it


def test_no_solution_is_part_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    setuptools = project["tool"]["setuptools"]
    assert setuptools["packages"] == [
        "kerasllm",
        "kerasllm._moved",
        "kerasllm.assets",
        "kerasllm.backend",
    ]
    assert setuptools["package-dir"] == {"kerasllm.assets": "assets"}
    secret = [
        line.strip()
        for path in ASSIGNMENTS.values()
        for line in path.read_text().splitlines()
        if "merged_words[" in line or "hidden inputs" in line
    ]
    assert secret
    for path in [*(ROOT / "kerasllm").rglob("*.py")]:
        text = path.read_text()
        assert not any(line in text for line in secret), path
