"""The stories of word problems: what happens, and how it is worked out.

A story is told in words and, for very small models, in notes. Each structure
is a function that adds to a `Story` until it has the right number of steps.
"""

import fractions
import typing

NAMES = (
    ("Ada", "She"), ("Ben", "He"), ("Cleo", "She"), ("Dan", "He"),
    ("Eli", "He"), ("Eva", "She"), ("Finn", "He"), ("Gus", "He"),
    ("Hana", "She"), ("Judy", "She"), ("Kim", "She"), ("Leo", "He"),
)  # fmt: skip
THINGS = ("apples", "books", "cards", "marbles", "pens", "shells", "stamps")
# What happens meanwhile and changes nothing.
ASIDES = (
    ("A bus passes every {n} minutes.", "bus every {n} minutes"),
    ("There are {n} chairs in the room.", "room with {n} chairs"),
    ("The house next door has {n} windows.", "house with {n} windows"),
    ("The walk home takes {n} minutes.", "walk of {n} minutes"),
)
_GAINS = (
    ("{who} buys {n} more.", "buys {n}"),
    ("{who} finds {n} more.", "finds {n}"),
    ("{who} wins {n} more.", "wins {n}"),
    ("{who} gets {n} as a present.", "gets {n}"),
)
_LOSSES = (
    ("{who} gives {n} to a friend.", "gives {n}"),
    ("{who} loses {n} of them.", "loses {n}"),
    ("{who} sells {n} of them.", "sells {n}"),
)
_GAINS_OF_EACH = (("Then each friend finds {n} more.", "each finds {n}"),)
_LOSSES_OF_EACH = (("Then each friend loses {n}.", "each loses {n}"),)
_GAINS_OF_MAIL = (("Then {n} more went to an aunt.", "sent {n}"),)
_LOSSES_OF_MAIL = (("Then {n} of them got lost.", "lost {n}"),)


class DeadEnd(Exception):
    """A story cannot go on with whole numbers within its bounds."""


class Story:
    """A word problem while it is being made up.

    Args:
        rng: `random.Random`.
        max_number: int, the largest number and result.
        superfluous: float, the probability of a number that is not needed.

    Attributes:
        sentences: list of str, the story in words.
        notes: list of str, the same in notes.
        question: str, what is asked in words.
        unit: str, what is counted.
        steps: list of `(left, operator, right, result)`.
        numbers: list of int, those of the story that the steps need.
    """

    def __init__(self, rng, max_number, superfluous):
        self.rng, self.max_number = rng, max_number
        self.superfluous = rng.random() < superfluous
        self.sentences, self.notes = [], []
        self.question = self.unit = ""
        self.steps, self.numbers = [], []
        self._names = rng.sample(NAMES, len(NAMES))

    @property
    def few(self):
        """The most that comes or goes at once: an int."""
        return max(2, self.max_number // 3)

    def person(self):
        """Return the name of somebody new, and the pronoun: two str."""
        return self._names.pop()

    def need(self, *numbers):
        """Note that the solution needs numbers, and return the last one."""
        self.numbers += numbers
        return numbers[-1]

    def draw(self, low, high):
        """Return a number that the solution needs, from `low` to `high`."""
        if high < low:
            raise DeadEnd
        return self.need(self.rng.randint(low, high))

    def tell(self, sentence, note):
        """Go on with the story, in words and in notes."""
        self.sentences.append(sentence)
        self.notes.append(note)

    def work(self, left, operator, right):
        """Add a step to the solution, and return its result, an int."""
        result = {
            "+": lambda: left + right,
            "-": lambda: left - right,
            "*": lambda: left * right,
            "/": lambda: fractions.Fraction(left, right),
        }[operator]()
        if not 1 <= result <= self.max_number or result != int(result):
            raise DeadEnd
        self.steps.append((left, operator, right, int(result)))
        return int(result)

    def ask(self, question, unit):
        """End the story with its question."""
        self.question, self.unit = question, unit

    def add_aside(self):
        """Put in a number that has nothing to do with the question."""
        number = self.rng.randint(2, max(9, self.few))
        place = self.rng.randrange(len(self.sentences) + 1)
        sentence, note = self.rng.choice(ASIDES)
        self.sentences.insert(place, sentence.format(n=number))
        self.notes.insert(place, note.format(n=number))


def changes(story, num_steps):
    """Buying and giving: one amount grows and shrinks."""
    (name, who), thing = story.person(), story.rng.choice(THINGS)
    total = story.draw(2, story.max_number // 2)
    story.tell(f"{name} has {total} {thing}.", f"{name} has {total} {thing}")
    for _ in range(num_steps):
        total = _change(story, total, _GAINS, _LOSSES, who)
    story.ask(f"How many {thing} does {name} have now?", thing)


def sharing(story, num_steps):
    """Sharing equally, with changes before and after."""
    (name, who), thing = story.person(), story.rng.choice(THINGS)
    before = story.rng.randrange(num_steps)
    total = story.draw(2, story.max_number // 2)
    story.tell(f"{name} has {total} {thing}.", f"{name} has {total} {thing}")
    for _ in range(before):
        total = _change(story, total, _GAINS, _LOSSES, who)
    divisors = [d for d in range(2, 10) if total % d == 0]
    if not divisors:
        raise DeadEnd
    friends = story.need(story.rng.choice(divisors))
    story.tell(
        f"{who} shares them equally among {friends} friends.",
        f"shares among {friends} friends",
    )
    share = story.work(total, "/", friends)
    for _ in range(num_steps - before - 1):
        share = _change(story, share, _GAINS_OF_EACH, _LOSSES_OF_EACH)
    story.ask(f"How many {thing} does each friend have?", f"{thing} each")


def comparing(story, num_steps):
    """Comparisons: more, fewer, and times as many; perhaps the sum of two."""
    (name, _), thing = story.person(), story.rng.choice(THINGS)
    count = story.draw(2, story.max_number // 2)
    story.tell(f"{name} has {count} {thing}.", f"{name} has {count} {thing}")
    is_sum = num_steps > 1 and story.rng.random() < 0.5
    for _ in range(num_steps - is_sum):
        before = (name, count)
        name, count = _compare(story, *before)
    if is_sum:
        story.work(before[1], "+", count)
        pair = f"{before[0]} and {name}"
        story.ask(
            f"How many {thing} do {pair} have together?", f"{thing} for {pair}"
        )
    else:
        story.ask(f"How many {thing} does {name} have?", f"{thing} for {name}")


def _compare(story, other, count):
    """Tell how many somebody has; return the name and the number."""
    name, _ = story.person()
    operator = story.rng.choice("+-*" if count > 1 else "+")
    if operator == "*":
        number = story.draw(2, 5)
        words = f"{_times(number)} as many as", f"{number} times"
    elif operator == "+":
        number = story.draw(1, story.few)
        words = f"{number} more than", f"{number} more than"
    else:
        number = story.draw(1, min(story.few, count - 1))
        words = f"{number} fewer than", f"{number} fewer than"
    story.tell(
        f"{name} has {words[0]} {other}.", f"{name} has {words[1]} {other}"
    )
    return name, story.work(count, operator, number)


class Mail(typing.NamedTuple):
    """What is sent: the verb, the piece, and the parts of a piece."""

    verb: str
    past: str
    piece: str
    part: str

    @property
    def pieces(self):
        return f"{self.piece}s"


_MAIL = (
    Mail("write", "wrote", "letter", "page"),
    Mail("send", "sent", "parcel", "pound"),
)


def rates(story, num_steps):
    """Rates times periods: pages, friends, times a week, weeks, months."""
    (name, _), mail = story.person(), story.rng.choice(_MAIL)
    num_products = story.rng.randint(max(1, num_steps - 3), min(num_steps, 4))
    send = _send_some if num_products == 1 else _send_to_friends
    factors, unit = send(story, name, mail, num_products)
    total = factors[0]
    for factor in factors[1:]:
        total = story.work(total, "*", factor)
    for _ in range(num_steps - num_products):
        total = _change(story, total, _GAINS_OF_MAIL, _LOSSES_OF_MAIL)
    if num_steps > num_products:
        story.ask(f"How many {unit} arrived?", f"{unit} arrived")
    else:
        story.ask(f"How many {unit} did {name} {mail.verb}?", unit)


def _send_some(story, name, mail, _):
    """Tell of one rate and one period; return the factors and the unit."""
    number, weeks = story.draw(2, 9), story.draw(2, 8)
    sentence = (
        f"{name} {mail.past} {number} {mail.pieces} a week for {weeks} weeks"
    )
    story.tell(f"{sentence}.", sentence)
    return [number, weeks], mail.pieces


def _send_to_friends(story, name, mail, num_products):
    """Tell of two to four products; return the factors and the unit."""
    # Three products: with the size of a piece, or with months of weeks.
    sizes = story.rng.random() < {3: 0.5, 4: 1.0}.get(num_products, 0.0)
    in_months = num_products - sizes == 3
    size = story.draw(2, 6) if sizes else None
    if size is None and story.superfluous:
        # Its size has nothing to do with the number of pieces.
        size, story.superfluous = story.rng.randint(2, 6), False
    friends, times = story.draw(2, 5), story.draw(2, 4)
    weeks = story.need(4) if in_months else story.draw(2, 8)
    period = f"{weeks} weeks"
    factors = [size] * sizes + [friends, times, weeks]
    if in_months:
        factors.append(story.draw(2, 6))
        period = f"{factors[-1]} months of {weeks} weeks"
    kind = f"{size}-{mail.part} {mail.piece}" if size else mail.piece
    sentence = f"{name} {mail.past} a {kind} to {friends} friends"
    story.tell(
        f"{sentence} {_times(times)} a week for {period}.",
        f"{sentence} {times} times a week for {period}".replace("-", " "),
    )
    return factors, f"{mail.part}s" if sizes else mail.pieces


# Where something flows in and out, full and empty, and how it is asked.
_FLOWS = (
    ("A tank holds {n} liters.", "A tank is empty.",
     "Then {rate} liters a day flow in for {time} days.",
     "Then {rate} liters a day flow out for {time} days.",
     "How many liters are in the tank now?", "tank", "liters"),
    ("A jar holds {n} coins.", "A jar is empty.",
     "Then {rate} coins a week are put in for {time} weeks.",
     "Then {rate} coins a week are taken out for {time} weeks.",
     "How many coins are in the jar now?", "jar", "coins"),
)  # fmt: skip


def flows(story, num_steps):
    """Change over days or weeks: rates times periods, one after another."""
    full, empty, flow_in, flow_out, question, place, unit = story.rng.choice(
        _FLOWS
    )
    total = None
    if num_steps % 2 == 0:
        total = story.draw(2, story.max_number // 2)
        story.tell(full.format(n=total), f"{place} holds {total} {unit}")
    else:
        story.tell(empty, f"{place} holds 0 {unit}")
    for _ in range((num_steps + 1) // 2):
        rate = story.draw(2, 9)
        time = story.draw(2, min(9, story.max_number // rate))
        grows = _may_grow(story, total, rate * time)
        sentence = flow_in if grows else flow_out
        story.tell(
            sentence.format(rate=rate, time=time),
            f"{'in' if grows else 'out'} {rate} for {time} times",
        )
        amount = story.work(rate, "*", time)
        if total is None:
            total = amount
        else:
            total = story.work(total, "+" if grows else "-", amount)
    story.ask(question, unit)


def _may_grow(story, total, amount):
    """Return whether an amount flows in; both are as likely if both fit."""
    ways = [True] if (total or 0) + amount <= story.max_number else []
    if total is not None and amount < total:
        ways.append(False)
    if not ways:
        raise DeadEnd
    return story.rng.choice(ways)


def prices(story, num_steps):
    """Prices: several goods, and perhaps the change from a note."""
    name, who = story.person()
    total = None
    for thing in story.rng.sample(THINGS, (num_steps + 1) // 2):
        room = story.max_number - (total or 0)
        count = story.draw(2, 6)
        price = story.draw(2, min(9, room // count))
        story.tell(
            f"{who if total else name} buys {count} {thing} at {price} coins "
            "each.",
            f"{who if total else name} buys {count} {thing} at {price} coins",
        )
        cost = story.work(count, "*", price)
        total = cost if total is None else story.work(total, "+", cost)
    if num_steps % 2:
        story.ask(f"How many coins does {name} pay?", "coins")
        return
    note = story.draw(total + 1, story.max_number)
    story.tell(f"{who} pays with a note of {note} coins.", f"pays {note} coins")
    story.work(note, "-", total)
    story.ask(f"How many coins does {name} get back?", "coins back")


STRUCTURES = {
    "changes": changes,
    "sharing": sharing,
    "comparing": comparing,
    "rates": rates,
    "flows": flows,
    "prices": prices,
}


def _change(story, total, gains, losses, who=""):
    """Tell of something that comes or goes; return the new total."""
    room = min(story.few, story.max_number - total)
    grows = room > 0 and (total == 1 or story.rng.random() < 0.5)
    number = story.draw(1, room if grows else min(story.few, total - 1))
    sentence, note = story.rng.choice(gains if grows else losses)
    story.tell(sentence.format(who=who, n=number), note.format(n=number))
    return story.work(total, "+" if grows else "-", number)


def _times(number):
    return "twice" if number == 2 else f"{number} times"
