"""A corpus of made-up words, to train small vocabularies on."""

import random

SYLLABLES = "the mod el reads a text and writes an oth er tok en by".split()
WORDS = [
    first + second + third
    for first in SYLLABLES
    for second in SYLLABLES[::3]
    for third in SYLLABLES[::4]
]
SIZE = 320


def corpus(lines=400, seed=0):
    generator = random.Random(seed)
    return [
        "\\n".join(
            " ".join(generator.choices(WORDS, k=8))
            for _ in range(generator.randint(1, 4))
        )
        for _ in range(lines)
    ]


def write(path, lines):
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return str(path)
