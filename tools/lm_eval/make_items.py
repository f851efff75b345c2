#!/usr/bin/env python3
"""Writes facts.jsonl, the items of both tasks: a question, four choices, the right one's index. Seeded, made by us.

usage: tools/lm_eval/make_items.py
"""

import json
import pathlib
import random

CAPITALS = {"France": "Paris", "Japan": "Tokyo", "Italy": "Rome", "Germany": "Berlin", "Spain": "Madrid", "Egypt": "Cairo", "Russia": "Moscow",
            "Norway": "Oslo", "Greece": "Athens", "Portugal": "Lisbon", "Cuba": "Havana", "Peru": "Lima", "Austria": "Vienna", "Poland": "Warsaw",
            "Sweden": "Stockholm", "Ireland": "Dublin", "China": "Beijing", "Kenya": "Nairobi", "Canada": "Ottawa", "Hungary": "Budapest"}
OPPOSITES = {"hot": "cold", "big": "small", "up": "down", "early": "late", "rich": "poor", "open": "closed", "light": "dark", "fast": "slow",
             "happy": "sad", "old": "young", "hard": "soft", "near": "far", "full": "empty", "strong": "weak", "wet": "dry", "high": "low",
             "left": "right", "first": "last", "true": "false", "day": "night"}
KINDS = {"dog": "animal", "rose": "flower", "hammer": "tool", "apple": "fruit", "violin": "instrument", "salmon": "fish", "oak": "tree",
         "chair": "furniture", "carrot": "vegetable", "sparrow": "bird", "iron": "metal", "shirt": "clothing", "ant": "insect", "bus": "vehicle",
         "blue": "color", "football": "sport", "Mars": "planet", "Europe": "continent", "Monday": "day", "July": "month"}
SOUNDS = {"dog": "barks", "cat": "meows", "cow": "moos", "lion": "roars", "duck": "quacks", "bee": "buzzes", "snake": "hisses", "wolf": "howls",
          "horse": "neighs", "sheep": "bleats"}
PLURALS = {"child": "children", "mouse": "mice", "foot": "feet", "man": "men", "tooth": "teeth", "box": "boxes", "city": "cities", "leaf": "leaves",
           "sheep": "sheep", "knife": "knives"}


def facts(pick):
    for table, question in ((CAPITALS, "The capital of {} is"), (OPPOSITES, "The opposite of {} is"), (KINDS, "Something called {} is a kind of"),
                            (SOUNDS, "The sound of an animal: the {}"), (PLURALS, "The plural of the word {} is")):
        for key, answer in table.items():
            wrong = pick.sample(sorted(set(table.values()) - {answer}), 3)
            yield question.format(key), answer, wrong


def arithmetic(pick):
    for number in range(120):
        kind = number % 4
        a, b = pick.randint(2, 20), pick.randint(2, 12)
        if kind == 0:
            question, answer = f"Question: What is {a} plus {b}?\nAnswer:", a + b
        elif kind == 1:
            question, answer = f"Question: What is {a + b} minus {b}?\nAnswer:", a
        elif kind == 2:
            question, answer = f"{a}, {a + b}, {a + 2 * b},", a + 3 * b
        else:
            question, answer = f"{b} times {b} equals", b * b
        wrong = pick.sample([value for value in range(max(0, answer - 9), answer + 10) if value != answer], 3)
        yield question, str(answer), [str(value) for value in wrong]


def main():
    pick = random.Random(20261130)
    items = list(facts(pick)) + list(arithmetic(pick))
    with (pathlib.Path(__file__).parent / "facts.jsonl").open("w") as out:
        for question, answer, wrong in items:
            choices = wrong + [answer]
            pick.shuffle(choices)
            out.write(json.dumps({"question": question, "choices": choices, "gold": choices.index(answer)}) + "\n")
    print(f"{len(items)} items")


if __name__ == "__main__":
    main()
