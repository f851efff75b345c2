"""Documents for a JSON Schema: some that fit it, some that do not. make_schemas.py keeps what a validator confirms.

Keys stand in the order of the schema's properties, numbers carry no exponent and six decimals at most, integers no
point: a grammar writes them that way, though JSON Schema would take others too.
"""

import copy
import json
import random

PATTERNS = {
    "^[a-z]{2,5}$": (["ab", "hello", "xyz"], ["a", "toolong", "Ab", "a1", ""]),
    "^[A-Z][a-z]+( [A-Z][a-z]+)*$": (["Ada", "Ada Lovelace", "Jo Ann Low"], ["ada", "Ada  Low", "Ada ", ""]),
    "^\\d{3}-\\d{4}$": (["555-0199", "000-0000", "987-6543"], ["5550199", "55-0199", "555-01999", "abc-defg"]),
    "^(red|green|blue)$": (["red", "green", "blue"], ["yellow", "Red", "redgreen", ""]),
    "^#[0-9a-fA-F]{6}$": (["#00ff7F", "#ABCDEF", "#012345"], ["00ff7f", "#00ff7", "#00fg7f", "#"]),
    "^v[0-9]+\\.[0-9]+\\.[0-9]+$": (["v1.2.3", "v10.0.42", "v0.0.0"], ["1.2.3", "v1.2", "v1.2.3.4", "v1x2x3"]),
    "^[A-Z]{2}[0-9]{2}[A-Z0-9]{4,8}$": (["DE44ABCD", "FR761234ABCD", "XY001234"], ["de44abcd", "DE4ABCD", "DE44ABC"]),
    "^(\\+[0-9]{1,3} )?[0-9]{6,10}$": (["+49 123456", "1234567890", "+1 5550199"], ["+49123456", "12345", "+ 123456"]),
    "^[^@ ]+@[^@ ]+\\.[a-z]{2,3}$": (["a@b.de", "x.y@example.com", "1@2.org"], ["a@b", "a b@c.de", "@c.de"]),
    "^$": ([""], ["a", " "]),
    "^(a|b)*c?$": (["", "abba", "abc", "c"], ["d", "cc", "ca"]),
    "^[0-9]{4}(/[0-9]{2}){2}$": (["2026/01/31", "1999/12/24", "0000/00/00"], ["2026-01-31", "2026/1/31", "2026/01"]),
}

FORMATS = {
    "date": (["2026-11-30", "1999-01-01", "2024-02-29"], ["2026-13-01", "30.11.2026", "2026-11", "20261130", "2026-00-10"]),
    "time": (["12:30:00Z", "23:59:59+02:00", "00:00:00.250Z"], ["24:00:00Z", "12:30", "noon", "12:60:00Z"]),
    "date-time": (["2026-11-30T12:30:00Z", "1999-01-01T00:00:00.5+01:00", "2000-02-29T23:59:59-08:00"],
                  ["2026-11-30", "2026-11-30T25:00:00Z", "2026-13-30T12:30:00Z", "yesterday"]),
    "email": (["a@example.com", "first.last@mail.example.org", "x_y+z@b.co"], ["plain", "example.com", "two words"]),
    "uuid": (["123e4567-e89b-12d3-a456-426614174000", "FFFFFFFF-0000-4000-8000-ABCDEFABCDEF",
              "00000000-0000-0000-0000-000000000000"],
             ["123e4567e89b12d3a456426614174000", "123e4567-e89b-12d3-a456-42661417400", "g23e4567-e89b-12d3-a456-426614174000"]),
    "ipv4": (["127.0.0.1", "255.255.255.255", "10.20.30.40"], ["256.1.1.1", "1.2.3", "1.2.3.4.5", "a.b.c.d"]),
    "ipv6": (["2001:db8:0:0:0:0:0:1", "fe80:1:2:3:4:5:6:7", "0:0:0:0:0:0:0:0"], ["2001:db8", "1.2.3.4", "zz80:1:2:3:4:5:6:7"]),
}

# Not written in JSON at all, or not to the end.
BROKEN_TEXTS = ["", "{", "[1, ", '{"a": }', "{'a': 1}", "nul", "True", "NaN", "01", "+1", "1.", ".5", '"open', '"\\x"', "[1, 2,]",
                '{"a": 1,}', "{a: 1}", "1 2", "undefined", "-"]

WORDS = ["", "a", "house", "two words", "naïve", "日本", "😀 ok", "tab-less", "x" * 12, "Ünïcödé", "0", "null"]
OTHER_TYPES = [None, True, 0, -7, 3.25, "text", [], [1], {}, {"zz": 1}]


def resolve(schema, root):
    while isinstance(schema, dict) and "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#").split("/")[1:]:
            target = target[part]
        schema = target
    return schema


class Drawer:
    """Draws documents that fit; one seed, one sequence."""

    def __init__(self, root, seed):
        self.root = root
        self.random = random.Random(seed)

    def draw(self, schema=None, depth=0):
        schema = resolve(self.root if schema is None else schema, self.root)
        pick = self.random
        if schema is True or schema == {}:
            return pick.choice([None, True, 4, -1.5, "any", [1, "two"], {"k": [None]}])
        if "const" in schema:
            return copy.deepcopy(schema["const"])
        if "enum" in schema:
            return copy.deepcopy(pick.choice(schema["enum"]))
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                options = schema[several]
                if depth > 3:  # a recursive schema ends at its first, plainest option
                    return self.draw(options[0], depth + 1)
                return self.draw(pick.choice(options), depth + 1)
        kind = schema.get("type", "object" if "properties" in schema or "additionalProperties" in schema else "array")
        if isinstance(kind, list):
            kind = "null" if depth > 3 and "null" in kind else pick.choice(kind)
        return getattr(self, "draw_" + kind)(schema, depth)

    def draw_null(self, schema, depth):
        return None

    def draw_boolean(self, schema, depth):
        return self.random.random() < 0.5

    def bounds(self, schema, width, step):
        low = schema.get("minimum", schema["exclusiveMinimum"] + step if "exclusiveMinimum" in schema else None)
        high = schema.get("maximum", schema["exclusiveMaximum"] - step if "exclusiveMaximum" in schema else None)
        if low is None and high is None:
            return -width, width
        return (high - width if low is None else low), (low + width if high is None else high)

    def draw_integer(self, schema, depth):
        low, high = self.bounds(schema, 1000, 1)
        multiple = schema.get("multipleOf", 1)
        return self.random.randint(-(-low // multiple), high // multiple) * multiple

    def draw_number(self, schema, depth):
        low, high = self.bounds(schema, 100, 0.001)
        value = round(self.random.uniform(low, high), self.random.choice([0, 1, 3]))
        return min(max(value, low), high)

    def draw_string(self, schema, depth):
        if "pattern" in schema:
            return self.random.choice(PATTERNS[schema["pattern"]][0])
        if "format" in schema:
            return self.random.choice(FORMATS[schema["format"]][0])
        low, high = schema.get("minLength", 0), schema.get("maxLength", schema.get("minLength", 0) + 12)
        text = self.random.choice(WORDS)
        return (text + "filler text é" * 20)[: self.random.randint(low, high)] if len(text) < low or len(text) > high else text

    def draw_array(self, schema, depth):
        first = [self.draw(item, depth + 1) for item in schema.get("prefixItems", [])]
        items = schema.get("items", False if "prefixItems" in schema else {})
        low = schema.get("minItems", 0)
        if items is False:
            return first if not low else first[: max(low, len(first))]
        high = schema.get("maxItems", max(low, len(first)) + (3 if depth < 3 else 0))
        count = self.random.randint(min(max(low, len(first)), high), high) - len(first)
        return first + [self.draw(items, depth + 1) for _ in range(count)]

    def draw_object(self, schema, depth):
        document = {}
        required = schema.get("required", [])
        most = schema.get("maxProperties", 100)
        for name, member in schema.get("properties", {}).items():
            optional = len(document) < most and depth < 4 and self.random.random() < 0.6
            if name in required or optional:
                document[name] = self.draw(member, depth + 1)
        additional = schema.get("additionalProperties", {} if "propertyNames" in schema else False)
        names = ["ab", "hello", "xyz"] if "propertyNames" in schema else ["extra", "und mehr", "k 3"]
        for pattern, member in schema.get("patternProperties", {}).items():
            for name in self.random.sample(PATTERNS[pattern][0], 1):
                document[name] = self.draw(member, depth + 1)
        if additional is not False and "patternProperties" not in schema:
            least = schema.get("minProperties", 0) - len(document)
            for name in names[: max(least, self.random.randint(0, min(2, max(0, most - len(document)))))]:
                document[name] = self.draw(additional, depth + 1)
        return document


def paths(document, path=()):
    """Every place in a document, as the keys that lead to it."""
    yield path
    children = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else []
    for key, child in children:
        yield from paths(child, path + (key,))


def spoil(document, pick):
    """A document like this one, with one place changed."""
    document = copy.deepcopy(document)
    path = pick.choice(list(paths(document)))
    parent, place = None, document
    for key in path:
        parent, place = place, place[key]
    changes = list(OTHER_TYPES)
    if isinstance(place, str):
        changes += [place + "x", place + "y" * 40, place[:-1], "", place.upper(), "?"]
    elif isinstance(place, (int, float)) and not isinstance(place, bool):
        changes += [place + 0.5, place + 100000, place - 100000, -place, str(place)]
    elif isinstance(place, list):
        changes += [place[:-1], place + place, place + [None], place[::-1], place + ["x"] * 20]
    elif isinstance(place, dict):
        changes += [{k: v for k, v in place.items() if k != gone} for gone in place]
        changes += [{**place, "unforeseen": 1}, {**place, "unforeseen": "x", "second": []}]
    change = pick.choice(changes)
    if parent is None:
        return change
    parent[path[-1]] = change
    return document


def text_of(document, schema):
    """Spaces as models put them; none within a constant, which a grammar takes as one piece."""
    constant = "const" in schema or "enum" in schema
    return json.dumps(document, ensure_ascii=False, separators=(",", ":") if constant else (", ", ": "))
