#!/usr/bin/env python3
"""LangChain's ChatOpenAI against a server: answers, a stream, a tool, a class. A model that follows instructions is wanted.

usage: tools/clients/langchain_chat.py [URL [MODEL]]      default http://127.0.0.1:8000, the first model there
Wants: pip install langchain-openai
"""

import sys
import typing

import httpx
import pydantic
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def weather(city: typing.Literal["Paris", "Oslo"]) -> str:
    """The weather of a city."""
    return f"It rains in {city}."


class Person(pydantic.BaseModel):
    name: typing.Literal["Ada", "Bob"]
    age: int = pydantic.Field(ge=0, le=150)


def main():
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    name = sys.argv[2] if len(sys.argv) > 2 else httpx.get(url + "/v1/models").json()["data"][0]["id"]
    model = ChatOpenAI(base_url=url + "/v1", api_key="none", model=name, temperature=0, max_tokens=64, max_retries=0)

    answer = model.invoke("What is the capital of France?")
    assert isinstance(answer, AIMessage) and answer.usage_metadata["output_tokens"] > 0
    print("invoke:", answer.content)

    pieces = list(model.stream("Count to five."))
    assert len(pieces) > 2
    print("stream:", "".join(piece.content for piece in pieces))

    print("batch:", [message.content for message in model.batch(["Say yes.", "Say no."])])

    question = HumanMessage("How is the weather in Paris?")
    with_tool = model.bind_tools([weather], tool_choice="required", parallel_tool_calls=False)
    call = with_tool.invoke([question])
    assert [made["name"] for made in call.tool_calls] == ["weather"]
    result = ToolMessage(weather.invoke(call.tool_calls[0]["args"]), tool_call_id=call.tool_calls[0]["id"])
    print("tool:", call.tool_calls, "->", model.bind_tools([weather], tool_choice="none").invoke([question, call, result]).content)

    person = model.with_structured_output(Person, method="json_schema").invoke("Ada is 36 years old.")
    assert isinstance(person, Person)
    print("structured:", person)


if __name__ == "__main__":
    main()
