"""Asks with OpenAI's SDK what it can ask: ``python ask_with_openai.py URL KEY``."""

import json
import sys

import openai

URL, KEY = sys.argv[1:]
ASKED = {
    "model": "lab-base",
    "messages": [{"role": "user", "content": "Where does the mill stand?"}],
    "max_tokens": 64,
    "temperature": 0,
}


def error(key=KEY, **changes):
    """Return the type of the error that a changed request ends in."""
    try:
        openai.OpenAI(base_url=URL, api_key=key).chat.completions.create(**{**ASKED, **changes})
    except openai.APIStatusError as problem:
        return type(problem).__name__
    return None


def main():
    """Print what came back."""
    client = openai.OpenAI(base_url=URL, api_key=KEY)
    chat = client.chat.completions
    whole = chat.create(**ASKED, n=2, seed=1, logprobs=True, top_logprobs=2)
    chunks = list(chat.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    with chat.stream(**ASKED) as stream:
        accumulated = stream.get_final_completion().choices[0].message.content
    begun = {**ASKED, "messages": [*ASKED["messages"], {"role": "assistant", "content": "The mill"}]}
    continued = chat.create(
        **begun, extra_body={"continue_final_message": True, "add_generation_prompt": False}
    )
    text = client.completions.create(model="lab-base", prompt="Hello.", max_tokens=4, logprobs=1)
    told = {
        "whole": whole.choices[0].message.content,
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
        "accumulated": accumulated,
        "choices": len(whole.choices),
        "alternatives": len(whole.choices[0].logprobs.content[0].top_logprobs),
        "usage": chunks[-1].usage.total_tokens
        == chunks[-1].usage.prompt_tokens + whole.usage.completion_tokens // 2,
        "continued": continued.choices[0].message.content + text.choices[0].text,
        "models": [model.id for model in client.models.list()],
        "errors": [error(model="none"), error(temperature=9), error(key="wrong")],
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
