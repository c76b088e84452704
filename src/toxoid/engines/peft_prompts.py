"""PEFT exchange: one half of a shield as a prompt-tuning adapter, and two adapters as a shield.

PEFT puts its virtual tokens before everything. A prompt that stands in the place of a system message is therefore
exported together with the tokens before it, and the card says which tokens have to follow.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from toxoid.data.schemas import user
from toxoid.engines.contrast import UNCONTRASTED, Contrast
from toxoid.engines.guided import with_guidance
from toxoid.engines.loading import LoadedModel
from toxoid.engines.local import LocalEngine
from toxoid.engines.prompting import Prompting, Soft
from toxoid.engines.shield import (
    Half,
    Shield,
    check_fit,
    is_free,
    made_for,
    read_json,
    read_tensors,
    whole_folder,
)
from toxoid.engines.soft_prompt import Frame, Place, embeddings_of, vectors_of
from toxoid.engines.templates import encode
from toxoid.errors import UsageError
from toxoid.store.files import write_text_atomic

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"

_EMBEDDINGS = "prompt_embeddings"


def export_peft(shield: Shield, half: Half, folder: Path, *, loaded: LoadedModel) -> None:
    """Write one half as a prompt-tuning adapter, which ``peft.PeftModel.from_pretrained`` loads.

    Args:
        shield: The shield.
        half: ``opposite`` is a ready-made jailbreak of the model.
        folder: A new or empty folder.
        loaded: The model of the shield.

    Raises:
        UsageError: The model is another one, ``folder`` is not empty, or the disk refuses.
    """
    from peft import PromptTuningConfig

    check_fit(shield, loaded)
    if not is_free(folder):
        raise UsageError(f"{folder} exists and is not empty: give a new or empty folder")
    place = Place(loaded.tokenizer, shield.frame)
    prompt = shield.safe if half == "safe" else shield.opposite
    vectors = torch.cat([vectors_of(loaded.model, place.head).cpu(), prompt])
    text = loaded.model.config.get_text_config()
    config = PromptTuningConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=loaded.source,
        inference_mode=True,
        num_virtual_tokens=len(vectors),
        token_dim=vectors.shape[1],
        num_transformer_submodules=1,
        num_attention_heads=text.num_attention_heads,
        num_layers=text.num_hidden_layers,
    )
    with whole_folder(folder.absolute()) as built:
        config.save_pretrained(str(built))
        (built / TENSORS).write_bytes(save({_EMBEDDINGS: vectors.contiguous()}))
        write_text_atomic(built / "README.md", _card(shield, half, place, loaded.tokenizer))


def import_peft(safe: Path, opposite: Path, *, loaded: LoadedModel, contrast: Contrast) -> Shield:
    """Return the shield of two prompt-tuning adapters, with placement ``front``.

    Args:
        safe: Folder of the adapter that makes the model safe.
        opposite: Folder of the one that makes it comply.
        loaded: The model that both were trained on.
        contrast: How the shield is meant to be used.

    Raises:
        UsageError: One is no prompt-tuning adapter in safetensors, does not fit the model, or both differ in length.
    """
    size = embeddings_of(loaded.model).embedding_dim
    prompts = [_prompt(folder, size) for folder in (safe, opposite)]
    lengths = [len(prompt) for prompt in prompts]
    if lengths[0] != lengths[1]:
        raise UsageError(
            f"{safe} has {lengths[0]} virtual tokens and {opposite} has {lengths[1]}: train both with the same "
            "num_virtual_tokens"
        )
    facts = {
        "source": "PEFT prompt tuning",
        "safe": safe.absolute().name,
        "opposite": opposite.absolute().name,
    }
    return Shield(prompts[0], prompts[1], Frame("front"), made_for(loaded), contrast, facts)


def soft_prompted(loaded: LoadedModel, folder: Path, mask: Contrast = UNCONTRASTED) -> LocalEngine:
    """Return the engine that asks a model under a prompt-tuning adapter, as PEFT does: it stands before everything.

    Args:
        loaded: The model.
        folder: The adapter.
        mask: Its plausibility; there is nothing to contrast.

    Raises:
        UsageError: ``folder`` holds no prompt-tuning adapter in safetensors, or it does not fit the model.
    """
    embeddings = embeddings_of(loaded.model)
    prompt = _prompt(folder, embeddings.embedding_dim)
    first = embeddings.num_embeddings
    digest = sha256(prompt.numpy().tobytes()).hexdigest()
    context = Soft(Place(loaded.tokenizer, Frame("front")), range(first, first + len(prompt)))
    table = prompt.to(loaded.model.device)
    identity = {"soft_prompt": digest, "plausibility": mask.plausibility}
    return LocalEngine(loaded, Prompting(context, contrast=mask, table=table, identity=identity))


def _prompt(folder: Path, size: int) -> torch.Tensor:
    """Return the prompt of an adapter, (tokens, ``size``) float32."""
    config = _config(folder / CONFIG)
    kind = config.get("peft_type")
    if kind != "PROMPT_TUNING":
        raise UsageError(f"the adapter in {folder} is of type {kind}: give one of type PROMPT_TUNING")
    if not (folder / TENSORS).is_file():
        raise UsageError(
            f"{folder} has no {TENSORS}: only safetensors are read, since pickle files can run code; save it again"
        )
    prompt = read_tensors(folder / TENSORS)[0].get(_EMBEDDINGS)
    if prompt is None or prompt.dim() != 2 or not prompt.is_floating_point() or len(prompt) == 0:
        raise UsageError(
            f"{folder / TENSORS} holds no prompt: expected a tensor `{_EMBEDDINGS}`, (virtual tokens, size)"
        )
    if prompt.shape[1] != size:
        raise UsageError(
            f"the virtual tokens in {folder} have {prompt.shape[1]} numbers, and the model's embeddings {size}: "
            "give the model that the adapter was trained on"
        )
    if not bool(prompt.isfinite().all()):
        raise UsageError(f"{folder / TENSORS} holds numbers that are not finite: train the adapter again")
    return prompt.float()


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"{path.parent} is not a PEFT adapter: it has no {CONFIG}")
    config = read_json(path)
    if not isinstance(config, dict):
        raise UsageError(f"{path} must hold a JSON object, not {type(config).__name__}")
    return config


def _card(shield: Shield, half: Half, place: Place, tokenizer: Any) -> str:
    return _TEXT.format(
        name=shield.model.get("name"),
        what=_WHAT[half],
        warning=_WARNING if half == "opposite" else "",
        use=_FRONT if shield.frame.placement == "front" else _after_system(shield, place, tokenizer),
    )


def _after_system(shield: Shield, place: Place, tokenizer: Any) -> str:
    example, manual = user("Hello"), shield.frame.manual
    whole, rest = encode(tokenizer, with_guidance(example, manual)), place.rest(example)
    return _SYSTEM.format(
        head=list(place.head),
        soft=shield.length,
        manual=manual,
        dropped=len(whole) - len(rest),
        rest=list(rest),
    )


_WHAT = {"safe": "the safe half", "opposite": "the adversarial half"}

_WARNING = """
**This prompt makes the model comply with harmful requests: it is a ready-made jailbreak of it. Give it to nobody who
should not have that.**
"""

_TEXT = """\
# A soft prompt for {name}

A PEFT prompt-tuning adapter for `{name}`, and for no other model: {what} of a shield that toxoid made.
{warning}
## Use

```python
model = peft.PeftModel.from_pretrained(model, FOLDER)
```

{use}
"""

_FRONT = "Conversations follow as the chat template writes them; no system message is needed."

_SYSTEM = """\
The virtual tokens are the first ones that the chat template writes, {head}, and {soft} that stand in the place of a
system message. What the model is given must go on from there. Render the conversation with this system message (and
whatever it has of its own after it, separated by a blank line), open the assistant's turn, tokenise the text without
adding special tokens, and leave out the first {dropped} ids:

```
{manual}
```

For the user message `Hello` the ids to give are {rest}."""
