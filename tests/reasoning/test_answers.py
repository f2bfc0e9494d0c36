"""The checker of answers, and everything that should not get past it."""

import functools
from fractions import Fraction

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.generation import best_of_n, majority_vote
from kerasllm.reasoning import (
    AnswerChecker,
    Problem,
    find_equations,
    step_prompt,
    word_problems,
)

pytestmark = pytest.mark.any_backend

CHECK = AnswerChecker()


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("ANSWER: 42", 42),
        ("13 + 29 = 42\nANSWER: 42", 42),
        ("ANSWER:42", 42),
        ("ANSWER:\n42", 42),
        ("ANSWER: 42.", 42),
        ("ANSWER: 42!", 42),
        ("ANSWER: 42 cards", 42),
        ("ANSWER: 42 cards, as he has lost some.", 42),
        ("ANSWER: 42cm", 42),
        ("ANSWER: 42 m2", 42),
        ("ANSWER: 42 m^2", 42),
        ("ANSWER: 42 m²", 42),
        ("ANSWER: **42**", 42),
        ("**ANSWER:** 42", 42),
        ("ANSWER: $42", 42),
        ("ANSWER: $42$", 42),
        (r"ANSWER: $\boxed{42}$", 42),
        (r"ANSWER: \(42\)", 42),
        (r"ANSWER: \[ \boxed{42} \]", 42),
        (r"ANSWER: \text{42 cards}", 42),
        (r"ANSWER: \$42", 42),
        (r"ANSWER: 1{,}234", 1234),
        (r"ANSWER: $\boxed{\frac{3}{4}}$", Fraction(3, 4)),
        (r"ANSWER: $1\dfrac{1}{2}$", 1.5),
        (r"ANSWER: 50\%", 0.5),
        (r"ANSWER: $$ \boxed{ 42 } $$", 42),
        (r"ANSWER: $\mathbf{42}\,\mathrm{m}^{2}$", 42),
        (r"ANSWER: $\left(42^{\circ}\right)$", 42),
        (r"ANSWER: $\frac{-3}{4}$", "-3/4"),
        ("**ANSWER**: 42", 42),
        ("__ANSWER: 42__", 42),
        ("ANSWER: __42__", 42),
        ("ANSWER: ₹42", 42),
        ("ANSWER: 42 (forty-two)", 42),
        ("ANSWER: 142 (one hundred and forty-two)", 142),
        ("ANSWER: 42 two-liter bottles, one for each", 42),
        ("ANSWER: 42 fifth graders", 42),
        ("ANSWER: (42)", 42),
        ('ANSWER: "42"', 42),
        ("ANSWER: = 42", 42),
        ("ANSWER: 42 dollars", 42),
        ("ANSWER: €42", 42),
        ("ANSWER: 42 €", 42),
        ("ANSWER: 1,234", 1234),
        ("ANSWER: 1,234 km", 1234),
        ("ANSWER: 1234567", 1234567),
        ("ANSWER: 42.0", 42),
        ("ANSWER: 42.50", "42.5"),
        ("ANSWER: 0.1", 0.1),
        ("ANSWER: .5", Fraction(1, 2)),
        ("ANSWER: 3/4", Fraction(3, 4)),
        ("ANSWER: 6/8 of the cake", Fraction(3, 4)),
        ("ANSWER: 0.75", "3/4"),
        ("ANSWER: 1 1/2", 1.5),
        ("ANSWER: -42", -42),
        ("ANSWER: −42", -42),
        ("ANSWER: -$42", -42),
        ("ANSWER: +42", 42),
        ("ANSWER: 50%", 50),
        ("ANSWER: 50%", Fraction(1, 2)),
        ("ANSWER: 50 percent", 0.5),
        ("ANSWER: 50 per cent", 0.5),
        ("ANSWER: 42 (42)", 42),
        ("ANSWER: 42\nANSWER: 42", 42),
        ("ANSWER: 42\nANSWER: 42.0 cards", 42),
        ("ANSWER: 042", 42),
        ("ANSWER: 42\n\nI hope that this helps, in 3 ways.", 42),
        ("His friends have 7 and 9.\nANSWER: 42", 42),
    ],
)
def test_the_one_answer_is_found(response, answer):
    assert CHECK([answer], [response]).tolist() == [1]


@pytest.mark.parametrize(
    "response",
    [
        "", "42", "The answer is 42", "ANSWER:", "ANSWER: ", "ANSWER: ...",
        # Several answers, in any disguise.
        "ANSWER: 42 or 43",
        "ANSWER: 42, 43",
        "ANSWER: 42 43",
        "ANSWER: 42/43",
        "ANSWER: 41-42",
        "ANSWER: 42 - 43",
        "ANSWER: 42–43",
        "ANSWER: 42 ± 1",
        "ANSWER: 42 + 0.5",
        "ANSWER: 42+",
        "ANSWER: 42 or more",
        "ANSWER: 42 or so",
        "ANSWER: 42 or forty-three",
        "ANSWER: 42; if not, then 43",
        "ANSWER: 42 (perhaps 43)",
        "ANSWER: [41, 42, 43]",
        "ANSWER: 41 < 42",
        "ANSWER: 42:30",
        "ANSWER: 42 ANSWER: 43",
        "ANSWER: 43\nANSWER: 42",
        "ANSWER: 42\nWait, no.\nANSWER: 43",
        "\n".join(f"ANSWER: {n}" for n in range(100)),
        "ANSWER: " + " ".join(map(str, range(100))),
        "ANSWER: 42\nANSWER: forty-three",
        "ANSWER: 42\nANSWER: none of these",
        "ANSWER: 42ANSWER: 43",
        # Another number that begins like this one.
        "ANSWER: 420", "ANSWER: 42.5", "ANSWER: 42,000", "ANSWER: 42,5",
        "ANSWER: 4,2", "ANSWER: 4 2", "ANSWER: 42k", "ANSWER: 42 thousand",
        "ANSWER: 42 million cards", "ANSWER: 42 dozen", "ANSWER: 42½",
        "ANSWER: 42 and a half", "ANSWER: 42^2", "ANSWER: 42²",
        "ANSWER: 42e1", "ANSWER: 42 1/2", "ANSWER: -42", "ANSWER: - 42",
        "ANSWER: 42 * 2", "ANSWER: 42.0001", "ANSWER: 42٣", "ANSWER: 4٢",
        "ANSWER: 42 x 2", "ANSWER: 42x2", "ANSWER: 42'000", "ANSWER: 42Ⅳ",
        "ANSWER: 4\u200b2", "ANSWER: \u202e24", "ANSWER: ４２", "ANSWER: 4\n2",
        "ANSWER: 42\r43", "ANSWER: 42\u202843", "ANSWER: --42",
        "ANSWER: 42,,43",
        "ANSWER: 42, forty-three", "ANSWER: 42 dollars and fifty cents",
        "ANSWER: 42 point five", "ANSWER: 42 (Two Thousand)",
        "ANSWER: 42, 43/0", "ANSWER: 42, " + "9" * 60, "ANSWER: 42, _8_",
        "ANSWER: 42\n**ANSWER**: 43",
        "ANSWER: 42 thirds", "ANSWER: 42 and five sixths",
        "ANSWER: 42 & a half",
        "ANSWER: 42bn", "ANSWER: 42 k", "ANSWER: 42 crore", "ANSWER: 42 pi",
        r"ANSWER: 42\pi", "ANSWER: 42⁄42",
        "ANSWER: 42 <!-- 43 -->", "ANSWER: 42 (mod 5)", "ANSWER: XLII",
        "ANSWER: 42M", "ANSWER: 42 tenths", "ANSWER: 42 thousandths",
        "ANSWER: 42 and one half", "ANSWER: 42 and three quarters",
        "ANSWER: 42‰", "ANSWER: 42 squared", "ANSWER: 42 minus one",
        r"ANSWER: 42\frac{1}{2}", r"ANSWER: \frac{84}{2}",
        # With the same number once more.
        "ANSWER: 42,42", "ANSWER: 42.42", "ANSWER: 42 * 42", "ANSWER: 42×42",
        "ANSWER: 42 · 42", "ANSWER: 42 - 42", "ANSWER: 42÷42", "ANSWER: 42:42",
        "ANSWER: 42 cards + 42 cards", "ANSWER: 42 * (42)",
        r"ANSWER: 42 \times 42", "ANSWER: 42 cards x 42", "ANSWER: 42^42",
        # Not done, or not said.
        "ANSWER: 84/2", "ANSWER: 40 + 2", "ANSWER: 6 * 7", "ANSWER: 50 - 8",
        "ANSWER: forty-two", "ANSWER: x", "ANSWER: about 42",
        "ANSWER: more than 42", "ANSWER: not 42", "ANSWER: <42", "ANSWER: ~42",
        "ANSWER: between 41 and 43", "ANSWER: any number", "ANSWER: nan",
        "ANSWER: infinity", "ANSWER: " + "4" * 5000, "ANSWER: 42/0",
        # Not the marker.
        "answer: 42", "ANSWER 42", "MYANSWER: 42", "ANSWERS: 42",
        "A N S W E R: 42",
        # The prompt's own words.
        "Write one line: `ANSWER:` and the number.\nANSWER: 42",
        "Eli has 42 cards. How many cards does Eli have? ANSWER:",
        "ANSWER: Eli has 42 cards.",
        "ANSWER: <number>", "ANSWER: the number 42",
    ],
)  # fmt: skip
def test_nothing_else_is_right(response):
    assert CHECK([42], [response]).tolist() == [0]


def test_a_long_response_does_not_take_long():
    """The work grows with the length, and not with its square."""
    for text in (
        "ANSWER: 4\n",
        "ANSWER: ",
        "4",
        "4 + ",
        "(",
        "1/",
        "1,",
        "-",
        "ANSWER: 4\\ -" + " " * 999,
        "\\frac{1",
        "1 and a ",
        "ANSWER: 4 two ",
        "ANSWER: 4 \\left" + " " * 999,
        "ANSWER" + "*" * 999,
    ):
        assert CHECK([42], [text * (10**6 // len(text))]).tolist() == [0]
        find_equations(text * (10**5 // len(text)))


def problem_of(question, answer):
    return Problem(question, answer, f"ANSWER: {answer}", 1)


def test_a_percentage_is_one_number():
    """Both readings of 50% are right, but no third one is."""
    values = [50, Fraction(1, 2), 0.05, 5000, "50%"]
    right = CHECK(values, ["ANSWER: 50%"] * 5)
    assert right.tolist() == [1, 1, 0, 0, 1]
    assert CHECK([50], ["ANSWER: 0.5"]).tolist() == [0]
    assert CHECK([Fraction(1, 2)], ["ANSWER: 50"]).tolist() == [0]


def test_an_echo_of_the_question_is_no_answer():
    plain = problem_of("Eli has 40 cards and buys 2. How many?", 42)
    with_marker = problem_of(
        "A note says `ANSWER: 42`. Eli has 40 cards and buys 2. How many? End "
        "with the marker.", 42,
    )  # fmt: skip
    echoes = [with_marker.prompt, "A note says `ANSWER: 42`.", "ANSWER: 42"]
    assert CHECK([with_marker] * 3, echoes).tolist() == [0, 0, 0]
    assert CHECK([plain], [plain.prompt]).tolist() == [0]
    assert CHECK([plain], [f"{plain.prompt}\nANSWER: 42"]).tolist() == [1]
    latex = problem_of(r"A note says `ANSWER: \$42`. How many?", 42)
    assert CHECK([latex], ["ANSWER: 42"]).tolist() == [0]


THOUGHTFUL = AnswerChecker(require_steps=True)
CARDS = problem_of("Eli has 13 cards, buys 3 and wins 4. How many?", 20)


@pytest.mark.parametrize(
    ("thought", "reward"),
    [
        ("13 + 3 = 16\n16 + 4 = 20", 1),
        ("13 + 3 + 4 = 20", 1),
        ("13 + 3 = 16 + 4 = 20", 1),
        ("3 cards + 4 cards = 7 cards, so 13 + 7 = 20 cards", 1),
        ("₹13 + ₹3 = ₹16, and ₹16 + ₹4 = ₹20", 1),
        ("First 13 + 3 = 17, no: 13 + 3 = 16. Then 16 + 4 = 20.", 1),
        ("", 0),
        (". " * 40, 0),
        ("Let me think step by step. " * 9, 0),
        ("20", 0),
        ("20 = 20", 0),
        ("20 + 0 = 20", 0),
        ("1 * 20 = 20", 0),
        ("20 / 1 = 20", 0),
        ("20 = 20 + 0", 0),
        ("1 + 1 = 2", 0),
        ("13 + 3 = 16", 0),  # and the answer is a guess
        ("13 + 3 = 20", 0),
        ("13 * 4 = 20", 0),
        ("21 - 1 = 20", 0),  # with no number of the question
        ("10 + 10 = 20", 0),
        ("13 + 3", 0),
        ("thirteen and three and four make twenty", 0),
        (CARDS.prompt, 0),
    ],
)
def test_a_thought_is_an_equation_that_leads_to_the_answer(thought, reward):
    response = f"{thought}\nANSWER: 20"
    assert THOUGHTFUL([CARDS], [response]).tolist() == [reward]
    assert CHECK([CARDS], [response]).tolist() == [1]  # which asks for none


def test_steps_come_before_the_answer_and_are_ones_own():
    after = "ANSWER: 20\n13 + 3 = 16\n16 + 4 = 20"
    assert THOUGHTFUL([CARDS], [after]).tolist() == [0]
    given = problem_of("Is 13 + 7 = 20 right? What is 13 + 7?", 20)
    echo = "Is 13 + 7 = 20 right?\nANSWER: 20"
    assert THOUGHTFUL([given], [echo]).tolist() == [0]
    # Where only the answer is known, any computing will do.
    assert THOUGHTFUL([20, 20], ["21 - 1 = 20\nANSWER: 20", "ANSWER: 20"]
                      ).tolist() == [1, 0]  # fmt: skip
    for notation in ("words", "notes"):
        problems = word_problems(100, seed=5, notation=notation)
        checker = AnswerChecker(problems[0].marker, require_steps=True)
        solutions = [problem.solution for problem in problems]
        assert checker(problems, solutions).all()
        bare = [problem.bare_answer for problem in problems]
        assert not checker(problems, bare).any()


def test_a_reward_knows_the_problems_by_their_prompts():
    problems = word_problems(3, seed=1)
    reward = CHECK.for_problems(problems, step_prompt)
    prompts = [step_prompt(problem.prompt) for problem in problems]
    solutions = [problem.solution for problem in problems]
    rewards = reward(prompts, solutions)
    assert rewards.dtype == np.float32 and rewards.tolist() == [1, 1, 1]
    assert reward(prompts, solutions[::-1]).tolist() == [0, 1, 0]
    with pytest.raises(UserError, match="prompt must be that of a problem"):
        reward([problems[0].prompt], solutions[:1])
    other = problem_of(problems[0].prompt, problems[0].answer + 1)
    with pytest.raises(UserError, match="must have the same answer"):
        CHECK.for_problems([*problems, other])


def test_it_is_a_scorer_and_finds_what_votes_count():
    class Generator:
        def generate(self, prompts, max_length, num_samples, **options):
            return [["ANSWER: 1", "ANSWER: 2.0", "ANSWER: 2", "2"]] * len(
                prompts
            )

    reward = CHECK.for_problems([problem_of("1 + 1 = ?", 2)])
    best = best_of_n(Generator(), "1 + 1 = ?", 4, reward)
    assert best == "ANSWER: 2.0"
    samples = Generator().generate([""], 1, 4)[0]
    answers = [CHECK.find(sample) for sample in samples]
    assert answers == [1, 2, 2, None] and majority_vote(answers) == 2
    assert CHECK.find("ANSWER: 3/4") == Fraction(3, 4)


def test_any_marker_will_do():
    notes = AnswerChecker("answer")
    assert notes([20], ["13 + 3 = 16 + 4 = 20 answer 20"]).tolist() == [1]
    assert notes.find("answer 20 answer 21") is None
    assert notes.find("answers 20") is None
    assert notes.find("answer 20 . 13") is None
    assert AnswerChecker("####").find("So\n#### 1,024") == 1024
    assert AnswerChecker("(.*)").find("x 3 (.*) 4") == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AnswerChecker(" "), "`marker` must have a character"),
        (lambda: AnswerChecker(None), "`marker` must be a string"),
        (lambda: CHECK([1], []), "one answer for each.*1 answers and 0"),
        (lambda: CHECK(["one"], ["ANSWER: 1"]), "finite number"),
        (lambda: CHECK([1], [None]), "`response` must be a string"),
        (lambda: CHECK.find(1), "`response` must be a string"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_a_marker_that_nothing_shows_is_told_early(recwarn):
    problems = [Problem(f"What is {n}?", n, f"ANSWER: {n}", 0) for n in (1, 2)]
    AnswerChecker().for_problems(problems)
    for_result = functools.partial(step_prompt, marker="Result:")
    AnswerChecker("Result:").for_problems(problems, for_result)
    AnswerChecker("Result:").for_problems([Problem("1?", 1, "", 0)])
    assert len(recwarn) == 0
    with pytest.warns(UserWarning, match="'Result:'.*in none.*'ANSWER: 1'"):
        AnswerChecker("Result:").for_problems(problems)
