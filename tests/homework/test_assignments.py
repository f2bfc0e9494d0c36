"""The assignments: what they ask, and what mistakes in them cost."""

import collections
import json
import re

import keras
import numpy as np
import pytest

from kerasllm import homework
from tests.homework.mistakes import (
    ADAPTER_MISTAKES,
    MISTAKES,
    PRETRAINING_MISTAKES,
)
from tests.homework.preference_mistakes import PREFERENCE_MISTAKES
from tests.homework.reasoning_mistakes import REASONING_MISTAKES
from tests.homework.reasoning_styles import STYLES

nbformat = pytest.importorskip(
    "nbformat", reason='notebooks need `pip install -e ".[notebooks]"`'
)
pytest.importorskip(
    "jupytext", reason='notebooks need `pip install -e ".[notebooks]"`'
)


ASSIGNMENTS = homework.sources()


ASSIGNMENTS_BY_COST = [
    # These compile and train for a while.
    pytest.param(name, marks=pytest.mark.slow)
    if name.startswith(("hw2", "hw4", "hw5"))
    else name
    for name in ASSIGNMENTS
]


ADAPTERS = "hw4_adapters_and_instructions"


# Layers and models are compiled, which takes seconds.
COMPILED = {"test_LoraLinear", "test_merge", "test_masked_loss", "test_adapt",
            "test_tune", "test_make_model", "test_mean_loss",
            "test_pretrain", "test_train_dpo"}  # fmt: skip


# Mistakes by the question that they are in: assignment and test.
GROUPS = collections.defaultdict(dict)
for _name, _mistakes in {
    ADAPTERS: ADAPTER_MISTAKES,
    "hw2b_pretraining": PRETRAINING_MISTAKES,
    "hw5_preferences": PREFERENCE_MISTAKES,
    "hw6_reasoning": REASONING_MISTAKES,
}.items():
    for _mistake, (*_change, _test) in _mistakes.items():
        GROUPS[_name, _test][_mistake] = _change


# The figures train for one epoch instead of four.
SHORTER = {
    "train, validation, 4e-3, 50, 32, 4": "train, validation, 4e-3, 50, 32, 1",
    "train, 4e-3, 16, 4, measure": "train, 4e-3, 16, 1, measure",
    "ax.plot(range(5), values": "ax.plot(range(2), values",
}


def run_cells(notebook, changes=(), only=None):
    """Run an assignment here; return the message of each failed test.

    The figure, which a person grades, is left out, and so are all tests but
    `only` where one is named. A test is lent what it would be in grading.
    """
    namespace, failures = {"__name__": "__main__"}, {}
    loans = homework.Loans(homework.plan_loans(notebook))
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
        if is_test:
            run_test(cell, loans, namespace, failures)
        else:
            run(source, namespace)
    assert not changes, f"not in any solution: {list(changes)}"
    return failures


def run(source, namespace):
    """Run the code of a cell, but what would change Keras for other tests."""
    if "def switch_off(" in source:
        source = source.replace("\nswitch_off()", "")
    exec(compile(source, "cell", "exec"), namespace)


def run_test(cell, loans, namespace, failures):
    """Run a test with what it is lent; add its message if it fails."""
    test = cell.metadata.nbgrader.grade_id
    homework.lend(*(loans.of(test) or ([], [])), namespace)
    try:
        run(cell.source, namespace)
    except Exception as error:
        failures[test] = f"{type(error).__name__}: {error}"
    finally:
        homework.lend([], [], namespace)
    loans.record(test, test not in failures)


def run_tests_alone(notebook):
    """Run each test with nothing of the student's but what it grades.

    All other functions are as if never written, and their tests have failed.
    """
    plan = homework.plan_loans(notebook)
    loans, failures = homework.Loans(plan), {}
    tests = {cell.id: cell for cell in notebook.cells}
    for test, graded in plan["tests"].items():
        namespace = {"__name__": "__main__"}
        for source in plan["base"]:
            run(source, namespace)
        for name in graded:
            run(plan["functions"][name], namespace)
        run_test(tests[test], loans, namespace, failures)
        loans.record(test, passed=False)
    return failures


def helpers(name, *grade_ids):
    """Run some cells of an assignment; return what they define."""
    namespace = {}
    for cell in homework.read_source(ASSIGNMENTS[name]).cells:
        if cell.id in grade_ids:
            exec(cell.source, namespace)
    return namespace


@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="all of it is graded there: `..._earns_all_that_is_automatic`",
)
@pytest.mark.parametrize("name", ASSIGNMENTS_BY_COST)
def test_the_solution_passes_in_any_term(name, monkeypatch):
    """Another one on each backend."""
    seed = 2 if keras.backend.backend() == "tensorflow" else 3
    monkeypatch.setenv("KERASLLM_HOMEWORK_SEED", str(seed))
    notebook = homework.read_source(ASSIGNMENTS[name], seed)
    assert run_cells(notebook) == {}


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ASSIGNMENTS_BY_COST)
def test_a_test_needs_only_what_it_grades(name, monkeypatch):
    """Where nothing else was ever written, it gives all of its points."""
    monkeypatch.setenv("KERASLLM_HOMEWORK_SEED", "4")
    notebook = homework.read_source(ASSIGNMENTS[name], 4)
    assert run_tests_alone(notebook) == {}


@pytest.mark.any_backend
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


@pytest.mark.any_backend
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_costs_points(mistake, monkeypatch):
    monkeypatch.setenv("KERASLLM_HOMEWORK_SEED", "3")
    old, new, test = MISTAKES[mistake]
    notebook = homework.read_source(ASSIGNMENTS["hw1_tokens_and_windows"])
    failures = run_cells(notebook, {old: new})
    assert test in failures
    # No points but those of the function with the mistake.
    graded = homework.plan_loans(notebook)["tests"]
    assert {each for each in failures if graded[each] != graded[test]} == set()
    message = failures[test]
    # A test says which rule is broken, in a sentence.
    assert re.search(r"[a-z]{3,} [a-z]{2,}.*", message), message


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("name", "test"),
    [
        pytest.param(
            *group,
            marks=pytest.mark.slow if group[1] in COMPILED else (),
        )
        for group in GROUPS
    ],
)
def test_mistakes_in_a_function_cost_points(name, test, monkeypatch):
    """All mistakes of one question, one after another in one namespace."""
    monkeypatch.setenv("KERASLLM_HOMEWORK_SEED", "3")
    notebook = homework.read_source(ASSIGNMENTS[name])
    plan = homework.plan_loans(notebook)
    (cell,) = [cell for cell in notebook.cells if cell.id == test]
    functions = list(plan["functions"])
    functions = functions[: 1 + functions.index(plan["tests"][test][-1])]
    namespace = {"__name__": "__main__"}
    for source in [*plan["base"], *map(plan["functions"].get, functions)]:
        run(source, namespace)
    messages = {}
    for mistake, (old, new) in GROUPS[name, test].items():
        (graded,) = [
            each
            for each in plan["tests"][test]
            if old in plan["functions"][each]
        ]
        right = plan["functions"][graded]
        run(right.replace(old, new, 1), namespace)
        failures = {}
        run_test(cell, homework.Loans(plan), namespace, failures)
        messages[mistake] = failures.get(test, "passed")
        run(right, namespace)
    for mistake, message in messages.items():
        assert message != "passed", mistake
        # A test says which rule is broken, in a sentence.
        assert re.search(r"[a-z]{3,} [a-z]{2,}.*", message), (mistake, message)


@pytest.mark.any_backend
@pytest.mark.parametrize("style", STYLES)
def test_a_right_answer_in_an_unusual_style_loses_nothing(style, monkeypatch):
    monkeypatch.setenv("KERASLLM_HOMEWORK_SEED", "6")
    notebook = homework.read_source(ASSIGNMENTS["hw6_reasoning"])
    for cell in notebook.cells:
        cell.source = STYLES[style].get(cell.id, cell.source)
    assert run_cells(notebook) == {}


@pytest.mark.any_backend
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
            {(town, answer) for text, answer in pairs for town in towns
             if town in text}
            for pairs in (taught, untaught)
        )  # fmt: skip
        assert len(said) == len(asked) == 150 and not said & asked


@pytest.mark.any_backend
@pytest.mark.slow
def test_the_preset_knows_the_towns():
    import keras

    from kerasllm.tiny_gemma import TinyRecipe

    namespace = helpers(ADAPTERS, "gemma", "tokenize", "read_world",
                        "make_batch", "exact_rows")  # fmt: skip
    namespace["np"] = np
    tokenize = namespace["tokenize"]
    examples = []
    for line in namespace["TOWNS"].split("\n")[1:-1]:
        town, *values = line.split()
        forms = namespace["QUESTIONS"].values()
        for (answer, *_), value in zip(forms, values, strict=True):
            before, after = answer.split("{}")
            prefix = tokenize(town + before.removeprefix("It").rstrip())
            end = tokenize(f" {value}{after}")
            ids = [namespace["BOS"], *prefix, *end]
            examples.append((ids, 1 + len(prefix)))
    x, y, weights, too_long = namespace["make_batch"](examples, 36)
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


@pytest.mark.any_backend
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
    for number, (old, new, _) in enumerate([*MISTAKES.values()][::6]):
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
    results, _ = homework.grade(
        tmp_path,
        tmp_path / "out" / "grades.csv",
        assignment=name,
        seed=3,
        unprotected=True,
    )
    assert {r.student: set(r.failures) for r in results} == expected


@pytest.mark.once
@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_solution_earns_all_that_is_automatic(name, nbgrader, tmp_path):
    """The whole way, on JAX; the limits are a slow machine's, their effect is
    tested elsewhere.
    """
    notebook = homework.read_source(ASSIGNMENTS[name], seed=1)
    for cell in notebook.cells:
        for old, new in SHORTER.items():
            cell.source = cell.source.replace(old, new)
    (tmp_path / "class").mkdir()
    nbformat.write(notebook, tmp_path / "class" / f"{name}_ann.ipynb")
    (result,), _ = homework.grade(
        tmp_path / "class",
        tmp_path / "grades.csv",
        assignment=name,
        seed=1,
        unprotected=True,
        backend="jax",  # PyTorch's figure can take longer than a cell may
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
