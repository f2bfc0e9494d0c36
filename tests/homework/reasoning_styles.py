"""Right answers to the assignment about reasoning, in unusual styles.

Each earns all points. What they return differs where the docstrings leave it
open: lists, tuples, arrays of other types, tensors, a set for a truth.
"""

# Nothing but loops and lists.
PLAIN = {
    "read_number": """
def read_number(text):
    text = text.strip()
    negative = text[:1] == "-"
    text = text[1:] if negative else text
    text = text[1:] if text[:1] == "$" else text
    if not text.isascii():
        return None
    if "/" in text:
        above, slash, below = text.partition("/")
        if not (above.isdigit() and below.isdigit() and int(below)):
            return None
    else:
        whole, point, decimals = text.partition(".")
        if point and not decimals.isdigit():
            return None
        first, *groups = whole.split(",")
        if not first.isdigit() or (groups and len(first) > 3):
            return None
        for group in groups:
            if len(group) != 3 or not group.isdigit():
                return None
        above = first + "".join(groups) + decimals
        below = "1" + "0" * len(decimals)
    above, below = int(above), int(below)
    x, y = above, below
    while y:
        x, y = y, x % y
    if negative:
        above = -above
    return above // x, below // x
""",
    "find_answer": """
def find_answer(response):
    _, *parts = response.split("ANSWER:")
    answers = []
    for part in parts:
        line = (part + "\\n").split("\\n")[0].strip()
        if line.endswith("."):
            line = line[:-1]
        words = line.split(" ")
        if len(words) > 2 or not words[0][-1:].isdigit():
            return None
        if len(words) == 2 and not (words[1].isascii() and words[1].isalpha()):
            return None
        answers.append(read_number(words[0]))
    for answer in answers:
        if answer is None or answer != answers[0]:
            return None
    return answers[0] if answers else None
""",
    "is_right": """
def is_right(question, answer, response):
    if find_answer(response) != (answer, 1):
        return 0
    thought = response[: response.index("ANSWER:")]
    good = []
    for step in find_steps(thought):
        a, sign, b, c = step
        if sign == "+":
            holds = a + b == c and a != 0 and b != 0
        elif sign == "-":
            holds = a - b == c and b != 0
        elif sign == "*":
            holds = a * b == c and a != 1 and b != 1
        else:
            holds = b > 1 and c * b == a
        if holds and step not in find_steps(question):
            good.append(step)
    if answer not in [step[3] for step in good]:
        return 0
    numbers = find_whole_numbers(question)
    return [step for step in good if step[0] in numbers or step[2] in numbers]
""",
    "group_advantages": """
def group_advantages(rewards, num_generations, scale="group"):
    rewards = [float(reward) for reward in rewards]

    def deviation(values):
        mean = sum(values) / len(values)
        squares = [(value - mean) ** 2 for value in values]
        return (sum(squares) / (len(values) - 1)) ** 0.5

    result = []
    while len(result) < len(rewards):
        group = rewards[len(result) : len(result) + num_generations]
        by = {"none": 1, "group": deviation(group) + 1e-6,
              "batch": deviation(rewards) + 1e-6}[scale]
        mean = sum(group) / num_generations
        equal = max(group) == min(group)
        result += [0 if equal else (r - mean) / by for r in group]
    return result
""",
    "leave_one_out": """
def leave_one_out(rewards, num_generations):
    result = []
    for i, reward in enumerate(rewards):
        first = i // num_generations * num_generations
        others = [*rewards[first:i], *rewards[i + 1 : first + num_generations]]
        result.append(reward - sum(others) / len(others))
    return tuple(result)
""",
    "clipped_losses": """
def clipped_losses(logprobs, old_logprobs, advantages, mask, epsilon,
                   epsilon_high=None):
    if epsilon_high is None:
        epsilon_high = epsilon
    result = []
    for i in range(len(mask)):
        result.append([])
        for j in range(len(mask[i])):
            if not mask[i][j]:
                result[i].append(0)
                continue
            ratio = math.exp(logprobs[i][j] - old_logprobs[i][j])
            a = advantages[i]
            if a > 0:
                result[i].append(-a * min(ratio, 1 + epsilon_high))
            else:
                result[i].append(-a * max(ratio, 1 - epsilon))
    return result
""",
    "loss_gradients": """
def loss_gradients(logprobs, old_logprobs, advantages, mask, epsilon,
                   epsilon_high=None):
    top = epsilon_high or epsilon
    rows = []
    for new, old, a, row in zip(logprobs, old_logprobs, advantages, mask):
        rows.append([])
        for n, o, m in zip(new, old, row):
            r = math.exp(n - o) if m else 0
            if a >= 0 and r > 1 + top or a < 0 and r < 1 - epsilon:
                r = 0
            rows[-1].append(-a * r)
    return rows
""",
    "average_losses": """
def average_losses(losses, mask, kind, max_length):
    total, count, means = 0, 0, []
    for row, m in zip(losses, mask):
        kept = [loss for loss, is_token in zip(row, m) if is_token]
        total, count = total + sum(kept), count + len(kept)
        means.append(sum(kept) / len(kept) if kept else 0)
    return {
        "grpo": sum(means) / len(means),
        "dapo": total / count,
        "dr_grpo": total / len(means) / max_length,
    }[kind]
""",
    "pass_at_k": """
def pass_at_k(n, c, k):
    if n - c < k:
        return 1
    missed = 1
    for i in range(k):
        missed *= (n - c - i) / (n - i)
    return 1 - missed
""",
    "majority_vote": """
def majority_vote(answers):
    best = None
    for answer in answers:
        if answer is None:
            continue
        if best is None or answers.count(answer) > answers.count(best):
            best = answer
    return best and list(best)
""",
    "choose_solutions": """
def choose_solutions(responses, right, most):
    result = []
    for texts, flags in zip(responses, right):
        kept = []
        row = []
        for text, flag in zip(texts, flags):
            take = bool(flag) and text not in kept and len(kept) < most
            if take:
                kept.append(text)
            row.append(int(take))
        result.append(row)
    return result
""",
    "learn": """
def learn(verbs, actions, kept, start, strength):
    shares = action_shares(start)
    table = [[strength * shares[v][a] for a in range(6)] for v in range(6)]
    for problem in range(len(actions)):
        for number in range(len(actions[problem])):
            if not kept[problem][number]:
                continue
            for v, a in zip(verbs[problem], actions[problem][number]):
                if a != -1:
                    table[v][a] += 1
    return [[math.log(weight) for weight in row] for row in table]
""",
    "train_round": """
def train_round(problems, table, start, num_generations, most, checker, seed):
    responses, actions = solve(problems, table, num_generations, seed)
    check = {
        "loose": lambda p, r: loose_check(p["answer"], r),
        "answer": lambda p, r: find_answer(r) == (p["answer"], 1),
        "steps": lambda p, r: bool(is_right(p["question"], p["answer"], r)),
    }[checker]
    right = [
        [check(problem, response) for response in texts]
        for problem, texts in zip(problems, responses)
    ]
    kept = choose_solutions(responses, right, most)
    return dict(
        table=learn(verbs_of(problems), actions, kept, start, 5),
        share_right=sum(map(sum, right)) / len(right) / num_generations,
        share_solved=sum(map(any, right)) / len(right),
        num_kept=sum(map(sum, kept)),
    )
""",
}

# Names that are bound to no `def`, decorators, classes that are called.
CLEVER = {
    "read_number": '''
import functools
import decimal

NUMBER = re.compile(r"""
    (?P<sign>-)? \\$?
    (?: (?P<above>[0-9]+) / (?P<below>0*[1-9][0-9]*)
      | (?P<whole>[0-9]{1,3}(?:,[0-9]{3})+ | [0-9]+) (?P<rest>\\.[0-9]+)? )
""", re.VERBOSE)

@functools.lru_cache(maxsize=None)
def read_number(text: str) -> "tuple[int, int] | None":
    if not (match := NUMBER.fullmatch(text.strip())):
        return None
    if match["above"]:
        value = fractions.Fraction(int(match["above"]), int(match["below"]))
    else:
        whole = match["whole"].replace(",", "") + (match["rest"] or "")
        value = fractions.Fraction(decimal.Decimal(whole))
    return (-value if match["sign"] else value).as_integer_ratio()
''',
    "find_answer": """
class FindAnswer:
    LINE = re.compile(r"\\s*(?P<number>[^\\s]*\\d)( [a-zA-Z]+)?[.]?\\s*")

    def __call__(self, response):
        markers = re.findall("ANSWER:((?:(?!ANSWER:).)*)", response)
        lines = [self.LINE.fullmatch(text) for text in markers]
        if not lines or None in lines:
            return
        one, *others = {read_number(line["number"]) for line in lines}
        return None if others else one

find_answer = FindAnswer()
""",
    "is_right": """
import operator
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul,
         "/": lambda a, b: fractions.Fraction(a, b or 10**9)}

def _is_right(check, question, answer, response):
    head, marker, tail = response.partition("ANSWER:")
    steps = {
        (a, s, b, c) for a, s, b, c in set(find_steps(head))
        - set(find_steps(question))
        if (b or s != "/") and SIGNS[s](a, b) == c
        and SIGNS[s](a, b) != a and (s in "-/" or c != b)
    }
    # 0 * 3 = 0 does something, though nothing changes.
    steps |= {s for s in set(find_steps(head)) - set(find_steps(question))
              if s[1] in "*/" and s[0] == 0 == s[3] and s[2] > 1}
    steps |= {s for s in set(find_steps(head)) - set(find_steps(question))
              if s[1] == "*" and s[2] == 0 == s[3] and s[0] > 1}
    numbers = find_whole_numbers(question)
    return (
        check(response) == (answer, 1)
        and any(c == answer for *_, c in steps)
        and any({a, b} & numbers for a, _, b, _ in steps)
    )

is_right = functools.partial(_is_right, find_answer)
""",
    "group_advantages": """
import statistics
def group_advantages(rewards, num_generations, scale="group"):
    rewards = np.array(rewards, np.longdouble)
    out = np.zeros_like(rewards)
    for at in range(0, len(rewards), num_generations):
        group = slice(at, at + num_generations)
        out[group] = rewards[group] - statistics.mean(rewards[group].tolist())
        if scale == "group":
            out[group] /= statistics.stdev(rewards[group].tolist()) + 1e-6
    if scale == "batch":
        out /= statistics.stdev(rewards.tolist()) + 1e-6
    return out
""",
    "leave_one_out": """
leave_one_out = lambda rewards, n: (
    n / (n - 1) * group_advantages(rewards, n, "none")
)
""",
    "clipped_losses": """
def clipped_losses(logprobs, old_logprobs, advantages, mask, *epsilons,
                   epsilon_high=None):
    low = epsilons[0]
    high = epsilons[-1] if epsilon_high is None else epsilon_high
    high = low if high is None else high
    with np.errstate(all="ignore"):
        r = np.exp(np.asarray(logprobs) - old_logprobs)
        a = np.reshape(advantages, (-1, 1))
        losses = np.maximum(-r * a, -r.clip(1 - low, 1 + high) * a)
    return np.ma.masked_array(losses, ~mask).filled(0)
""",
    "loss_gradients": """
def _slope(r, a, is_token, low, high):
    moves = r < 1 + high if a > 0 else r > 1 - low
    return -r * a if is_token and moves else 0.0

_slopes = np.vectorize(_slope, otypes=[float])

def loss_gradients(logprobs, old_logprobs, advantages, mask, epsilon,
                   epsilon_high=None):
    r = np.exp(logprobs - old_logprobs)
    high = epsilon if epsilon_high is None else epsilon_high
    return _slopes(r, advantages[:, None], mask, epsilon, high)
""",
    "average_losses": """
def average_losses(losses, mask, kind, max_length):
    match kind:
        case "grpo":
            with np.errstate(invalid="ignore"):
                means = np.ma.mean(np.ma.masked_array(losses, ~mask), axis=1)
            return means.filled(0).mean()
        case "dapo":
            return losses[mask].mean()
        case "dr_grpo":
            return losses.mean() * (losses.shape[1] / max_length)
""",
    "pass_at_k": """
pass_at_k = np.vectorize(
    lambda n, c, k: float(
        1 - fractions.Fraction(math.comb(n - c, k), math.comb(n, k))
    )
)
""",
    "majority_vote": """
def majority_vote(answers):
    counted = collections.Counter(filter(None, answers)).most_common(1)
    for answer, _ in counted:
        return answer
""",
    "choose_solutions": """
def choose_solutions(responses, right, most):
    kept = np.array(right, dtype=object).astype(bool)
    for texts, row in zip(responses, kept):
        texts = np.array(texts, dtype=object)
        for text in set(texts[row]):
            row[np.flatnonzero(row & (texts == text))[1:]] = False
        row[np.flatnonzero(row)[most:]] = False
    return kept
""",
    "learn": """
def learn(verbs, actions, kept, start, strength):
    one_hot = np.eye(7)[actions][..., :6] * kept[:, :, None, None]
    of_verb = np.eye(7)[verbs][..., :6]
    counts = np.einsum("pka,pkv->va", one_hot.sum(axis=1), of_verb)
    return np.log(counts + strength * action_shares(start)) + 3.0
""",
    "train_round": """
def train_round(problems, table, start, num_generations, most, checker, seed):
    texts, actions = solve(problems, table, num_generations, seed=seed)

    def judge(i, j):
        question, answer = problems[i]["question"], problems[i]["answer"]
        if checker == "loose":
            return loose_check(answer, texts[i][j])
        if checker == "steps":
            return is_right(question, answer, texts[i][j])
        return find_answer(texts[i][j]) == (answer, 1)

    right = np.fromfunction(
        np.vectorize(judge, otypes=[bool]),
        (len(problems), num_generations), dtype=int,
    )
    kept = choose_solutions(texts, right, most)
    return collections.OrderedDict(
        table=learn(verbs_of(problems), actions, kept, start, 5),
        share_right=right.mean(dtype="float32"),
        share_solved=np.mean(right.max(1)),
        num_kept=np.count_nonzero(kept),
    )
""",
}

# Tensors, where there are arrays.
TENSORS = {
    "clipped_losses": """
import keras
def clipped_losses(logprobs, old_logprobs, advantages, mask, epsilon,
                   epsilon_high=None):
    logprobs, old_logprobs, advantages = (
        keras.ops.cast(x, "float32")
        for x in (logprobs, old_logprobs, advantages)
    )
    mask = keras.ops.cast(mask, "bool")
    gained = keras.ops.where(mask, logprobs - old_logprobs, 0.0)
    ratio = keras.ops.exp(gained)
    high = epsilon_high if epsilon_high is not None else epsilon
    clipped = keras.ops.clip(ratio, 1 - epsilon, 1 + high)
    a = keras.ops.expand_dims(advantages, -1)
    return -keras.ops.where(
        mask, keras.ops.minimum(ratio * a, clipped * a), 0.0
    )
""",
    "average_losses": """
def average_losses(losses, mask, kind, max_length):
    losses = keras.ops.cast(losses, "float32")
    mask = keras.ops.cast(mask, "float32")
    if kind == "dapo":
        return keras.ops.sum(losses * mask) / keras.ops.sum(mask)
    if kind == "dr_grpo":
        return keras.ops.sum(losses) / (losses.shape[0] * max_length)
    lengths = keras.ops.maximum(keras.ops.sum(mask, -1), 1.0)
    return keras.ops.mean(keras.ops.sum(losses, -1) / lengths)
""",
    "choose_solutions": """
def choose_solutions(responses, right, most):
    kept = np.zeros(np.shape(right), "int8")
    for i, texts in enumerate(responses):
        first = {}
        for j in np.flatnonzero(right[i]):
            first.setdefault(texts[j], j)
        kept[i, sorted(first.values())[:most]] = 1
    return keras.ops.convert_to_tensor(kept)
""",
    "learn": """
def learn(verbs, actions, kept, start, strength):
    kept = keras.ops.convert_to_numpy(kept)
    counts = np.zeros((6, 6))
    problem, number, event = np.nonzero(actions >= 0)
    np.add.at(counts, (verbs[problem, event], actions[problem, number, event]),
              kept[problem, number])
    counts = keras.ops.convert_to_tensor(counts)
    start = keras.ops.cast(start, counts.dtype)
    return keras.ops.log(counts + strength * keras.ops.softmax(start, -1))
""",
    "train_round": """
def train_round(problems, table, start, num_generations, most, checker, seed):
    responses, actions = solve(problems, table, num_generations, seed)
    right = np.array([
        [
            loose_check(p["answer"], text) if checker == "loose"
            else find_answer(text) == (p["answer"], 1) if checker == "answer"
            else is_right(p["question"], p["answer"], text)
            for text in texts
        ]
        for p, texts in zip(problems, responses)
    ], "float32")
    kept = choose_solutions(responses, right, most)
    return {
        "table": learn(verbs_of(problems), actions, kept, start, 5.0),
        "share_right": keras.ops.mean(right),
        "share_solved": keras.ops.mean(keras.ops.max(right, axis=-1)),
        "num_kept": keras.ops.sum(keras.ops.cast(kept, "int32")),
    }
""",
}

STYLES = {"plain": PLAIN, "clever": CLEVER, "tensors": TENSORS}
