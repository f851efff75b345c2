"""Writes tests/engine/grammar/data/schemas.jsonl: JSON schemas with documents that fit them and documents that do not.

Each line is {"schema": ..., "good": [texts], "bad": [texts]}, at least three of each, or all where a schema allows
fewer. The jsonschema package decides what fits, formats included; a text that is no JSON is bad. With --xgrammar the same texts
are put to xgrammar's Python package, which must agree on every one.

usage: python tools/golden/make_schemas.py [--xgrammar]
Wants: pip install jsonschema rfc3339-validator (and xgrammar)
"""

import json
import pathlib
import random
import sys

import jsonschema
from schema_families import FAMILIES, random_schema
from schema_values import BROKEN_TEXTS, FORMATS, PATTERNS, Drawer, resolve, spoil, text_of

OUT = pathlib.Path(__file__).parents[2] / "tests/engine/grammar/data/schemas.jsonl"
NUM_RANDOM = 110
SEED = 20261130


def validator_of(schema):
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    validator.check_schema(schema)
    return validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def fits(validator, text):
    try:
        document = json.loads(text, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        return False
    return validator.is_valid(document)


def told(schema, which):
    """What PATTERNS and FORMATS say of a schema that is one string."""
    schema = resolve(schema, schema)
    if not isinstance(schema, dict) or "properties" in schema:
        return []
    return PATTERNS.get(schema.get("pattern"), FORMATS.get(schema.get("format"), ([], [])))[which]


def line_of(schema, seed):
    validator = validator_of(schema)
    drawer = Drawer(schema, seed)
    good = {text_of(text, schema) for text in told(schema, 0)}
    for _ in range(60):
        if len(good) < 5:
            good.add(text_of(drawer.draw(), schema))
    for text in good:
        if not fits(validator, text):
            raise SystemExit(f"{text} was drawn for {json.dumps(schema)} but does not fit")
    pick = random.Random(seed + 1)
    bad = {text_of(text, schema) for text in told(schema, 1)}
    documents = [json.loads(text) for text in sorted(good)]
    for _ in range(200):
        text = text_of(spoil(pick.choice(documents), pick), schema)
        if len(bad) < 5 and not fits(validator, text):
            bad.add(text)
    # A document that breaks off, one that does not end where it should, one that is none.
    longest = max(good, key=len)
    bad |= {text for text in (longest[: len(longest) // 2], longest[:-1], longest + "]") if not fits(validator, text)}
    bad.add(pick.choice(BROKEN_TEXTS))
    for text in bad:
        if fits(validator, text):
            raise SystemExit(f"{text} fits {json.dumps(schema)}")
    if len(bad) < 3:
        raise SystemExit(f"too few documents for {json.dumps(schema)}")
    return {"schema": schema, "good": sorted(good), "bad": sorted(bad)}


def compare_with_xgrammar(lines):
    import xgrammar

    vocabulary = [bytes([byte]) for byte in range(256)] + [b""]
    info = xgrammar.TokenizerInfo(vocabulary, xgrammar.VocabType.RAW, stop_token_ids=[256])
    compiler = xgrammar.GrammarCompiler(info, max_threads=1)
    differences = 0
    for line in lines:
        compiled = compiler.compile_json_schema(json.dumps(line["schema"]), any_whitespace=False, strict_mode=False)
        for fit in ("good", "bad"):
            for text in line[fit]:
                matcher = xgrammar.GrammarMatcher(compiled)
                accepted = all(matcher.accept_token(byte) for byte in text.encode()) and matcher.accept_token(256)
                if accepted != (fit == "good"):
                    differences += 1
                    print(f"{fit} {text!r} accepted={accepted} by {json.dumps(line['schema'], ensure_ascii=False)}")
    return differences


def main():
    pick = random.Random(SEED)
    schemas = [schema for family in FAMILIES for schema in family()]
    schemas += [random_schema(pick) for _ in range(NUM_RANDOM)]
    unique = list({json.dumps(schema): schema for schema in schemas}.values())
    lines = [line_of(schema, SEED + number) for number, schema in enumerate(unique)]
    if "--xgrammar" in sys.argv:
        raise SystemExit(f"{compare_with_xgrammar(lines)} differences, {sum(len(line['good']) + len(line['bad']) for line in lines)} documents")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with OUT.open("w") as out:
        for line in lines:
            out.write(json.dumps(line, ensure_ascii=False, separators=(", ", ": ")) + "\n")
    print(f"{len(lines)} schemas, {sum(len(line['good']) for line in lines)} good and {sum(len(line['bad']) for line in lines)} bad documents, "
          f"{OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
