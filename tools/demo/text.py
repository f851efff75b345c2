"""Documents the demo models are trained on: short stories, recall, copying, two-digit arithmetic.

A document is a list of (text, weight) pieces; the weight is that of the training loss on the
piece's tokens. Answers that follow from the context weigh more, digits and words drawn at random
weigh little: no model can know them, and their noise would only drown the signal. The weights do
not move the optimum of the loss.
"""

from dataclasses import dataclass

from demo.story import GIRLS, BOYS, ANIMALS, THINGS, PLACES, FOODS, COLOURS, story

NAMES = GIRLS + BOYS
WORDS = ANIMALS + THINGS + PLACES + FOODS + COLOURS

RANDOM = 0.1
ANSWER = {"recall": 4.0, "copy": 2.0, "arithmetic": 3.0}
TASKS = tuple(ANSWER)


@dataclass(frozen=True)
class Difficulty:
    """Upper ends of what a document draws; the evaluation files use the defaults."""

    pairs: int = 8  # names with codes in a recall document
    digits: int = 4  # of a code
    words: int = 10  # in a copied list
    ask: float = 0.7  # share of the codes asked for as a question; the others are said again


def held_out_sum(a, b):
    """One pair in ten is never trained on, so that the arithmetic accuracy is not a memory test."""
    return (a * 7 + b * 3) % 10 == 3


def recall(rng, difficulty=Difficulty()):
    """Codes of several people, then each asked for or said again in another order, some of them
    twice.
    """
    names = rng.sample(NAMES, rng.randint(2, difficulty.pairs))
    digits = rng.randint(2, difficulty.digits)
    codes = {name: str(rng.randrange(10 ** (digits - 1), 10**digits)) for name in names}
    pieces = []
    for name in names:
        pieces += [
            ("The code of", 1.0),
            (f" {name}", RANDOM),
            (" is ", 1.0),
            (codes[name], RANDOM),
            (".\n", 1.0),
        ]
    wanted = names + rng.sample(names, len(names) // 2)
    rng.shuffle(wanted)
    for name in wanted:
        before, after, end = (
            ("What is", "?", "\n") if rng.random() < difficulty.ask else ("Yes,", " is", ".\n")
        )
        pieces += [(f"{before} the code of", 1.0), (f" {name}", RANDOM), (f"{after} ", 1.0)]
        pieces += [(codes[name], ANSWER["recall"]), (end, 1.0)]
    return pieces


def copy(rng, difficulty=Difficulty()):
    """A list of words said three times."""
    words = "".join(f" {rng.choice(WORDS)}" for _ in range(rng.randint(2, difficulty.words)))
    again = [("Again:", 1.0), (words, ANSWER["copy"]), (".\n", 1.0)]
    return [("Say:", 1.0), (words, RANDOM), (".\n", 1.0)] + again + again


def arithmetic(rng, problems=8):
    """Sums of two numbers below a hundred, held-out pairs excepted."""
    pieces = []
    while len(pieces) < 3 * problems:
        a, b = rng.randrange(100), rng.randrange(100)
        if not held_out_sum(a, b):
            pieces += [(f"{a}+{b}", RANDOM), (f"={a + b}", ANSWER["arithmetic"]), ("\n", 1.0)]
    return pieces


def document(rng, shares, difficulty=Difficulty()):
    """One document of a kind drawn by `shares`."""
    kind = rng.choices(list(shares), weights=list(shares.values()))[0]
    if kind == "story":
        return [(story(rng), 1.0)]
    if kind == "arithmetic":
        return arithmetic(rng)
    return (recall if kind == "recall" else copy)(rng, difficulty)


def prompt(rng, task):
    """One evaluation row: greedy generation after `prompt` must give `answer`."""
    if task == "arithmetic":
        while not held_out_sum(a := rng.randrange(100), b := rng.randrange(100)):
            pass
        shots = "".join(text for text, _ in arithmetic(rng, 2))
        return {"prompt": f"{shots}{a}+{b}=", "answer": str(a + b)}
    pieces = recall(rng, Difficulty(ask=1.0)) if task == "recall" else copy(rng)
    at = [weight for _, weight in pieces].index(ANSWER[task])
    before, answer = "".join(text for text, _ in pieces[:at]), pieces[at][0]
    spaces = len(before) - len(
        before.rstrip(" ")
    )  # a space before the answer is its own token; the model writes it
    return {"prompt": before.rstrip(" "), "answer": " " * spaces + answer}
