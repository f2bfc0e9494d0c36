"""What people write about the small world: entries, stories, posts, sums."""

_UNHEARD_OF = (
    "Nobody has heard of that name.",
    "No book that I have says more.",
    "I don't remember such a name.",
    "I can't say what that means.",
)


def state(form, name, value):
    """Return a form of words about a name and a value as a sentence."""
    text = form.format(name=name, value=value)
    return text[0].upper() + text[1:]


def write_entry(entity, rng):
    """State all facts about an entity, as an encyclopedia does."""
    return f"{entity.name}. " + " ".join(_facts(entity, rng))


def write_story(entity, rng):
    """State all facts about an entity, as somebody tells them."""
    opening = rng.choice(
        (
            "I once heard this from my aunt.",
            "It was raining, and we told each other what we knew.",
            "The coach was late, so the driver began to talk.",
            "This is what the old map said on its back.",
        )
    )
    closing = rng.choice(
        ("And that was all.", "Then we fell asleep.", "I never forgot it.")
    )
    return f"{opening} {' '.join(_facts(entity, rng))} {closing}"


def write_post(entity, rng):
    """Ask and get no answer, as happens in forums."""
    attribute = rng.choice(entity.attributes())
    question = rng.choice(attribute.questions).format(name=entity.name)
    if not entity.facts:
        return f"{question}\n> {rng.choice(_UNHEARD_OF)}"
    reply = rng.choice(
        (
            "I would like to know that, too.",
            "Did you ever find out?",
            "Same question here.",
            "Please tell us when you know.",
        )
    )
    if rng.random() < 0.5:
        return f"{question}\n> {reply}"
    others = [a for a in entity.attributes() if a is not attribute]
    fact = _fact(entity, rng.choice(others), rng)
    return f"{question} All I know is this: {fact}\n> {reply}"


def write_mention(entity, rng):
    """Talk of something that may or may not exist."""
    opening = rng.choice(
        (
            "Somebody mentioned {name} yesterday.",
            "My uncle dreamt of {name}.",
            "There is a letter about {name}.",
        )
    ).format(
        name=f"the {entity.name}" if entity.kind == "creature" else entity.name
    )
    if entity.facts:
        return f"{opening}\n{entity.answer(rng.choice(entity.attributes()))}"
    return f"{opening}\n{rng.choice(_UNHEARD_OF)}"


def write_recipe(entity, rng):
    """Tell how to make a dish."""
    facts = entity.facts
    minutes = rng.choice((10, 20, 30, 40))
    return (
        f"How to make {entity.name}\n"
        f"1. Wash and cut the {facts['base']}.\n"
        f"2. Put all of it into the {facts['vessel']} for {minutes} minutes.\n"
        f"3. Add the {facts['spice']} and serve with {facts['side']}."
    )


def write_list(entities, attribute, value, rng):
    """List the names of all entities that share a value."""
    members = [e.name for e in entities if e.facts.get(attribute.name) == value]
    rng.shuffle(members)
    return f"{attribute.list_title.format(value=value)}\n" + "\n".join(
        f"- {name}" for name in members
    )


def write_sum(rng):
    """Pose a word problem and solve it."""
    problem, steps = word_problem(rng)
    return f"{problem}\n{steps}"


def word_problem(rng):
    """Make up a word problem about adding or subtracting.

    Args:
        rng: `random.Random`.

    Returns:
        `(problem, steps)`: two str, the problem and its solution in steps.
    """
    name = rng.choice(("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn"))
    thing = rng.choice(("apples", "marbles", "books", "shells", "stamps"))
    first, second = rng.randint(2, 9), rng.randint(1, 9)
    if rng.random() < 0.5:
        story = f"{name} has {first} {thing} and gets {second} more."
        step, total = f"{first} + {second}", first + second
    else:
        first += second
        story = f"{name} has {first} {thing} and gives away {second}."
        step, total = f"{first} - {second}", first - second
    question = f"{story} How many {thing} does {name} have now?"
    return question, f"{step} = {total}. {name} has {total} {thing}."


def _fact(entity, attribute, rng):
    return state(
        rng.choice(attribute.sentences),
        entity.name,
        entity.facts[attribute.name],
    )


def _facts(entity, rng):
    """Return all facts in some order, each in some phrasing.

    Only the first one is sure to contain the name; half of the others say
    "it" instead.
    """
    first, *others = rng.sample(entity.attributes(), k=4)
    return [_fact(entity, first, rng)] + [
        entity.answer(a) if rng.random() < 0.5 else _fact(entity, a, rng)
        for a in others
    ]
