"""Tiny guards: random checkpoints of the architectures, with templates like those that guards bring."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.helpers.tiny_models import tiny_tokenizer
from toxoid.engines.templates import encode_text

GUARDS = {
    "llama_guard": ("llama-guard", "llama", "llama3"),
    "wildguard": ("wildguard", "mistral", "mistral"),
    "granite_guardian": ("granite-guardian", "granite", "chatml"),
    "shieldgemma": ("shieldgemma", "gemma2", "gemma"),
}
"""Family -> (name of the folder, architecture, tokenizer)."""

ALTERNATING = (
    "Look for unsafe content.\n{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "<END>{{ eos_token }}"
)
IN_PARTS = (
    "Look for unsafe content.\n{% for m in messages %}{% for part in m['content'] | selectattr('type', 'equalto', "
    "'text') %}{{ m['role'] }}: {{ part['text'] }}\n{% endfor %}{% endfor %}<END>"
)
WITH_CONFIG = (
    "{% if guardian_config['risk_name'] != 'harm' %}{{ raise_exception('which risk?') }}{% endif %}"
    "{{ strftime_now('%Y-%m-%d') }} risk {{ guardian_config['criteria_id'] }}\n"
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
)
WITH_GUIDELINE = (
    "{{ '* ' + guideline }}\n{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}\n{% endfor %}"
)


def guard_tokenizer(family: str, template: str | None = None):
    """Return a tokenizer for a family, with the chat template of a checkpoint or none."""
    tokenizer = copy.deepcopy(tiny_tokenizer(GUARDS[family][2]))
    tokenizer.chat_template = template
    return tokenizer


def guard_model(family: str, *, positions: int = 8192):
    """Return a random model of the family's architecture (2 layers, width 32)."""
    _, architecture, _ = GUARDS[family]
    tokenizer = guard_tokenizer(family)
    torch.manual_seed(0)
    config = CONFIG_MAPPING[architecture](
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=positions,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def save_guard(folder: Path, family: str, *, template: str | None = None, model=None, **options) -> Path:
    """Write a tiny guard below ``folder``, named for its family, and return its folder."""
    path = folder / f"tiny-{GUARDS[family][0]}"
    (model or guard_model(family, **options)).save_pretrained(path)
    guard_tokenizer(family, template).save_pretrained(path)
    return path


@torch.no_grad()
def saying(family: str, last: str, reply: str):
    """Return a model that says ``reply`` after a prompt that ends with the token ``last``, and then stops.

    Its layers add nothing, so that the last token alone decides on the next one. No token may occur twice.
    """
    tokenizer, model = guard_tokenizer(family), guard_model(family)
    chain = [*encode_text(tokenizer, last)[-1:], *encode_text(tokenizer, reply), tokenizer.eos_token_id]
    assert len(set(chain)) == len(chain)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    embeddings = torch.nn.functional.normalize(torch.randn(len(tokenizer), 32), dim=1)
    model.model.embed_tokens.weight.copy_(embeddings)
    head = torch.zeros_like(embeddings)
    for token, following in pairwise(chain):
        head[following] = embeddings[token]
    model.lm_head.weight = torch.nn.Parameter(head)
    return model
