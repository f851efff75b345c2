#!/usr/bin/env python3
"""Writes the inputs that the fuzz targets start from, made of the repository's goldens: OUT/TARGET/N.

usage: make_seeds.py OUT
"""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = pathlib.Path(sys.argv[1])
TEXTS = ROOT / "tests/engine/text/data"
NUM_TOOL_FORMATS, NUM_REASONING_FORMATS = 19, 8

CALLS = [
    'Let me see.\n<tool_call>\n{"name": "f", "arguments": {"n": 1}}\n</tool_call>',
    '<think>why</think>\n{"name": "f", "parameters": {"a": [1, "x"]}}',
    '[f(a=1, b="x"), g(c={"d": None})]',
    '[TOOL_CALLS][{"name": "f", "arguments": {"a": "\\u00e9"}}]',
    "[TOOL_CALLS]f[CALL_ID]abc[ARGS]{}",
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "<tool_call>\n<function=f>\n<parameter=a>\ntext\n</parameter>\n</function>\n</tool_call>",
    "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>text</arg_value>\n</tool_call>",
    '<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|><|tool_calls_section_end|>',
    '<|tool_call|>[{"name": "f", "arguments": {}}]',
    '<|START_THINKING|>x<|END_THINKING|><|START_ACTION|>[{"tool_call_id": "0", "tool_name": "f", "parameters": {}}]<|END_ACTION|>',
    '<|tools_prefix|>[{"f": {}}]<|tools_suffix|>',
    "<|tool_call_start|>[f(a=1)]<|tool_call_end|>",
    '<function=f>{"a": 1}</function>',
    '<|tool_call>call:f{a:<|"|>text<|"|>,n:1}<tool_call|>',
    "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
    "<seed:think>a</seed:think><seed:tool_call><function=f></function></seed:tool_call>",
    "[THINK]a[/THINK]b",
]
GRAMMARS = [
    (2, r"[a-z]+(\d{2,3})?"),
    (2, r"(foo|bar)*\p{L}"),
    (3, "yes\0no\0"),
    (4, 'root ::= "a" b | c\nb ::= [0-9]+\nc ::= "x" root'),
    (5, '{"type": "structural_tag", "format": {"type": "tag", "begin": "<a>", "content": {"type": "json_schema", "json_schema": {"type": "object"}}, "end": "</a>"}}'),
    (0, ""),
]
REQUESTS = [
    b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}",
    b"POST /x?y=z HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n0\r\nT: x\r\n\r\n",
    b"\r\n\r\nOPTIONS * HTTP/1.0\r\nConnection: keep-alive, Upgrade\r\n\r\n",
]
BODIES = [
    (0, {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}], "max_tokens": 5,
         "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "n": 2, "seed": 7, "stop": ["x", "y"], "logprobs": True, "top_logprobs": 2,
         "stream": True, "stream_options": {"include_usage": True}, "logit_bias": {"97": 1}, "presence_penalty": 1, "timeout": 5}),
    (0, {"messages": [{"role": "user", "content": "b"}, {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                      {"role": "tool", "tool_call_id": "c", "content": "1"}],
         "tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}],
         "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": False}),
    (0, {"messages": [{"role": "user", "content": "b"}], "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"type": "object"}}},
         "chat_template_kwargs": {"enable_thinking": False}, "documents": [{"text": "d"}], "continue_final_message": False}),
    (1, {"prompt": ["a", "b"], "echo": True, "logprobs": 2, "best_of": 1, "structured_outputs": {"choice": ["a", "b"]}, "stop_token_ids": [5], "return_token_ids": True}),
    (1, {"prompt": [[1, 2], [3]], "guided_regex": "a+", "min_tokens": 1, "ignore_eos": True, "prompt_logprobs": 1, "cache_salt": "s", "priority": 1}),
    (2, {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                   {"type": "function_call_output", "call_id": "c", "output": "1"}], "instructions": "i", "max_output_tokens": 5,
         "text": {"format": {"type": "json_object"}}, "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}], "stream": True}),
    (2, {"input": "x", "reasoning": {"effort": "low"}, "metadata": {"a": "b"}, "store": False}),
]
MESSAGES = [
    (0, "GenerateRequest", 'text: "a" sampling { temperature: 1 top_k: 3 top_p: 0.5 seed: 1 } stopping { max_tokens: 4 stop: "x" } response { logprobs: 2 }'),
    (0, "GenerateRequest", 'chat { messages { role: "user" content: "a" } tools: "{\\"type\\": \\"function\\", \\"function\\": {\\"name\\": \\"f\\"}}" } structured_output { regex: "a" }'),
    (1, "RenderChatRequest", 'chat { messages { role: "user" content: "a" } }'),
    (2, "TokenizeRequest", 'text: "a"'),
    (3, "DetokenizeRequest", "token_ids: [1, 2, 3]"),
]


def write(target, inputs):
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(inputs):
        (folder / str(i)).write_bytes(data if isinstance(data, bytes) else data.encode(errors="surrogatepass"))


def header_of(file):
    """A weights file cut to its header and a few bytes of each tensor: what is left is read all the same."""
    data = file.read_bytes()
    return data[: 8 + int.from_bytes(data[:8], "little") + 64]


def small_safetensors():
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
                         "__metadata__": {"format": "pt"}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(22)


def encode(message, text):
    """The bytes of a message of mea.v1, or nothing where protoc does not take the text."""
    done = subprocess.run(["protoc", f"--encode=mea.v1.{message}", "-Iproto", "mea/v1/inference.proto"], cwd=ROOT, input=text.encode(), capture_output=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode())
    return done.stdout


def main():
    models = sorted((ROOT / "tests/golden").glob("*/*/config.json"))
    write("safetensors", [small_safetensors()] + [header_of(m.parent / "model.safetensors") for m in models if (m.parent / "model.safetensors").exists()])
    write("config", [b"\0" + m.read_bytes() for m in models] + [b"\1" + g.read_bytes() for g in sorted((ROOT / "tests/golden").glob("*/*/generation_config.json"))])
    strings = json.loads((TEXTS / "strings.json").read_text())
    names = ["gpt2", "llama2", "llama3", "mistral", "qwen2", "digits", "partial", "unknown"]
    write("tokenizer", [(TEXTS / f"{name}.json").read_bytes() + b"\0" + "aé<s> 12".encode() for name in names])
    write("text", [bytes([i % 8, i % 7]) + s.encode(errors="surrogatepass") for i, s in enumerate(strings[::40])])
    goldens = json.loads((ROOT / "tests/engine/text/chat/data/goldens.json").read_text())
    templates = sorted(set(find_templates(goldens)))
    talk = json.dumps([{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    tools = json.dumps([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])
    write("template", [f"\1{template}\0{talk}\0{tools}\0{{}}" for template in templates])
    write("reply", [bytes([t, (t + i) % NUM_REASONING_FORMATS, 3]) + call.encode() for t in range(NUM_TOOL_FORMATS) for i, call in enumerate(CALLS)])
    schemas = [json.loads(line)["schema"] for line in (ROOT / "tests/engine/grammar/data/schemas.jsonl").read_text().splitlines()]
    write("schema", [b"\1" + json.dumps(schema).encode() for schema in schemas] + [bytes([kind]) + text.encode() for kind, text in GRAMMARS])
    write("http", REQUESTS)
    write("openai", [bytes([kind]) + json.dumps(body).encode() for kind, body in BODIES])
    write("proto", [bytes([kind]) + encode(message, text) for kind, message, text in MESSAGES])


def find_templates(value):
    """Every text of the goldens that is a template."""
    if isinstance(value, str):
        if "{%" in value or "{{" in value:
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from find_templates(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from find_templates(item)


main()
