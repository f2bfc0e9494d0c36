"""Mistakes that students make in the assignment about reasoning."""

# What is right, what a student writes instead, and the test that must notice.
REASONING_MISTAKES = {
    "floats for numbers": (
        "value = fractions.Fraction(digits.replace(\",\", \"\"))",
        "value = fractions.Fraction(float(fractions.Fraction("
        "digits.replace(\",\", \"\"))))",
        "test_read_number",
    ),
    "commas anywhere": (
        "[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+", "[0-9][0-9,]*", "test_read_number"
    ),
    "digits of any script": (
        "(?:[0-9]+|", "(?:\\d+|", "test_read_number"
    ),
    "division by zero": (
        "except ZeroDivisionError:\n        return None",
        "except ZeroDivisionError:\n        value = fractions.Fraction(0)",
        "test_read_number",
    ),
    "the sign lost": ("if sign:", "if False:", "test_read_number"),
    "a plus sign": ("(-?)", "(-?)[+]?", "test_read_number"),
    "the dollar first": ("(-?)\\$?", "\\$?(-?)\\$?", "test_read_number"),
    "commas in a fraction": ("|[0-9]+/[0-9]+)", "|[0-9,]+/[0-9]+)",
                             "test_read_number"),
    "a number within a text": ("re.fullmatch(", "re.match(",
                               "test_read_number"),
    "commas after the point": (
        "(?:\\.[0-9]+)?", "(?:\\.[0-9,]+)?", "test_read_number"
    ),
    "decimals in a fraction": (
        "|[0-9]+/[0-9]+)", "|[0-9.]+/[0-9.]+)", "test_read_number"
    ),
    "only one form of zero": (
        "except ZeroDivisionError:\n        return None",
        "except ZeroDivisionError:\n        if digits.endswith(\"/0\"):\n"
        "            return None\n        return 0, 1",
        "test_read_number",
    ),
    "empty answers skipped": (
        "found.add(read_number(match[1]) if match else None)",
        "found |= {read_number(match[1]) if match else None} "
        "if line.strip() else set()",
        "test_find_answer",
    ),
    "digits in a unit": ("(?: [A-Za-z]+)?", "(?: [A-Za-z]\\w*)?",
                         "test_find_answer"),
    "a comma at the end": ("\\.?\\s*\"", "[.,]?\\s*\"", "test_find_answer"),
    "the numerator alone": (
        "find_answer(response) != (answer, 1)",
        "(find_answer(response) or [None])[0] != answer", "test_is_right",
    ),
    "the whole part": (
        "find_answer(response) != (answer, 1)",
        "(find_answer(response) or [-1])[0] // "
        "(find_answer(response) or [1])[-1] != answer",
        "test_is_right",
    ),
    "a part of a number": (
        "bool(operands & find_whole_numbers(question))",
        "any(str(n) in question for n in operands)", "test_is_right",
    ),
    "one bound for the gradient": (
        "high = epsilon if epsilon_high is None else epsilon_high\n"
        "    gained = np.subtract(logprobs, old_logprobs)\n"
        "    ratio = np.exp(np.where(mask, gained, 0))\n"
        "    advantages = np.asarray(advantages)[:, None] + np",
        "high = epsilon\n"
        "    gained = np.subtract(logprobs, old_logprobs)\n"
        "    ratio = np.exp(np.where(mask, gained, 0))\n"
        "    advantages = np.asarray(advantages)[:, None] + np",
        "test_loss_gradients",
    ),
    "losses of zero left out": (
        "np.sum(losses) / np.sum(mask)",
        "np.sum(losses) / np.count_nonzero(losses)", "test_average_losses",
    ),
    "losses of zero left out of a solution": (
        "np.sum(mask, axis=1)", "np.count_nonzero(losses, axis=1)",
        "test_average_losses",
    ),
    "the last marker only": (
        "response.split(\"ANSWER:\")[1:]", "response.split(\"ANSWER:\")[-1:]",
        "test_find_answer",
    ),
    "the first marker only": (
        "response.split(\"ANSWER:\")[1:]", "response.split(\"ANSWER:\")[1:2]",
        "test_find_answer",
    ),
    "the first number of the line": (
        "re.fullmatch(r\"\\s*(\\S*[0-9])(?: [A-Za-z]+)?\\.?\\s*\", line)",
        "re.match(r\"\\s*([0-9][0-9,./]*[0-9]|[0-9])\", line)",
        "test_find_answer",
    ),
    "any number of words": ("(?: [A-Za-z]+)?", "(?: [A-Za-z]+)*",
                            "test_find_answer"),
    "a unit without a space": ("(?: [A-Za-z]+)?", "(?: *[A-Za-z]+)?",
                               "test_find_answer"),
    "any marks at the end": ("\\.?\\s*\"", "\\W*\"", "test_find_answer"),
    "nothing below zero": ("(\\S*[0-9])", "([0-9$,./]*[0-9])",
                           "test_find_answer"),
    "markers without a number skipped": (
        "found.add(read_number(match[1]) if match else None)",
        "found |= {read_number(match[1])} if match else set()",
        "test_find_answer",
    ),
    "an answer on the next line": (
        "part.partition(\"\\n\")[0]", "part.replace(\"\\n\", \" \", 1)."
        "partition(\"\\n\")[0]", "test_find_answer",
    ),
    "answers compared as texts": (
        "found.add(read_number(match[1]) if match else None)",
        "found.add(match[1] if match else None)\n"
        "    found = {read_number(t) if t and len(found) == 1 else None "
        "for t in found}",
        "test_find_answer",
    ),
    "a marker in any case": (
        "response.split(\"ANSWER:\")", "response.upper().split(\"ANSWER:\")",
        "test_find_answer",
    ),
    "no thought needed": (
        "return answer in results and bool(operands & "
        "find_whole_numbers(question))",
        "return True", "test_is_right",
    ),
    "steps after the answer": (
        "response.partition(\"ANSWER:\")[0]", "response", "test_is_right"
    ),
    "the thought after the answer only": (
        "response.partition(\"ANSWER:\")[0]",
        "response.partition(\"ANSWER:\")[2]", "test_is_right",
    ),
    "steps before the last marker": (
        "response.partition(\"ANSWER:\")[0]",
        "response.rpartition(\"ANSWER:\")[0]", "test_is_right",
    ),
    "nearly equal": (
        "b != 0 and a == b * result",
        "b != 0 and abs(a / b - result) < 0.01", "test_is_right",
    ),
    "whatever the order": (
        "a - b == result", "abs(a - b) == result", "test_is_right"
    ),
    "an answer that goes in": (
        "results.add(result)", "results |= {a, b, result}", "test_is_right"
    ),
    "steps that need not hold": ("if holds and not", "if not",
                                 "test_is_right"),
    "all steps must hold": (
        "if holds and not idle",
        "if not holds:\n            return False\n        if not idle",
        "test_is_right",
    ),
    "whole division": (
        "b != 0 and a == b * result", "b != 0 and a // b == result",
        "test_is_right",
    ),
    "a division by zero that raises": (
        "b != 0 and a == b * result", "a / b == result", "test_is_right"
    ),
    "steps that do nothing": ("and not idle and", "and", "test_is_right"),
    "zero in front": (
        "(operator == \"+\" and a == 0)", "False", "test_is_right"
    ),
    "one in front": (
        "(operator == \"*\" and a == 1)", "False", "test_is_right"
    ),
    "an echo of the question": (" and step not in given", "",
                                "test_is_right"),
    "numbers from nowhere": (
        "answer in results and bool(operands & find_whole_numbers(question))",
        "answer in results", "test_is_right",
    ),
    "a result of the question": (
        "operands |= {a, b}", "operands |= {a, b, result}", "test_is_right"
    ),
    "the answer nowhere in the steps": (
        "answer in results and bool(", "bool(", "test_is_right"
    ),
    "a deviation with n": (
        "ddof=1, keepdims=True", "ddof=0, keepdims=True",
        "test_group_advantages",
    ),
    "the mean of all": (
        "groups - groups.mean(axis=1, keepdims=True)",
        "groups - groups.mean()", "test_group_advantages",
    ),
    "groups one after another": (
        "groups = rewards.reshape(-1, num_generations)",
        "groups = rewards.reshape(num_generations, -1).T",
        "test_group_advantages",
    ),
    "no epsilon": (
        "ddof=1, keepdims=True) + 1e-6", "ddof=1, keepdims=True)",
        "test_group_advantages",
    ),
    "another epsilon": (
        "ddof=1, keepdims=True) + 1e-6", "ddof=1, keepdims=True) + 1e-4",
        "test_group_advantages",
    ),
    "the batch by groups": (
        "rewards.std(ddof=1)", "groups.std(axis=1, ddof=1, keepdims=True)",
        "test_group_advantages",
    ),
    "itself among the others": (
        "groups.sum(axis=1, keepdims=True) - groups",
        "groups.sum(axis=1, keepdims=True)", "test_leave_one_out",
    ),
    "divided by all": (
        "others / (num_generations - 1)", "others / num_generations",
        "test_leave_one_out",
    ),
    "the maximum": ("-np.minimum(", "-np.maximum(", "test_clipped_losses"),
    "clipped whatever the direction": (
        "-np.minimum(ratio * advantages, clipped * advantages)",
        "-clipped * advantages", "test_clipped_losses",
    ),
    "never clipped": (
        "-np.minimum(ratio * advantages, clipped * advantages)",
        "-ratio * advantages", "test_clipped_losses",
    ),
    "one bound for both": (
        "epsilon if epsilon_high is None else epsilon_high", "epsilon",
        "test_clipped_losses",
    ),
    "the wrong way up": (
        "np.subtract(logprobs, old_logprobs)",
        "np.subtract(old_logprobs, logprobs)", "test_clipped_losses",
    ),
    "a difference for a ratio": (
        "np.exp(np.where(mask, gained, 0))",
        "1 + np.where(mask, gained, 0)", "test_clipped_losses",
    ),
    "padding times zero": (
        "return np.where(mask, losses, 0)",
        "return -np.exp(gained) * 0 + losses * mask", "test_clipped_losses",
    ),
    "a gain": ("losses = -np.minimum", "losses = np.minimum",
               "test_clipped_losses"),
    "a gradient without the ratio": (
        "-ratio * advantages)", "-advantages)", "test_loss_gradients"
    ),
    "flat on both sides": (
        "np.where(advantages > 0, ratio > 1 + high, ratio < 1 - epsilon)",
        "(ratio > 1 + high) | (ratio < 1 - epsilon)", "test_loss_gradients",
    ),
    "flat in the wrong direction": (
        "np.where(advantages > 0, ratio > 1 + high, ratio < 1 - epsilon)",
        "np.where(advantages > 0, ratio < 1 - epsilon, ratio > 1 + high)",
        "test_loss_gradients",
    ),
    "padding that pulls": (
        "flat | ~np.asarray(mask, bool)", "flat", "test_loss_gradients"
    ),
    "downhill": ("0, -ratio * advantages", "0, ratio * advantages",
                 "test_loss_gradients"),
    "all tokens alike": (
        "if kind == \"dapo\":", "if kind in (\"dapo\", \"grpo\"):",
        "test_average_losses",
    ),
    "the length of the batch": (
        "(len(losses) * max_length)", "np.size(losses)",
        "test_average_losses",
    ),
    "solutions without tokens": (
        "np.maximum(np.sum(mask, axis=1), 1)", "np.sum(mask, axis=1)",
        "test_average_losses",
    ),
    "padding in the mean": (
        "np.sum(losses) / np.sum(mask)", "np.mean(losses)",
        "test_average_losses",
    ),
    "chosen twice": (
        "math.comb(n - c, k) / math.comb(n, k)", "(1 - c / n) ** k",
        "test_pass_at_k",
    ),
    "none of them": (
        "1 - math.comb(n - c, k) / math.comb(n, k)",
        "math.comb(n - c, k) / math.comb(n, k)", "test_pass_at_k",
    ),
    "binomials as floats": (
        "math.comb(n - c, k) / math.comb(n, k)",
        "float(math.comb(n - c, k)) / float(math.comb(n, k))",
        "test_pass_at_k",
    ),
    "the last of equals": (
        "max(votes, key=votes.get)", "max(reversed(votes), key=votes.get)",
        "test_majority_vote",
    ),
    "the smallest of equals": (
        "max(votes, key=votes.get)",
        "max(sorted(votes), key=votes.get)", "test_majority_vote",
    ),
    "nobody votes": (
        "if a is not None)\n    return max(votes, key=votes.get) if votes "
        "else None",
        ")\n    return max(votes, key=votes.get)",
        "test_majority_vote",
    ),
    "wrong ones kept": ("right[i][j] and text", "text",
                        "test_choose_solutions"),
    "equal ones kept": (
        "text not in seen and len(seen) < most",
        "kept[i].sum() < most", "test_choose_solutions",
    ),
    "no bound": (" and len(seen) < most", "", "test_choose_solutions"),
    "equal ones of other problems": (
        "    for i, texts in enumerate(responses):\n        seen = set()",
        "    seen = set()\n    for i, texts in enumerate(responses):",
        "test_choose_solutions",
    ),
    "wrong ones seen": (
        "            if right[i][j] and text not in seen and len(seen) < most:"
        "\n                seen.add(text)",
        "            is_new = text not in seen and len(seen) < most\n"
        "            seen.add(text)\n            if right[i][j] and is_new:",
        "test_choose_solutions",
    ),
    "from nothing": (
        "strength * action_shares(start)",
        "strength * np.full((6, 6), 1 / 6)", "test_learn",
    ),
    "counted once": ("actions[i, j, k]] += 1", "actions[i, j, k]] = 1",
                     "test_learn"),
    "all solutions": (
        "(actions >= 0) & np.asarray(kept)[..., None]", "actions >= 0",
        "test_learn",
    ),
    "endings as actions": (
        "(actions >= 0) & np.asarray(kept)[..., None]",
        "(actions >= -1) & np.asarray(kept)[..., None]", "test_learn",
    ),
    "shares without a logarithm": (
        "np.log(counts / counts.sum(axis=1, keepdims=True))",
        "counts / counts.sum(axis=1, keepdims=True)", "test_learn",
    ),
    "counts of all verbs": (
        "counts.sum(axis=1, keepdims=True))\n",
        "counts.sum(axis=0, keepdims=True))\n", "test_learn",
    ),
    "on top of the last": (
        "kept, start, 5.0", "kept, table, 5.0", "test_train_round"
    ),
    "the start solves": (
        "solve(problems, table,", "solve(problems, start,",
        "test_train_round",
    ),
    "one checker for all": (
        "if checker == \"loose\":", "if False:", "test_train_round"
    ),
    "no thought": (
        "elif checker == \"answer\":", "elif True:", "test_train_round"
    ),
    "a seed of its own": (
        "num_generations, seed)", "num_generations, 0)", "test_train_round"
    ),
    "everything kept": (
        "kept = np.asarray(choose_solutions(responses, right, most))",
        "kept = right", "test_train_round",
    ),
    "solved every time": (
        "right.any(axis=1)", "right.all(axis=1)", "test_train_round"
    ),
}  # fmt: skip
