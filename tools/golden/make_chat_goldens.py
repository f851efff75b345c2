"""Writes tests/engine/text/chat/data/goldens.json: templates of our own and what transformers makes of them.
Run it again only to change the tests:

    pip install transformers==5.24.0 jinja2==3.1.6
    python tools/golden/make_chat_goldens.py tests/engine/text/chat/data/goldens.json

The file has the conversation that all snippets render, and for each case its template, whatever differs
from that conversation, and "text", or "error" where transformers raises one.
"""

import json
import sys
from datetime import datetime
from pathlib import Path

from transformers.utils import chat_template_utils

NOW = 1764500000
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


class FrozenTime(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.fromtimestamp(NOW, tz)


chat_template_utils.datetime = FrozenTime

CHAT = {
    "messages": [
        {"role": "system", "content": "  Be \"brief\".\n"},
        {"role": "user", "content": "Straße <b>&amp;</b> 'x' 日本 🎉 i\u0307"},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {
            "city": "Zürich", "n": 3, "f": 1.5, "none": None, "yes": True, "list": [1, "a", []], "d": {}}}}]},
        {"role": "tool", "content": "line 1\nline 2\r\n\nline 4"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "does f", "parameters": {
        "type": "object", "properties": {"B": {"type": "string"}, "a": {"type": "integer"}}, "required": ["a"]}}}],
    "kwargs": {
        "n": 7, "neg": -7, "x": 2.5, "yes": True, "no": False, "nil": None, "empty": "", "s": "Hello, World",
        "words": ["pear", "Apple", "fig", "apple"], "nums": [3, 1, 2], "mixed": [1, "a", 2.0, None, True],
        "d": {"b": 2, "A": 1, "c": {"k": [1, 2]}}, "people": [{"name": "Ann", "age": 3, "ok": True}, {"name": "bob", "age": 1},
                                                              {"name": "Cy", "age": 3, "ok": False}],
        "nested": [[1, [2, 3]], [4]], "ws": " \t x y \n", "tree": [{"v": 1, "kids": [{"v": 2, "kids": []}, {"v": 3, "kids": []}]}],
        "big": 12345678901234567890123, "tiny": 1e-7, "huge": 1e22, "items_dict": {"items": 1, "keys": 2},
    },
}

EXPRESSIONS = r"""
1 + 2 * 3 - 4 | 7 // 2 | -7 // 2 | 7 % -3 | -7 % 3 | 7 / 2 | 2 ** 10 | 2 ** -1 | 2 ** 3 ** 2 | -2 ** 2 | 7.5 // 2 | -7.5 % 2
1e3 | 1.0 | 0.1 + 0.2 | 1e16 | 1e15 | 123456789.0 | 1e-4 | 1e-5 | 0x1f | 0b101 | 0o17 | 1_000 | 1_0.5_0 | 3.0 * 2 | 10 ** 18 | 5 / 1
true and 0 | true or x | not n | not empty | 1 and "a" or "b" | nil or "default" | no or no | "" and 1
1 < 2 < 3 | 1 < 3 < 2 | 1 == 1.0 | 1 == true | "a" < "b" | "a" == 1 | [1] < [1, 2] | (1, 2) == (1, 2) | [1] == (1,) | nil == none | 1 != 2 | 2 >= 2 <= 3
"a" in "cat" | "x" not in "cat" | 2 in nums | "A" in d | "z" in d | 1 in (1, 2) | not 1 in [2] | "" in "a" | nil in mixed
"a" ~ 1 ~ none ~ true ~ 1.5 ~ [1, "x"] | "a" "b" 'c' | "a" + "b" * 3 | 2 * "ab" | "-" * 0 | "-" * -1 | [1] * 2 | [1] + [2] | (1,) + (2,)
s[0] | s[-1] | s[1:4] | s[::-1] | s[::2] | s[-3:] | s[:-3] | s[5:2] | s[100] | s[100:] | nums[0] | nums[-1] | nums[5] | nums[::-1] | nums[1:] | nums[:-1] | nums[-2:-1] | nums[3:0:-1] | nums[::-2] | nums[9:-9:-1]
messages[1].content[:6] | messages[1].content[8:14] | messages[1]["content"][-4:] | messages[-1].role | messages[1:][0].role | messages[::-1][0]["role"] | (messages | first).role
d.b | d["b"] | d.c.k[1] | d.missing | d["missing"] | d.get("b") | d.get("z") | d.get("z", 5) | d.items() | d.keys() | d.values() | d.items() | list | items_dict.items | items_dict["items"]
yes | no | nil | n | x | big | tiny | huge | 1e100 | neg | d | mixed | nested | {} | [] | () | (1,) | (1, "a") | {"a": [none, true]} | {1: 2, none: 3}
"it's" | ["it's"] | ['a"b'] | ['a"b\'c'] | ["\n\t\\\x00\x7f"] | ["日本 🎉\u200b\xa0"] | ["é"] | "\u00e9\x41\101\
x" | "a\qb"
undefined_name | undefined_name is defined | undefined_name or "x" | not undefined_name | undefined_name == other_name | undefined_name | default("d") | [undefined_name] | undefined_name ~ "x" | undefined_name | length | undefined_name | list | undefined_name | upper | undefined_name | join(",")
1 if yes else 2 | 1 if no else 2 | 1 if no | "a" if no else "b" if no else "c" | (1 if no) is defined | 1 if yes if no else 3
n is odd | n is even | n is divisibleby 7 | n is divisibleby(3) | n is number | x is float | n is integer | yes is integer | yes is number | yes is boolean | s is string | d is mapping | nums is sequence | s is sequence | d is sequence | n is sequence | nums is iterable | n is iterable | d.items() is sequence | d.items() is iterable | nil is none | nil is not none | no is false | yes is true | 1 is true | s is lower | s is upper | "ABC" is upper | n is eq 7 | n is equalto 8 | n is gt 3 and n is lt 9 | n is ge(7) | n is le 7 | n is ne 7 | n is in [7] | n is not in [7] | "b" is in d | range is callable | s is callable | n is sameas 7 | nil is sameas none | n is == 7 | "upper" is filter | "nope" is filter | "odd" is test | (s | safe) is escaped
s.upper() | s.lower() | s.title() | s.capitalize() | s.swapcase() | "straße".upper() | "ǆ".title() | "ΑΣ".lower() | "İ".lower() | "they're bill's".title() | "they're bill's" | title | "a-b (c" | title | "hELLO wORLD" | capitalize | "ñandú" | upper | "" | title | "" | capitalize
ws.strip() | ws.lstrip() | ws.rstrip() | ws | trim | "xxaxx".strip("x") | "xyaxy".strip("yx") | "abc".lstrip("ba") | "abc".rstrip("c") | "xxa" | trim("x") | "\u2003a\u00a0".strip() | "\x1ca\x85" | trim | "  ".strip() | "a".strip("") | "éaé".strip("é")
"a,b,,c".split(",") | "a,b,,c".split(",", 1) | "a,b,,c".rsplit(",", 1) | " a  b c ".split() | " a  b c ".split(none, 1) | " a  b c ".rsplit(none, 1) | "".split() | "".split(",") | "abc".split("") | "a::b".split("::")[-1] | "</think>x</think>y".split("</think>")[-1] | "a b c".rsplit(" ") | "a b c".split(maxsplit=1) | " a b ".split(none, 0)
"a\nb\r\nc\n".splitlines() | "a\nb\n".splitlines(true) | "".splitlines() | "\n".splitlines() | messages[3].content.splitlines() | "a\x0bb\u2028c".splitlines()
s.startswith("Hell") | s.endswith("x") | s.startswith(("a", "H")) | s.endswith(("d", "x")) | s.startswith("") | s.startswith("ello", 1) | s.startswith(1)
s.replace("l", "L") | s.replace("l", "L", 1) | s.replace("", "-") | s | replace("o", "0") | s | replace("l", "", 2) | n | replace(7, 8) | "aaa".replace("aa", "b") | "é".replace("", ".") | s.replace("x")
s.find("o") | s.rfind("o") | s.find("z") | s.index("W") | s.index("z") | s.count("l") | s.count("") | "日本日".find("日", 1) | "日本日".rfind("日") | "aaaa".count("aa") | s.find("") | s.find("o", 5, 7)
",".join(["a", "b"]) | ",".join([1]) | ",".join("abc") | words | join | words | join(", ") | nums | join("-") | people | join(", ", attribute="name") | mixed | join("|") | [] | join(",") | d | join(",") | "".join(words | sort)
"5".isdigit() | "".isdigit() | "5a".isalnum() | "a".isalpha() | " ".isspace() | "²".isdigit() | "½".isnumeric() | "²".isdecimal() | "AB".isupper() | "ab1".islower() | "1".isupper() | "x".center(5) ~ "|" | "x".ljust(3, ".") | "x".rjust(3, ".") | "ab".center(5, "*") | "abc".center(6, "*") | "-5".zfill(4) | "5".zfill(3) | "a=b=c".partition("=") | "a=b=c".rpartition("=") | "abc".partition("x") | "abc".removeprefix("a") | "abc".removesuffix("c") | "abc".removesuffix("")
"{} {}".format(1, "a") | "{0} {1} {0}".format(1, 2) | "{a} {b!r}".format(a=1, b="x") | "{:>5}|{:<5}|{:^5}".format(1, "a", "b") | "{:05d} {:,} {:.2f} {:x}".format(42, 1234567, 3.14159, 255) | "{{}}".format() | "{:+}".format(5) | "{d[b]}".format(d=d) | "{:*^9}".format("é") | "{:.3}".format("abcdef") | "{:%}".format(0.25) | "{} {}".format(1) | "{:e}".format(12345.678) | "{:#x}".format(255)
"%s %d" % ("a", 5) | "%s" % "a" | "%5.2f|%-5s|%05d" % (3.14159, "ab", 42) | "%r" % "a" | "%%" % () | "%x %X %o" % (255, 255, 8) | "%(a)s" % {"a": 1} | "%s %s" | format("a", 2) | "%s" % [1] | "%d" % 3.7 | "%s" % ("a", "b") | "%d" % "a" | "%+d % d" % (5, 5) | "%e" % 12345.678 | "%g" % 0.0001 | "%c" % "x" | "%.2s" % "abc"
words | sort | words | sort(reverse=true) | words | sort(case_sensitive=true) | nums | sort | people | sort(attribute="age") | map(attribute="name") | list | people | sort(attribute="age,name", reverse=true) | map(attribute="name") | list | mixed | sort | d | sort | "cab" | sort
words | unique | list | [1, 1.0, true, 2] | unique | list | people | unique(attribute="age") | map(attribute="name") | list | nums | min | nums | max | words | min | words | max(case_sensitive=true) | people | max(attribute="age") | [] | min | [] | max is defined | nums | sum | people | sum(attribute="age") | [] | sum | [0.1, 0.2] | sum(start=1) | nums | sum(start=10)
words | first | words | last | [] | first | [] | last is defined | s | first | s | last | d | first | words | list | s | list | d | list | d | length | words | count | s | length | messages[1].content | length | nil | length | n | length | nums | reverse | list | s | reverse | d | reverse | list | words | reverse | length
words | map("upper") | list | words | map("length") | join(",") | people | map(attribute="name") | join(",") | people | map(attribute="ok", default="?") | list | words | map("replace", "p", "P") | list | people | map(attribute="missing") | list | people | map(attribute="name") | map("lower") | list | nested | map("first") | list | nested | map(attribute="1.0") | list | words | map("nope") | list | words | map | list | words | map("upper")
nums | select("odd") | list | nums | reject("odd") | list | mixed | select | list | mixed | reject | list | nums | select("gt", 1) | list | people | selectattr("ok") | map(attribute="name") | list | people | rejectattr("ok") | map(attribute="name") | list | people | selectattr("age", "equalto", 3) | list | length | people | selectattr("name", "in", ["Ann"]) | list | people | selectattr("ok", "defined") | list | length | people | rejectattr("ok", "undefined") | list | length | undefined_name | selectattr("x") | list | mixed | select("string") | list | messages | selectattr("role", "==", "user") | map(attribute="content") | first | nums | select("nope") | list | people | selectattr | list | (nums | select("gt", 9)) is defined and (nums | select("gt", 9)) | (nums | select("odd")) | length
d | dictsort | d | dictsort(true) | d | dictsort(false, "value") | {"b": 2, "a": 3} | dictsort(by="value", reverse=true) | {"b": 2, "a": 3} | dictsort(reverse=true) | d | items | list | undefined_name | items | list | n | items | list | {"a": 1} | items
[1,2,3,4,5] | batch(2) | list | [1,2,3,4,5] | batch(2, 0) | list | [1,2,3,4,5] | slice(2) | list | [1,2,3,4,5] | slice(3, "x") | list | people | groupby("age") | list | length | words | groupby(0) | map(attribute="grouper") | list | people | groupby("ok", default="?") | map("first") | list
"42" | int | "4.9" | int | "x" | int | "x" | int(5) | "0x1f" | int(base=16) | "1_000" | int | " 12 " | int | nil | int | yes | int | 3.99 | int | -3.99 | int | "101" | int(0, 2) | "1.5" | float | "x" | float | "1e3" | float | "inf" | float | nil | float(2.0) | n | float | n | string | x | string | -5 | abs | -5.5 | abs | big | int | "99999999999999999999" | string
2.5 | round | 3.5 | round | 2.675 | round(2) | 42.55 | round(1, "floor") | 42.51 | round(1, "ceil") | n | round | 1234.5 | round(-2) | -2.5 | round | 0.5 | round | 2.4 | round | int
"a\nb\n\nc" | indent | "a\nb" | indent(2) | "a\nb" | indent(2, true) | "a\n\nb" | indent(2, blank=true) | "a\nb" | indent("> ") | "a\nb" | indent(width=1, first=true) | "a\n" | indent | n | indent
"foo bar baz qux" | truncate(9) | "foo bar baz qux" | truncate(9, true) | "foo bar baz qux" | truncate(11) | "foo bar baz" | wordcount | "a b&c/d é" | urlencode | "x" | center(5) ~ "|" | s | truncate(3, true, "", 0)
"<a href='x'>\"&" | e | "<" | escape | "<" | safe | "<" | safe + "<" | "<" + ("<" | safe) | ("<" | safe) ~ "<" | "<" | e | e | "<" | forceescape | ("%s" | safe) % "<" | ("<" | safe) | upper | ["<" | safe] | ("<" | safe) * 2 | ("," | safe).join(["<"])
d | tojson | mixed | tojson | s | tojson | nil | tojson | x | tojson | big | tojson | tiny | tojson | huge | tojson | "é\u2028</script>\x7f\x00\b\f\"\\/" | tojson | "é🎉\x7f" | tojson(ensure_ascii=true) | d | tojson(indent=2) | d | tojson(indent=2, sort_keys=true) | d | tojson(separators=(",", ":")) | [] | tojson(indent=2) | {} | tojson(indent=2) | [[], {}, [1]] | tojson(indent=1) | {1: 1, none: 2, true: 3, 1.5: 4} | tojson | (1, 2) | tojson | undefined_name | tojson | range(2) | tojson | d.items() | tojson | tools | tojson | tools | tojson(indent=4) | d | tojson(true) | d | tojson(indent="--") | d | tojson(indent=0) | messages[2].tool_calls | tojson | ("<" | safe) | tojson | [1.0, 1e16, -0.0] | tojson
range(5) | list | range(2, 5) | list | range(5, 0, -2) | list | range(0) | list | range(3) | range(3)[1] | range(10)[-1] | 3 in range(5) | range(3) | length | range(3) | last | range(100001) | range(1, 2, 0) | range("a") | range(2, 8, 3) | range(3) | join | range(5)[1:3] | list
dict(a=1, b=2) | dict({"a": 1}, b=2) | dict([("a", 1)]) | namespace(a=1).a | namespace({"a": 2}).a | namespace(a=1).b | namespace(a=1) | namespace(a=1)["a"] | dict() | dict(d).b
none.x | none["x"] | n.x | s.x | s["upper"]() | undefined_name.x | undefined_name["x"] | undefined_name() | undefined_name + 1 | undefined_name[1:] | nil[1:] | n[0] | d[[1]] | d.pop("b") | d.update({}) | nums.append(1) | nums.index(2) | nums.count(1) | nums.sort() | nums.pop | d.clear is defined | s.__class__ | s.format is defined
"a" + 1 | 1 + "a" | [1] + (2,) | "a" - "b" | none + 1 | 1 / 0 | 1 // 0 | 1 % 0 | -"a" | +5 | -x | not "a" | "a" < 1 | none < 1 | [1] < ["a"] | 1 in 5 | 1 in "a" | {[1]: 2} | 5() | "a"() | nums() | 1 | nope | 1 is nope | s.nope()
strftime_now("%Y-%m-%d") | strftime_now("%d %b %Y %H:%M:%S") | strftime_now("%B %-d, %A %j") | raise_exception("no " ~ n) | bos_token ~ eos_token | add_generation_prompt | documents | documents is none | tools is defined | messages | length | loop is defined | cycler("a", "b").next() | joiner("x")() | cycler("a").current | lipsum is defined
messages[1].content | upper | messages[1].content.split(" ")[0] | messages[1].content[::-1] | messages[0].content | trim | tojson | messages | map(attribute="role") | join("+") | messages[2].tool_calls[0].function.arguments | items | list | messages[2].tool_calls[0].function.arguments | messages[1].content | replace("x", messages[0].role) | messages[1].content | e
d.items() | first | d.keys() | list | last | d.values() | sum(start=0) | d.items() | length | d.items() | sort | list | d.keys() | join | d.values() | map("string") | join(";") | d | map("upper") | list | d.items() | map("first") | list | d.items() | map(attribute=0) | list
(1, 2)[0] | [1, 2][1] | "abc"[1] | {"a": {"b": 3}}.a.b | [[1, 2], [3]][0][1] | (1) | (1, ) | 1, 2 | "a" if 1 else "b" ~ "c" | [1, 2,] | {"a": 1,} | d.c["k"][0] | nested.0.1.0 | "x".upper().lower() | ("a" ~ "b").upper() | -1 | abs | (-1) | abs | 2 + 3 | string | "a" ~ 1 + 2 | 10 - 3 - 2 | 2 * 3 % 4 | 1 < 2 and 2 < 3 | not 1 == 2 | not (1 and 0) or 0
"%s" | format(x) | "a" is string and "b" is string | n is defined and n > 3 | n > 3 and n is not none | n is not divisibleby 2 | words | length > 3 | words | length is gt 3 | "a" in "abc" and not "z" in "abc" | 1 == 1 == true | "a" "b" | upper | 5 | string | length | 1.5 | int + 1 | nil is none or nil.x
"""

BLOCKS = [
    # White space.
    "a\n{% if yes %}\nb\n{% endif %}\nc\n", "a\n  {% if yes %}  \n  b\n  {% endif %}\nc\n\n", "  {%- if yes -%}  b  {%- endif -%}  c", "a {{- n -}} b", "a  {{ n }}  \n  {{ n }}\n",
    "  {%+ if yes %}x{% endif +%}\ny", "{# c #}\nx\n  {# c #}  \ny{#- c -#}  z", "a {#- {{ x }} {% if %} -#} b", "{% raw %}\n{{ x }} {% if %}\n{% endraw %}\nx", "a {%- raw -%}  {{ }}  {%- endraw -%}  b",
    "\n\nx\n\n", "x\r\ny\rz\r\n", "{% if yes %}\r\nx\r\n{% endif %}\r\n", "\t{% set a = 1 %}\t\n{{ a }}", "x {% set a = 1 %} y", "{{ '}}' }} {{ \"{%\" }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{% set a = {'x': {}} %}{{ a }}",
    "a{{ ' b ' }}c", "{{ 'a\nb' }}", "{%if yes%}x{%endif%}", "{%-if yes-%} x {%-endif-%}", "{ { x } }", "{{ n }}}", "{", "{{n}}{{n}}", "a\n\n{%- if yes %}\n\n b{%- endif %}\n", "{{ n -}}\n\n x", "x \n\n {{- n }}", "{% if yes %} {% endif %}|",
    "  {{ n }}", " {% if yes %}a{% endif %} {% if yes %}b{% endif %}\n", "{% if yes -%}\n  x\n{%- endif %}\n", "", "\n", "a{# b", "a{% if yes", "{{ n", "{% raw %}x", "{{ 'abc }}", "a{% endif %}", "{% if yes %}", "{% for %}", "{% nope %}", "{{ }}", "{{ n n }}", "{{ (n }}", "{{ n) }}", "{{ [n }}", "{{ n $ }}", "{{ 1 is odd is even }}", "{% set 1 = 2 %}", "{% set true = 2 %}",
    "{% if yes %}{% else %}{% else %}{% endif %}", "{% endfor %}", "{% for x in nums %}{% endif %}", "{% else %}", "{%%}", "{% set x %}", "{% macro f( %}{% endmacro %}", "{{ f(a=1, 2) }}", "{{ 'a' | }}", "{{ n.  }}", "{{ n[ }}", "{{ {1} }}", "{{ not }}", "{{ 1 if }}", "{% for x, in nums %}{{ x }}{% endfor %}",
    # Statements.
    "{% if no %}a{% elif yes %}b{% else %}c{% endif %}", "{% if no %}a{% elif nil %}b{% else %}c{% endif %}", "{% if n > 3 and s %}{% if x %}x{% endif %}{% endif %}", "{% if undefined_name %}a{% endif %}b", "{% if 1, 2 %}tuple{% endif %}", "{% if (yes) %}a{% endif %}", "{% if not undefined_name is defined %}u{% endif %}",
    "{% for x in nums %}{{ loop.index }}:{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}", "{% for x in nums %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "{% for x in nums %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.previtem is defined }}{{ loop.cycle('a', 'b') }};{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}", "{% for x in [] %}a{% else %}none{% endfor %}", "{% for x in nums if x > 1 %}{{ loop.index }}{{ x }}{{ loop.length }}{% else %}e{% endfor %}", "{% for x in nums if x > 9 %}a{% else %}e{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d | dictsort %}{{ k }}{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for c in s %}{{ c }}.{% endfor %}", "{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }} {% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for (a, b) in [[1, 2]] %}{{ a }}{{ b }}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% for x in n %}{% endfor %}", "{% for x in nil %}{% endfor %}", "{% for x in undefined_name %}{% else %}u{% endfor %}",
    "{% for x in nums %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in nums %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}|", "{% for x in nums %}{% for y in nums %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}", "{% break %}", "{% for x in nums %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}", "{% for x in nums %}{{ x }}{% else %}{% break %}{% endfor %}", "{% for x in nums %}{% set y %}a{% endset %}{{ y }}{% endfor %}",
    "{% for x in tree recursive %}{{ x.v }}{{ loop.depth }}({{ loop(x.kids) }}){% endfor %}", "{% for x in nums %}{{ loop(nums) }}{% endfor %}", "{% for x in range(3) %}{{ x }}{% for y in range(x) %}{{ loop.index }}{{ y }}{% endfor %};{% endfor %}", "{% for x in nums | sort | reverse %}{{ x }}{% endfor %}", "{% for x in nums if loop is defined %}{{ x }}{% endfor %}", "{% for loop in nums %}{% endfor %}", "{% for x in nums %}{% set loop = 1 %}{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in nums[1:] + [9] %}{{ x }}{% endfor %}", "{% for x in (nums if yes else []) %}{{ x }}{% endfor %}", "{% for m in messages %}{{ loop.index0 % 2 == 0 }}{{ m.role }} {% endfor %}", "{% for x in nums %}{{ x }}{% endfor %}{{ x }}", "{% for q in nums %}{% endfor %}{{ q is defined }}",
    "{% set a = 1 %}{% for q in nums %}{% set a = a + q %}{{ a }};{% endfor %}{{ a }}", "{% set ns = namespace(a=0, l=[]) %}{% for q in nums %}{% set ns.a = ns.a + q %}{% set ns.l = ns.l + [q] %}{% endfor %}{{ ns.a }}{{ ns.l }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set (a, b) = [3, 4] %}{{ a }}{{ b }}", "{% set ns = namespace() %}{% set ns.x, y = 1, 2 %}{{ ns.x }}{{ y }}", "{% set n.x = 1 %}", "{% set d.x = 1 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}", "{% set a = 1, %}{{ a }}",
    "{% set a %}x{{ n }}{% endset %}{{ a }}{{ a | length }}", "{% set a | upper %}x{{ n }}{% endset %}{{ a }}", "{% set a | trim | replace('b', 'c') %} abc {% endset %}[{{ a }}]", "{% set ns = namespace() %}{% set ns.t %}hi{% endset %}{{ ns.t }}", "{% if yes %}{% set v = 5 %}{% endif %}{{ v }}", "{% if no %}{% set v = 5 %}{% endif %}{{ v is defined }}", "{% set n = n + 1 %}{{ n }}", "{% set s = s %}{{ s }}", "{% set a = b = 1 %}",
    "{% macro f(a, b=2, *c) %}{% endmacro %}", "{% macro f(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ f(1) }} {{ f(1, 3) }} {{ f(b=5, a=4) }} {{ f() }}", "{% macro f(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, 3, x=4) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(z=2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}", "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(4) }}", "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}G{% endmacro %}{{ f() }}", "{{ f() }}{% macro f() %}x{% endmacro %}", "{% macro f() %}{{ later }}{% endmacro %}{% set later = 3 %}{{ f() }}",
    "{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}", "{% macro f(x) -%}\n  {{ x }}\n{%- endmacro %}[{{ f(1) }}]", "{% macro f() %}{% set q = 1 %}{{ q }}{% endmacro %}{{ f() }}{{ q is defined }}", "{% set q = 1 %}{% macro f() %}{% set q = 2 %}{{ q }}{% endmacro %}{{ f() }}{{ q }}", "{% macro f(l) %}{% for i in l %}{{ i }}{% endfor %}{% endmacro %}{{ f([1, 2]) | upper }}{{ f('ab') ~ '!' }}", "{% macro f() %}x{% endmacro %}{{ f is callable }}{{ f.name }}{{ f() is string }}", "{% macro a(f) %}{{ f(1) }}{% endmacro %}{% macro b(x) %}<{{ x }}>{% endmacro %}{{ a(b) }}", "{% for i in nums %}{% macro f() %}{{ i }}{% endmacro %}{{ f() }}{% endfor %}", "{% macro f(a, b) %}{{ a }}{{ b is defined }}{% endmacro %}{{ f(1) }}", "{% macro f(x, y=1, z) %}{% endmacro %}",
    "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}in{{ n }}{% endcall %}", "{% macro f() %}[{{ caller(1, b=2) }}]{% endmacro %}{% call(a, b) f() %}{{ a }}{{ b }}{% endcall %}", "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}", "{% macro f() %}x{% endmacro %}{% call f() %}{% endcall %}", "{% call n %}{% endcall %}", "{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}", "{{ f(*nums) }}{% macro f() %}{{ varargs }}{% endmacro %}", "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(*nums, **{'k': 1}) }}",
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter trim | replace('a', 'b') %} a {% endfilter %}|", "{% filter indent(2) %}a\nb{% endfilter %}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a is defined }}", "{% with a = 1 %}{% with a = a + 1 %}{{ a }}{% endwith %}{{ a }}{% endwith %}",
    "{% generation %}x{{ n }}{% set g = 1 %}{% endgeneration %}{{ g is defined }}", "{% for x in nums %}{% generation %}\n{{ x }}{{ loop.index }}\n{% endgeneration %}\n{% endfor %}", "{% block b %}B{{ n }}{% endblock %}", "{% block b %}B{% endblock b %}", "{% print n, s %}", "{% autoescape false %}{{ '<' }}{% endautoescape %}", "{% if no %}{% include 'x' %}{% endif %}ok", "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% from 'x' import y %}", "{% do x %}",
    "{% if no %}{{ x | nope }}{% endif %}ok", "{{ x | nope if no else 1 }}", "{% if no %}{{ 1 is nope }}{% endif %}ok", "{% for q in [] %}{{ q | nope }}{% endfor %}", "{% if no %}{% for q in [] %}{{ q | nope }}{% endfor %}{% endif %}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}", "{% set j = joiner() %}{% for x in nums %}{{ j() }}{{ x }}{% endfor %}",
    "{% set g = nums | map('string') %}{{ g | join }}{{ g | join }}", "{% set g = people | selectattr('ok') %}{% for p in g %}{{ p.name }}{{ loop.last }}{% endfor %}{% if g %}truthy{% endif %}", "{% set g = nums | select('odd') %}{{ g | first }}{{ g | first }}{{ g | list }}", "{% set g = nums | select('odd') %}{{ 1 in g }}{{ g | list }}", "{{ (nums | reverse) | list }}{{ (nums | reverse)[0] is defined }}", "{% for g in people | groupby('age') %}{{ g.grouper }}:{{ g.list | map(attribute='name') | join(',') }} {% endfor %}", "{% for k, l in people | groupby('age') %}{{ k }}{{ l | length }}{% endfor %}",
    "{{ raise_exception('Conversation roles must alternate') }}", "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}", "{{ raise_exception() }}", "{{ raise_exception(message='m') }}", 
    "{%- set ns = namespace(first=true) -%}{%- for m in messages -%}{%- if m.role == 'system' -%}{{ '<|sys|>' ~ m.content | trim ~ '<|end|>' }}{%- elif m['role'] == 'assistant' and m.tool_calls is defined -%}{%- for c in m.tool_calls -%}{{ '<call>' + (c.function | tojson) + '</call>' }}{%- endfor -%}{%- else -%}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|assistant|>\n' }}{%- endif -%}",
    "{% for m in messages %}{% if m.content is string %}{{ m.content.split('\n') | map('trim') | select | join(' / ') }}{% endif %}\n{% endfor %}", "{%- for tool in tools %}\n    {{- '\\n' }}\n    {{- tool | tojson(indent=4) }}\n{%- endfor %}\n", "{% for name, p in tools[0].function.parameters.properties | dictsort %}{{ name }}({{ p.type }}){{ '?' if name not in tools[0].function.parameters.required }}{% endfor %}", "{% for t in tools %}{{ t.function.parameters.properties.items() | map('last') | map(attribute='type') | list }}{% endfor %}",
]


def split_expressions():
    """The alternatives of each line: a "|" with a space on either side divides where what is before it is whole,
    which jinja2's own filters are not; so the lines are cut where the next part parses alone."""
    import jinja2
    env = jinja2.Environment()
    for line in EXPRESSIONS.replace("\\\n", "\\\0").strip().split("\n"):
        parts = line.replace("\0", "\n").split(" | ")
        at = 0
        while at < len(parts):
            end = at + 1
            # A bare filter name belongs to what is before it.
            while end < len(parts) and is_filter(parts[end], env):
                end += 1
            yield " | ".join(parts[at:end])
            at = end


def is_filter(part, env):
    import re
    name = re.match(r"[a-z_]+", part)
    return bool(name) and (name.group() in env.filters or name.group() == "nope") and part[:2] not in ("d.", "d[", "e.") and part not in ("d",)


def render(template, chat):
    chat = {**CHAT, **chat}
    options = {k: chat[k] for k in ("tools", "documents", "add_generation_prompt", "continue_final_message") if k in chat}
    try:
        messages = chat_template_utils._normalize_chat_messages(chat["messages"])
        text, _ = chat_template_utils.render_jinja_template(
            conversations=[messages], chat_template=template, **TOKENS, **options, **chat["kwargs"])
        return {"text": text[0]}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:160]}


CHATML = ("{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor -%}"
          "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}")
TRIMMED = "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}[/{{ m.role }}]{% endfor %}"
PARTS = "{% for m in messages %}{% for p in m.content %}{{ p.type }}:{{ p.text }};{% endfor %}{% endfor %}"
REASONING = "{% for m in messages %}{{ m.reasoning_content }}/{{ m.thinking }}/{{ m.reasoning }}/{{ m.content }};{% endfor %}{{ messages | tojson }}"
MESSAGES = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "It is \n"}]

CHATS = [
    (CHATML, {"add_generation_prompt": True}), (CHATML, {}), (CHATML, {"messages": MESSAGES, "continue_final_message": True}), (TRIMMED, {"messages": MESSAGES, "continue_final_message": True}),
    (CHATML, {"messages": [{"role": "user", "content": "q"}, {"role": "assistant"}], "continue_final_message": True}), ("{{ messages | length }}", {"messages": MESSAGES, "continue_final_message": True}), ("{{ messages[0].content }}", {"messages": MESSAGES, "continue_final_message": True}),
    (PARTS, {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}), (PARTS, {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b "}]}], "continue_final_message": True}), (PARTS, {"messages": [{"role": "user", "content": []}]}),
    (REASONING, {"messages": [{"role": "assistant", "content": "a", "reasoning_content": "r"}, {"role": "assistant", "content": "b", "thinking": "t"}, {"role": "assistant", "reasoning": "s", "content": None}, {"role": "assistant", "content": "c", "reasoning_content": None, "thinking": "u"}]}),
    ("{{ tools }}|{{ documents }}", {"tools": None}), ("{{ documents | tojson }}{% for d in documents %}{{ d.title }}{% endfor %}", {"documents": [{"title": "T", "text": "x"}]}), ("{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}", {}),
]


def main():
    cases = []
    for expression in split_expressions():
        cases.append({"template": "{{ " + expression + " }}"})
    cases += [{"template": block} for block in BLOCKS]
    cases += [{"template": template, **chat} for template, chat in CHATS]
    for case in cases:
        case.update(render(case["template"], {k: v for k, v in case.items() if k != "template"}))
        if " at 0x" in case.get("text", ""):  # an address
            case["skip"] = True
    cases = [case for case in cases if not case.pop("skip", False)]
    # As a text, which keeps integers that no C++ type holds.
    chat = {**CHAT, "kwargs": json.dumps(CHAT["kwargs"])}
    document = {"now": NOW, "special_tokens": TOKENS, "chat": chat, "cases": cases}
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    head = json.dumps({k: v for k, v in document.items() if k != "cases"}, ensure_ascii=True)
    Path(sys.argv[1]).write_text(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n')
    errors = sum("error" in case for case in cases)
    print(f"{len(cases)} cases, {errors} errors")


if __name__ == "__main__":
    main()
