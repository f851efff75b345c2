"""The schemas of tests/engine/grammar/data/schemas.jsonl: one generator per keyword or shape, then random ones.

Only what a grammar can hold is here. Left out on purpose, since a grammar cannot or does not: not, if, contains,
uniqueItems, dependent*, several allOf, overlapping oneOf, $ref with siblings, a length beside a pattern or a format.
"""

from schema_values import FORMATS, PATTERNS

S, I, N, B, NULL = ({"type": kind} for kind in ("string", "integer", "number", "boolean", "null"))


def obj(properties, required=None, additional=False, **more):
    schema = {"type": "object", "properties": properties, "required": list(properties) if required is None else required}
    if additional is not None:
        schema["additionalProperties"] = additional
    return {**schema, **more}


def array(items, **more):
    return {"type": "array", "items": items, **more}


def scalars():
    yield from (S, I, N, B, NULL)
    for constant in ("fixed", "", "ünï 日本", 'a "quoted" word', "back\\slash", "line\nbreak", 0, -17, 12345678901, 2.5, True, False, None,
                     [], [1, 2], {"a": 1}, {"a": [None, "b"]}, [[], {}]):
        yield {"const": constant}
    yield {"enum": ["red", "green", "blue"]}
    yield {"enum": ["a", "ab", "abc"]}
    yield {"enum": [1, 2, 3]}
    yield {"enum": [1, "1", None, True]}
    yield {"enum": [[1], [2], {"k": "v"}]}
    yield {"enum": ["é", "漢字", "😀"]}
    yield {"type": "string", "enum": ["left", "right"]}
    yield {"type": "integer", "enum": [-1, 0, 1]}
    yield {"enum": [f"value_{i}" for i in range(40)]}
    yield {"enum": ["only"]}
    yield {"enum": ["with space", "with\ttab", 'with "quote"']}
    yield {"type": ["string", "null"]}
    yield {"type": ["integer", "string"]}
    yield {"type": ["boolean", "null", "number"]}


def strings():
    for low, high in ((1, None), (0, 5), (3, 3), (2, 8), (10, 20), (0, 0), (5, None), (0, 64)):
        yield {"type": "string", "minLength": low, **({} if high is None else {"maxLength": high})}
    for pattern in PATTERNS:
        yield {"type": "string", "pattern": pattern}
        yield obj({"id": {"type": "string", "pattern": pattern}, "n": I})
    for form in FORMATS:
        yield {"type": "string", "format": form}
        yield obj({"value": {"type": "string", "format": form}, "tag": S}, required=["value"])
        yield array({"type": "string", "format": form}, minItems=1, maxItems=3)


def numbers():
    for low, high in ((0, None), (None, 0), (1, 10), (-5, 5), (0, 255), (1900, 2100), (-100, -10), (7, 7), (0, 1000000), (-1, 1), (98, 103)):
        bounds = {**({} if low is None else {"minimum": low}), **({} if high is None else {"maximum": high})}
        yield {"type": "integer", **bounds}
        yield {"type": "number", **bounds}
        exclusive = {**({} if low is None else {"exclusiveMinimum": low - 1}), **({} if high is None else {"exclusiveMaximum": high + 1})}
        yield {"type": "integer", **exclusive}
    yield {"type": "number", "exclusiveMinimum": 0}
    yield {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    yield {"type": "number", "minimum": 0.5, "maximum": 2.25}
    yield {"type": "number", "minimum": -0.75, "exclusiveMaximum": 12.5}
    yield {"type": "integer", "minimum": 0, "maximum": 100, "multipleOf": 5}
    yield {"type": "integer", "multipleOf": 7}
    yield {"type": "integer", "minimum": -12, "maximum": 12, "multipleOf": 4}


def arrays():
    for items in (S, I, B, NULL, True, {}, {"enum": ["x", "y"]}, {"type": ["number", "null"]}, array(I), obj({"k": S})):
        yield array(items)
        yield array(items, minItems=1, maxItems=3)
    for low, high in ((0, 0), (2, 2), (0, 1), (3, None), (1, 7)):
        yield array(I, minItems=low, **({} if high is None else {"maxItems": high}))
    yield {"type": "array", "prefixItems": [S, I], "items": False}
    yield {"type": "array", "prefixItems": [S, I, B], "items": False, "minItems": 3}
    yield {"type": "array", "prefixItems": [N, N], "items": S, "minItems": 2, "maxItems": 4}
    yield {"type": "array", "prefixItems": [{"const": "point"}, N, N], "items": False, "minItems": 3, "maxItems": 3}
    yield array(array(array(I, maxItems=2), maxItems=2), maxItems=2)
    yield array({"anyOf": [S, I]}, minItems=1)


def objects():
    yield obj({})
    yield obj({"a": S})
    yield obj({"a": S, "b": I, "c": B}, required=[])
    yield obj({"a": S, "b": I, "c": B}, required=["b"])
    yield obj({"a": S, "b": I, "c": B, "d": N}, required=["a", "d"])
    yield obj({"first": S, "last": S, "age": {"type": "integer", "minimum": 0, "maximum": 150}})
    yield obj({"nested": obj({"deeper": obj({"deepest": I})})})
    yield obj({"list": array(obj({"id": I, "tags": array(S)}, required=["id"]))})
    yield obj({"ключ": S, "名前": S, "prénom": I, "😀": B})
    yield obj({'quo"ted': I, "back\\slash": I, "new\nline": I, "": I})
    yield obj({"with space": S, "with-dash": I, "with.dot": B, "$dollar": N})
    yield obj({f"p{i:02}": I for i in range(20)})
    yield obj({f"p{i:02}": S for i in range(12)}, required=[])
    yield obj({"a": I, "aa": I, "aaa": I}, required=["aa"])
    yield {"type": "object", "additionalProperties": I}
    yield {"type": "object", "additionalProperties": array(S, maxItems=2)}
    yield {"type": "object", "additionalProperties": {}}
    yield {"type": "object", "additionalProperties": True}
    yield {"type": "object", "additionalProperties": False}
    yield obj({"kind": {"const": "map"}, "size": I}, required=["kind"], additional=S)
    yield obj({"kind": {"const": "open"}}, additional=True)
    yield obj({"kind": {"const": "unsaid"}}, additional=None)
    yield obj({"ab": I, "ac": I}, required=[], additional=B)
    yield {"type": "object", "additionalProperties": I, "minProperties": 1}
    yield {"type": "object", "additionalProperties": I, "minProperties": 1, "maxProperties": 2}
    yield obj({"a": I, "b": I, "c": I}, required=[], minProperties=1)
    yield obj({"a": I, "b": I, "c": I}, required=["a"], maxProperties=2)
    yield {"type": "object", "propertyNames": {"pattern": "^[a-z]{2,5}$"}}
    yield {"type": "object", "propertyNames": {"pattern": "^[a-z]{2,5}$"}, "minProperties": 1}
    yield {"type": "object", "patternProperties": {"^v[0-9]+\\.[0-9]+\\.[0-9]+$": S}, "additionalProperties": False}
    yield {"type": "object", "patternProperties": {"^#[0-9a-fA-F]{6}$": I, "^(red|green|blue)$": B}, "additionalProperties": False}
    yield {"properties": {"a": S}, "required": ["a"], "additionalProperties": False}
    yield obj({"anything": {}, "yes": True})
    yield obj({"note": {**S, "description": "Ignored", "title": "Note", "default": "x", "examples": ["y"]}}, title="Titled")


def choices():
    yield {"anyOf": [S, I]}
    yield {"anyOf": [S, NULL]}
    yield {"anyOf": [obj({"a": I}), obj({"b": S}), NULL]}
    yield {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 9}]}
    yield {"oneOf": [S, B, NULL]}
    yield {"oneOf": [{"enum": ["a", "b"]}, {"enum": ["c"]}, I]}
    yield {"oneOf": [obj({"type": {"const": "circle"}, "radius": N}), obj({"type": {"const": "box"}, "width": N, "height": N})]}
    yield {"oneOf": [obj({"op": {"const": op}, "value": value}) for op, value in (("set", S), ("add", I), ("clear", NULL), ("flags", array(B)))]}
    yield {"allOf": [S]}
    yield {"allOf": [obj({"x": I, "y": I})]}
    yield obj({"value": {"anyOf": [S, N, B]}, "unit": {"anyOf": [{"enum": ["m", "s"]}, NULL]}})
    yield obj({"result": {"oneOf": [obj({"ok": {"const": True}, "data": S}), obj({"ok": {"const": False}, "error": S})]}})
    yield array({"anyOf": [obj({"text": S}), obj({"image": {"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"}})]}, minItems=1)
    yield {"anyOf": [array(S), obj({"items": array(S)})]}


def references():
    yield {"$defs": {"name": {"type": "string", "minLength": 1, "maxLength": 20}}, **obj({"a": {"$ref": "#/$defs/name"}, "b": {"$ref": "#/$defs/name"}})}
    yield {"definitions": {"point": obj({"x": N, "y": N})}, **array({"$ref": "#/definitions/point"}, minItems=1)}
    yield {"$defs": {"address": obj({"street": S, "city": S, "zip": {"type": "string", "pattern": "^\\d{3}-\\d{4}$"}}, required=["street", "city"])},
           **obj({"home": {"$ref": "#/$defs/address"}, "work": {"anyOf": [{"$ref": "#/$defs/address"}, NULL]}})}
    yield {"$defs": {"node": obj({"value": I, "next": {"anyOf": [NULL, {"$ref": "#/$defs/node"}]}})}, "$ref": "#/$defs/node"}
    yield {"$defs": {"tree": obj({"name": S, "children": array({"$ref": "#/$defs/tree"}, maxItems=2)})}, **obj({"root": {"$ref": "#/$defs/tree"}})}
    yield {"$defs": {"expr": {"anyOf": [N, obj({"op": {"enum": ["+", "*"]}, "left": {"$ref": "#/$defs/expr"}, "right": {"$ref": "#/$defs/expr"}})]}},
           **obj({"expression": {"$ref": "#/$defs/expr"}})}
    yield obj({"label": S, "child": {"anyOf": [NULL, {"$ref": "#"}]}})
    yield {"$defs": {"a": obj({"b": {"anyOf": [NULL, {"$ref": "#/$defs/b"}]}}), "b": obj({"a": {"anyOf": [NULL, {"$ref": "#/$defs/a"}]}})},
           "$ref": "#/$defs/a"}
    yield {"$defs": {"json": {"anyOf": [S, N, B, NULL, array({"$ref": "#/$defs/json"}, maxItems=2)]}}, **obj({"payload": {"$ref": "#/$defs/json"}})}
    yield {"$defs": {"id": {"type": "string", "format": "uuid"}, "ref": {"$ref": "#/$defs/id"}}, **obj({"from": {"$ref": "#/$defs/ref"}, "to": {"$ref": "#/$defs/id"}})}


def applications():
    """What people ask for: every property required, nothing else allowed, as strict clients send it."""
    yield obj({"steps": array(obj({"explanation": S, "output": S}), minItems=1, maxItems=4), "final_answer": S})
    yield obj({"name": S, "date": {**S, "format": "date"}, "participants": array(S)})
    yield obj({"city": S, "unit": {"enum": ["celsius", "fahrenheit"]}})
    yield obj({"sentiment": {"enum": ["positive", "neutral", "negative"]}, "confidence": {"type": "number", "minimum": 0, "maximum": 1}})
    yield obj({"title": S, "authors": array(S, minItems=1), "year": {"type": "integer", "minimum": 1450, "maximum": 2100}, "isbn": {"type": ["string", "null"]}})
    yield obj({"table": {"enum": ["orders", "customers"]}, "columns": array({"enum": ["id", "status", "total"]}, minItems=1),
               "where": array(obj({"column": S, "operator": {"enum": ["=", "<", ">"]}, "value": {"anyOf": [S, N]}})), "limit": {"type": ["integer", "null"]}})
    yield obj({"type": {"enum": ["div", "button", "field"]}, "label": S, "children": array({"$ref": "#"}, maxItems=2),
               "attributes": array(obj({"name": S, "value": S}))})
    yield obj({"is_spam": B, "reasons": array(S, maxItems=3)})
    yield obj({"invoice": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}[A-Z0-9]{4,8}$"}, "due": {**S, "format": "date"},
               "lines": array(obj({"text": S, "quantity": {"type": "integer", "minimum": 1}, "price": {"type": "number", "minimum": 0}}), minItems=1)})
    yield obj({"host": {**S, "format": "ipv4"}, "port": {"type": "integer", "minimum": 1, "maximum": 65535}, "tls": B})
    yield obj({"events": array({"oneOf": [obj({"kind": {"const": "click"}, "x": I, "y": I}), obj({"kind": {"const": "key"}, "code": S})]}, minItems=1)})
    yield obj({"entities": array(obj({"text": S, "label": {"enum": ["PERSON", "PLACE", "DATE"]}, "start": {"type": "integer", "minimum": 0}}))})


def random_schema(pick, depth=0):
    leaves = [lambda: dict(S), lambda: dict(I), lambda: dict(N), lambda: dict(B), lambda: dict(NULL),
              lambda: {"enum": pick.sample(["one", "two", "three", 4, None, "sechs", "七"], pick.randint(1, 4))},
              lambda: {"const": pick.choice(["c", 1, None, True])},
              lambda: {"type": "string", "pattern": pick.choice(list(PATTERNS))},
              lambda: {"type": "string", "format": pick.choice(list(FORMATS))},
              lambda: {"type": "string", "minLength": pick.randint(0, 3), "maxLength": pick.randint(3, 12)},
              lambda: {"type": "integer", "minimum": pick.randint(-50, 0), "maximum": pick.randint(0, 500)},
              lambda: {"type": pick.sample(["string", "integer", "boolean", "null"], 2)}]
    if depth >= 3 or (depth and pick.random() < 0.45):
        return pick.choice(leaves)()
    if pick.random() < 0.62:
        names = pick.sample(["id", "name", "größe", "items", "owner", "a b", "state", "x", "y", "notes"], pick.randint(1, 5))
        return obj({name: random_schema(pick, depth + 1) for name in names},
                   required=[name for name in names if pick.random() < 0.65],
                   additional=pick.choice([False, False, False, {"type": "integer"}]))
    if pick.random() < 0.6:
        low = pick.randint(0, 2)
        return array(random_schema(pick, depth + 1), minItems=low, maxItems=low + pick.randint(0, 3))
    return {"anyOf": [random_schema(pick, depth + 1) for _ in range(pick.randint(2, 3))]}


FAMILIES = (scalars, strings, numbers, arrays, objects, choices, references, applications)
