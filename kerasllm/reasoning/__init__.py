"""Problems with answers that a program checks (section 16.4.4).

`word_problems` makes up problems of the small world with worked solutions,
`gsm8k` and `read_problems` read others, and `split_problems` holds some of
them out. `AnswerChecker` and `CodeChecker` are rewards that cannot be had
without the answer. There are three ways to ask (`direct_prompt`,
`step_prompt`, `worked_prompt`) and three to be tuned (`as_instructions`).
`force_budget` makes a thought longer, and `mean_logprobs` scores samples.
"""

from kerasllm import lazy
from kerasllm.reasoning._problems import Problem, ProblemSplit, split_problems
from kerasllm.reasoning._prompting import (
    WAYS,
    as_instructions,
    direct_prompt,
    hide_steps,
    step_prompt,
    worked_prompt,
)
from kerasllm.reasoning._reading import GSM8K_URL, gsm8k, read_problems
from kerasllm.reasoning._structures import STRUCTURES
from kerasllm.reasoning._word_problems import word_problems
from kerasllm.reasoning.checkers import (
    MARKER,
    AnswerChecker,
    CodeChecker,
    CodeTask,
    Equation,
    find_code,
    find_equations,
    read_number,
    right_steps,
)

# Problems and checkers need no backend. What asks a model does.
_FILE_OF = {
    "ForcedText": "_test_time",
    "force_budget": "_test_time",
    "mean_logprobs": "_test_time",
}

__all__ = [
    "GSM8K_URL",
    "MARKER",
    "STRUCTURES",
    "WAYS",
    "AnswerChecker",
    "CodeChecker",
    "CodeTask",
    "Equation",
    "ForcedText",
    "Problem",
    "ProblemSplit",
    "as_instructions",
    "direct_prompt",
    "find_code",
    "find_equations",
    "force_budget",
    "gsm8k",
    "hide_steps",
    "mean_logprobs",
    "read_number",
    "read_problems",
    "right_steps",
    "split_problems",
    "step_prompt",
    "word_problems",
    "worked_prompt",
]

__getattr__, __dir__ = lazy.names_of(__name__, _FILE_OF, __all__)
