"""A grammar of short stories: somebody wants something, it goes wrong, a friend helps."""

GIRLS = """
    Ada Cleo Dora Gina Iris Kira Mona Olga Pia Rosa Tess Uma Vera Wilma Zoe Nina Lucy Emma
    Anna Mia Lily Sara
""".split()
BOYS = """
    Ben Eli Finn Hugo Jon Leo Nils Otto Paul Quin Sam Tom Victor Walt Max Tim Jack Oscar Ivan
    Felix Noah Carl
""".split()
ANIMALS = "cat dog fox owl bear frog hare wolf duck goat horse mouse bird fish hen pig".split()
THINGS = """
    lamp book key drum kite rope shell clock bell box ball boat hat coat ring cup map stone
    flute doll
""".split()
PLACES = """
    forest garden market river castle school island harbor village meadow park hill barn beach
    cave farm
""".split()
FOODS = "bread cake cheese soup honey pie milk rice jam butter corn".split()
COLOURS = "red blue green yellow white black brown golden silver purple".split()
SIZES = "small big little tiny shy young funny quiet".split()
HIDING = [
    "under a big tree",
    "behind a stone wall",
    "near the water",
    "in the tall grass",
    "beside an old door",
    "on top of a hill",
]


def _cast(rng):
    """The people and things of one story; every sentence of it draws on the same cast."""
    cast = {}
    for who in ("a", "b"):
        girl = rng.random() < 0.5
        name = rng.choice([n for n in (GIRLS if girl else BOYS) if n != cast.get("a")])
        she, her, hers = ("she", "her", "her") if girl else ("he", "him", "his")
        kind = "girl" if girl else "boy"
        cast |= {
            who: name,
            f"{who}_she": she,
            f"{who}_her": her,
            f"{who}_hers": hers,
            f"{who}_kind": kind,
        }
        cast[f"{who}_She"] = she.capitalize()
    cast["place"], cast["place2"] = rng.sample(PLACES, 2)
    cast |= {"animal": rng.choice(ANIMALS), "thing": rng.choice(THINGS), "food": rng.choice(FOODS)}
    cast |= {"colour": rng.choice(COLOURS), "size": rng.choice(SIZES), "hiding": rng.choice(HIDING)}
    return cast


OPENINGS = [
    "Once upon a time there was a {a_kind} named {a}.",
    "One day a {a_kind} named {a} woke up early.",
    "There was a {a_kind} called {a} who lived near the {place}.",
    "In a house by the {place} lived a {a_kind} named {a}.",
    "{a} was a happy {a_kind} who liked to go to the {place}.",
]

LOST = [
    [
        "{a} had a {colour} {thing} and took it everywhere.",
        "{a} loved {a_hers} {colour} {thing} more than anything.",
        "For {a_hers} birthday {a_she} got a {colour} {thing}.",
    ],
    [
        "One day {a_she} went to the {place} to play, but the {thing} was gone.",
        "One morning {a_she} looked for the {thing} and could not find it.",
        "While {a_she} was walking to the {place}, the {thing} fell out of {a_hers} bag.",
    ],
    [
        "{a} was very sad and began to cry.",
        "{a} was worried and did not know what to do.",
        "{a_She} looked in the {place}, but it was not there.",
    ],
    [
        'Then {b} came by and asked, "Why are you sad, {a}?" "I lost my {thing}," said {a}.',
        '{a} met {b} and said, "I can not find my {colour} {thing}." "I will help you," said {b}.',
        "{a_She} told {b} about the {thing}, and {b} wanted to help.",
    ],
    [
        "They looked in the {place2} and saw a {size} {animal}. The {animal} had the {thing}!",
        "Together they walked to the {place2}. "
        "A {size} {animal} was sitting {hiding}, and next to it was the {thing}.",
        "They searched all day. At last they found the {thing} {hiding}. "
        "A {size} {animal} was sleeping on it.",
    ],
    [
        "{a} gave the {animal} some {food}, and the {animal} gave back the {thing}.",
        '"Thank you for finding my {thing}," {a} said to the {animal}.',
        "{b} gave the {animal} some {food} and {a} took the {thing} home.",
    ],
]

ANIMAL = [
    [
        "{a_She} had a {size} {colour} {animal}.",
        "{a_She} had a friend, a {size} {animal}.",
        "One day {a_she} met a {size} {colour} {animal} in the {place}.",
    ],
    [
        "Every day they played together in the {place}.",
        "The {animal} liked to eat {food} and to run in the {place}.",
        "{a} and the {animal} went to the {place} every day.",
    ],
    [
        "But one day the {animal} was hurt and could not walk.",
        "But one day the {animal} ran away to the {place2}.",
        "But one night it was very cold and the {animal} got sick.",
    ],
    [
        '{a} was afraid and ran to {b}. "Please help me," {a_she} said.',
        '{a} called {b}. "My {animal} needs help!" {a_she} said.',
        '{b} saw that {a} was sad. "What is wrong?" {b_she} asked.',
    ],
    [
        "{b} had a {colour} {thing} and a good idea.",
        "{b} took some {food} and went with {a} to the {place2}.",
        "They found the {animal} {hiding}, and {b} gave it some {food}.",
    ],
    [
        "Soon the {animal} was well again and jumped up and down.",
        "The {animal} came back and was very glad to see {a}.",
        "After that the {animal} felt better and they all went home.",
    ],
]

SHARE = [
    [
        "{a_She} wanted to make some {food} for {a_hers} friend {b}.",
        "{a_She} found a {colour} {thing} in the {place}.",
        "{a_She} wanted to have a {thing} like the one {b} had.",
    ],
    [
        "So {a_she} went to the {place} with {a_hers} {animal}.",
        "{a_She} showed it to {b}, and {b} wanted to have it too.",
    ],
    [
        '"This is mine!" said {a}. {b} was angry and went away to the {place2}.',
        '"Can I play with you?" asked {b}. But {a} said no, and {b} was sad.',
    ],
    [
        "{a} played alone, but it was not fun at all.",
        'A {size} {animal} saw it and said, "It is more fun to share."',
        "Then {a} thought about {b} and felt sorry.",
    ],
    [
        '{a_She} went to the {place2} and found {b} {hiding}. "I am sorry," {a_she} said.',
        '{a} ran after {b_her}. "Let us share," said {a}.',
    ],
    [
        "{b} smiled, and they ate {food} together.",
        "They played with the {thing} until it was dark.",
        "{b} gave {a} some {food}, and they were friends again.",
    ],
]

JOURNEY = [
    [
        "{a_She} had a {colour} boat and wanted to see the {place2}.",
        "{a_She} had never seen the {place2} and wanted to go there.",
        "{a_She} had an old map of the {place2}.",
    ],
    [
        '"Come with me," {a_she} said to {b}. "There is a {thing} in the {place2}."',
        "{a_She} asked {b} to come along, and {b} packed {food} and a {thing}.",
    ],
    [
        "They walked for a long time and came to the {place}.",
        'On the way they met a {size} {animal}. "Where are you going?" asked the {animal}.',
    ],
    [
        "Then it began to rain, and they hid {hiding}.",
        "Then it got dark, and {b} was afraid. {a} held {b_hers} hand.",
        "Then they heard a loud noise. It was only a {size} {animal}.",
    ],
    [
        "In the morning the sun came out and they saw the {place2}. It was beautiful.",
        "At last they came to the {place2}. There they found a {colour} {thing} {hiding}.",
    ],
    [
        "They gave the {food} to the {animal} and went home.",
        "{a} took the {thing} home and gave it to {a_hers} mother.",
        '"This was the best day," said {b}.',
    ],
]

ENDINGS = [
    "From that day on {a} and {b} were best friends.",
    "{a} was very happy and went to sleep with a smile.",
    "{a} learned that it is good to help a friend.",
    "And they all lived happily near the {place}.",
    "{a} and {b} laughed and said good night.",
]

PLOTS = [LOST, ANIMAL, SHARE, JOURNEY]


def story(rng):
    """One story of about a hundred words, one paragraph."""
    cast = _cast(rng)
    lines = [
        rng.choice(OPENINGS),
        *(rng.choice(step) for step in rng.choice(PLOTS)),
        rng.choice(ENDINGS),
    ]
    return " ".join(line.format(**cast) for line in lines) + "\n"
