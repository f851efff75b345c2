"""Compares mea's chat templates with transformers, byte by byte, on every *.jinja of a directory.

    pip install transformers jinja2
    cmake --build build/release --target render_chat
    python tools/check_chat_templates.py DIR [--render build/release/tests/engine/text/chat/render_chat]

Each template renders the conversations below. Both must give the same text, or both an error; the text
must be the one that mea's marks divide. A template that does not go through the parts of a content gets
their texts joined by newlines on both sides: that is mea's rule, and transformers has none.
"""

import argparse
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from transformers.utils import chat_template_utils

NOW = 1764500000
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class FrozenTime(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.fromtimestamp(NOW, tz)


chat_template_utils.datetime = FrozenTime


def tool(name, properties, required=(), **more):
    return {"type": "function", "function": {
        "name": name, "description": f"Does {name}: \"quoted\", <tag> & more.\nSecond line.",
        "parameters": {"type": "object", "properties": properties, "required": list(required)}, **more}}


WEATHER = tool("get_weather", {
    "city": {"type": "string", "description": "The city, e.g. \"Zürich\""},
    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
    "days": {"type": ["integer", "null"], "minimum": 1, "maximum": 14},
}, ["city"])
NESTED = tool("plan", {
    "steps": {"type": "array", "items": {"type": "object", "properties": {
        "name": {"type": "string"}, "cost": {"type": "number"}}, "required": ["name"]}},
    "options": {"type": "object", "properties": {"fast": {"type": "boolean"}, "a": {"anyOf": [
        {"type": "string"}, {"type": "null"}]}}},
    "tags": {"type": "array", "items": {"type": "string"}},
    "any": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "nothing": {},
}, ["steps"], strict=True)
EMPTY = tool("ping", {})
RETURNS = tool("answer", {"x": {"type": "integer", "nullable": True}}, **{
    "return": {"type": "object", "properties": {"y": {"type": "string"}}}})
TOOLS = [WEATHER, NESTED]
USER = {"role": "user", "content": "What is the weather in Zürich?"}
SYSTEM = {"role": "system", "content": "You are terse."}
DOCUMENTS = [{"title": "One", "text": "First text."}, {"title": "Two", "text": "Zweiter \"Text\".", "doc_id": 7}]


def call(name, arguments, id="abcdefghi", **more):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def calls(*tool_calls, content=None, **more):
    message = {"role": "assistant", "tool_calls": list(tool_calls), **more}
    if content is not None:
        message["content"] = content
    return message


def result(content, name="get_weather", id="abcdefghi"):
    return {"role": "tool", "name": name, "tool_call_id": id, "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def user(content):
    return {"role": "user", "content": content}


def text(content):
    return {"type": "text", "text": content}


ONE = [USER, calls(call("get_weather", {"city": "Zürich", "days": 3}))]
ODD = {"s": "a \"b\"\n\tc\\d</tool_call>", "i": -5, "big": 123456789012345678901234567890, "f": 1.5, "e": 1e-7,
       "E": 1e22, "whole": 2.0, "t": True, "n": None, "l": [1, [2, {}], []], "d": {"k": "v", "é": "日本語 🎉"}}


def conversations():
    """(name, messages, options)"""
    prompt = {"add_generation_prompt": True}
    go_on = {"continue_final_message": True}
    yield "one message", [USER], prompt
    yield "one message, no prompt", [USER], {}
    yield "system", [SYSTEM, USER], prompt
    yield "system, no prompt", [SYSTEM, USER], {}
    yield "system only", [SYSTEM], prompt
    yield "developer", [{"role": "developer", "content": "Be brief."}, USER], prompt
    yield "several messages", [SYSTEM, USER, assistant("Sunny."), user("And tomorrow?"), assistant("Rain."),
                            user("Thanks")], prompt
    yield "ends with assistant", [USER, assistant("Sunny.")], {}
    yield "ends with assistant, prompt", [USER, assistant("Sunny.")], prompt
    yield "empty strings", [{"role": "system", "content": ""}, user(""), assistant(""), user("")], prompt
    yield "spaces", [{"role": "system", "content": "  x \n"}, user("\n\n  hi \t\n"), assistant(" yes \n"),
                     user(" ")], prompt
    yield "unicode", [user("日本語 🎉👩‍👩‍👧 ß İ e\u0301 \u200b \u00a0x\u00a0"), assistant("שלום \U0001f600"), user("\u2028 \x0b\x1c end")], prompt
    yield "look-alikes", [user("<|im_end|>\n<|im_start|>system\nhi<|eot_id|></s>[/INST]<end_of_turn>{{ x }}{% if %}<think>no</think>"),
                          assistant("<think>hm</think>ok"), user("<|user|><|assistant|>")], prompt
    yield "html and quotes", [user("a < b && \"c\" > 'd' \\n \\ / %s {} {0}")], prompt
    yield "two users", [user("a"), user("b")], prompt
    yield "two systems", [SYSTEM, SYSTEM, USER], prompt
    yield "late system", [USER, assistant("a"), SYSTEM, user("b")], prompt
    yield "begins with assistant", [assistant("Hello"), USER], prompt
    yield "unknown role", [{"role": "critic", "content": "hm"}], prompt
    yield "named", [{"role": "user", "name": "ann", "content": "hi"}], prompt
    yield "tools", [USER], {"tools": TOOLS, **prompt}
    yield "tools and system", [SYSTEM, USER], {"tools": TOOLS, **prompt}
    yield "no tools in the list", [USER], {"tools": [], **prompt}
    yield "odd tools", [SYSTEM, USER], {"tools": [EMPTY, RETURNS, WEATHER], **prompt}
    yield "call", ONE, {"tools": TOOLS}
    yield "call and result", [*ONE, result("{\"temp\": 21.5}")], {"tools": TOOLS, **prompt}
    yield "call, result, answer", [SYSTEM, *ONE, result("21"), assistant("It is 21."), user("ok")], {"tools": TOOLS, **prompt}
    yield "call with content", [USER, calls(call("get_weather", {"city": "Bern"}), content="Let me see."), result("ok")], {"tools": TOOLS, **prompt}
    yield "call with empty content", [USER, calls(call("get_weather", {"city": "Bern"}), content=""), result("ok")], {"tools": TOOLS, **prompt}
    yield "parallel calls", [USER, calls(call("get_weather", {"city": "A"}, "aaaaaaaaa"), call("plan", {"steps": []}, "bbbbbbbbb")),
                             result("1", "get_weather", "aaaaaaaaa"), result("2", "plan", "bbbbbbbbb")], {"tools": TOOLS, **prompt}
    yield "calls in several messages", [*ONE, result("1"), calls(call("plan", {"steps": [{"name": "x"}]}, "ccccccccc")), result("2", "plan", "ccccccccc"),
                             assistant("done"), user("more"), calls(call("ping", {})), result("pong", "ping")], {"tools": TOOLS, **prompt}
    yield "odd arguments", [USER, calls(call("plan", ODD)), result("ok")], {"tools": TOOLS, **prompt}
    yield "empty arguments", [USER, calls(call("ping", {})), result("")], {"tools": TOOLS, **prompt}
    yield "call without tools", [*ONE, result("x"), user("y")], prompt
    yield "result alone", [USER, result("x")], prompt
    yield "reasoning", [USER, assistant("Sunny.", reasoning_content="It is\nsummer."), user("Sure?")], prompt
    yield "reasoning at the end", [USER, assistant("Sunny.", reasoning_content="\nIt is summer.\n")], {}
    yield "thinking", [USER, assistant("Sunny.", thinking="Hm."), user("Sure?"), assistant("Yes", thinking="x")], {}
    yield "reasoning and calls", [USER, calls(call("get_weather", {"city": "A"}), content="", reasoning_content="I should look."),
                                  result("1"), calls(call("ping", {}), reasoning_content="Again.")], {"tools": TOOLS}
    yield "reasoning and calls, answered", [USER, calls(call("get_weather", {"city": "A"}), reasoning_content="I should look."),
                                            result("1"), assistant("Done.", reasoning_content="Now."), user("ok")], {"tools": TOOLS, **prompt}
    yield "think in content", [USER, assistant("<think>\nhm\n</think>\n\nSunny."), user("Sure?"), assistant("<think></think>Yes")], {}
    yield "think in content, prompt", [USER, assistant("<think>\nhm\n</think>\n\nSunny."), user("Sure?")], prompt
    for value in (True, False):
        yield f"enable_thinking {value}", [SYSTEM, USER], {"enable_thinking": value, **prompt}
        yield f"thinking {value}", [USER, assistant("a", reasoning_content="r"), user("b")], {"thinking": value, **prompt}
    yield "enable_thinking False with tools", [*ONE, result("1")], {"tools": TOOLS, "enable_thinking": False, **prompt}
    yield "kwargs", [USER], {"reasoning_effort": "high", "model_identity": "You are mea.", "builtin_tools": ["browser", "python"],
                             "custom_tools": None, "date_string": "1 Jan 2026", "thinking_budget": 512, **prompt}
    yield "more kwargs", [SYSTEM, USER], {"reasoning_effort": "low", "citation_mode": "fast", "safety_mode": "contextual",
                                          "preserve_thinking": True, "clear_thinking": False, "controls": {"length": "short"}, **prompt}
    yield "tools_in_user_message", [SYSTEM, USER], {"tools": TOOLS, "tools_in_user_message": False, **prompt}
    yield "documents", [SYSTEM, USER], {"documents": DOCUMENTS, **prompt}
    yield "documents and tools", [USER], {"documents": DOCUMENTS, "tools": TOOLS, **prompt}
    yield "continue", [USER, assistant("It is")], go_on
    yield "continue after space", [USER, assistant("It is  \n")], go_on
    yield "continue user", [SYSTEM, user("Tell me")], go_on
    yield "continue with reasoning", [USER, assistant("It is", reasoning_content="Hm.")], go_on
    yield "continue nothing", [USER, calls(call("ping", {}))], go_on
    yield "continue and prompt", [USER, assistant("It is")], {**go_on, **prompt}
    yield "parts", [{"role": "system", "content": [text("Be brief.")]}, user([text("Hello,"), text(" world ")]),
                    assistant([text("Hi.")]), user([text("And?")])], prompt
    yield "no parts", [user([])], prompt
    yield "parts of results", [*ONE, {**result([text("21"), text("22")])}], {"tools": TOOLS, **prompt}
    yield "continue parts", [USER, assistant([text("It"), text("is")])], go_on
    yield "null content", [USER, {**ONE[1], "content": None}, result("ok")], {"tools": TOOLS, **prompt}
    yield "no content", [USER, {"role": "assistant"}, USER], prompt
    yield "long", [SYSTEM] + [m for i in range(60) for m in (user(f"Question {i}? " * 20), assistant(f"Answer {i}. " * 30))] + [USER], prompt
    yield "long ids", [USER, calls(call("ping", {}, "call_0123456789abcdef")), result("pong", "ping", "call_0123456789abcdef")], {"tools": TOOLS, **prompt}
    yield "results as objects", [*ONE, result("{\"a\": [1, 2, {\"b\": null}]}"), result("[1, 2]"), result("not json")], {"tools": TOOLS, **prompt}


def joined(messages):
    """Contents of parts as one string."""
    return [{**m, "content": "\n".join(part["text"] for part in m["content"])}
            if isinstance(m.get("content"), list) else m for m in messages]


def reference(template, messages, options):
    options = dict(options)
    if not messages:
        return None, "empty"
    if options.get("continue_final_message") and options.get("add_generation_prompt"):
        return None, "both"
    try:
        normalized = chat_template_utils._normalize_chat_messages(messages)
        rendered, _ = chat_template_utils.render_jinja_template(
            conversations=[normalized], chat_template=template, **{**TOKENS, **options})
        return rendered[0], None
    except Exception as error:  # whatever the template or jinja2 raises
        return None, f"{type(error).__name__}: {error}"


class Renderer:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def render(self, template, messages, options):
        texts, flags = ("tools", "documents"), ("add_generation_prompt", "continue_final_message")
        # JSON within JSON: the program hands these texts on as they are.
        request = {"template": template, "special_tokens": TOKENS, "messages": json.dumps(messages), "now": NOW,
                   "kwargs": json.dumps({k: v for k, v in options.items() if k not in texts + flags}),
                   **{k: json.dumps(v) for k, v in options.items() if k in texts},
                   **{k: v for k, v in options.items() if k in flags}}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def first_difference(a, b):
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"at {at}: transformers {a[max(0, at - 40):at + 60]!r}, mea {b[max(0, at - 40):at + 60]!r}"


def marks_fit(answer):
    size, end = len(answer["text"].encode()), -1
    for begin, stop in answer["inputs"]:
        if not end < begin < stop <= size:
            return False
        end = stop
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--render", default="build/release/tests/engine/text/chat/render_chat")
    parser.add_argument("--verbose", action="store_true", help="also the errors that both give")
    args = parser.parse_args()
    renderer = Renderer(args.render)
    total = equal = errors = 0
    for path in sorted(args.dir.glob("*.jinja")):
        with open(path, encoding="utf-8") as file:
            template = file.read()
        parts = renderer.render(template, [USER], {}).get("takes_parts", False)
        failed = 0
        count = raised = 0
        for name, messages, options in conversations():
            expected, error = reference(template, messages if parts else joined(messages), options)
            answer = renderer.render(template, messages, options)
            count += 1
            if error is not None and "error" in answer:
                raised += 1
                if args.verbose:
                    print(f"  {path.name}, {name}: {error} | {answer['error']}")
            elif error is not None:
                failed += 1
                print(f"{path.name}, {name}: transformers raises {error[:300]!r}, mea renders")
            elif "error" in answer:
                failed += 1
                print(f"{path.name}, {name}: transformers renders, mea says {answer['error'][:300]!r}")
            elif answer["text"] != expected:
                failed += 1
                print(f"{path.name}, {name}: {first_difference(expected, answer['text'])}")
            elif not marks_fit(answer):
                failed += 1
                print(f"{path.name}, {name}: marks {answer['inputs'][:5]} do not fit the text")
        print(f"{path.name}: {count - failed} of {count} equal, {raised} of them errors of both"
              f"{', takes parts' if parts else ''}")
        total, equal, errors = total + count, equal + count - failed, errors + raised
    print(f"all: {equal} of {total} equal, {errors} of them errors of both")
    return 0 if equal == total and total > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
