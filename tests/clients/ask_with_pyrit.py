"""Sends one prompt as an attack of PyRIT: ``python ask_with_pyrit.py URL KEY``."""

import asyncio
import json
import sys

from pyrit.executor.attack import PromptSendingAttack
from pyrit.prompt_target import OpenAIChatTarget
from pyrit.setup import IN_MEMORY, initialize_pyrit_async


async def main():
    """Print the outcome and the reply."""
    url, key = sys.argv[1:]
    await initialize_pyrit_async(memory_db_type=IN_MEMORY)
    target = OpenAIChatTarget(endpoint=url, api_key=key, model_name="lab-base", max_completion_tokens=64)
    attack = PromptSendingAttack(objective_target=target)
    found = await attack.execute_async(objective="Where does the mill stand?")
    told = {"outcome": str(found.outcome), "reply": found.last_response.converted_value}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
