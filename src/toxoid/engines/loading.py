"""Loading: from a folder or a Hub name to a model and a tokenizer that are safe to open and known by content.

Everything that can be wrong with a checkpoint is looked for before anything is opened, and told in one line.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open

from toxoid.data.schemas import user
from toxoid.engines.templates import encode, end_of_turn_ids, template_hash
from toxoid.errors import UsageError, did_you_mean
from toxoid.store.keys import content_key, file_sha256

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16"]
Template: TypeAlias = str | Path | Callable[[Any], str]
"""A Jinja file, the text of a template, or a function that makes one for the tokenizer it is given."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_HUB_FILES = ["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt", "*.tiktoken"]
_HUB_COPIES = ["*/*", "consolidated*"]  # other formats and other copies of the same weights
_NOT_CONTENT = ("_name_or_path", "transformers_version", "base_model_name_or_path")

_digests: dict[tuple[str, int, int], str] = {}


@dataclass(frozen=True)
class LoadedModel:
    """A chat model, ready for inference.

    Args:
        model: A causal language model of ``transformers`` in eval mode; adapter weights are merged in.
        tokenizer: Its tokenizer; has a chat template.
        source: What the caller named.
        identity: What its output depends on: hashes of weights, config, tokenizer, template and adapter, the
            dtype, the revision, the ids that end a turn. JSON values only; no paths, so that a moved folder
            stays the same model.
        special_tokens: Whether messages that spell special tokens become these, as in programs that tokenise a rendered
            conversation as a whole; otherwise they stay text (:mod:`toxoid.engines.quoting`).
    """

    model: Any
    tokenizer: Any
    source: str
    identity: dict[str, Any]
    special_tokens: bool = False


def load_model(
    source: str | Path,
    *,
    revision: str | None = None,
    adapter: str | Path | None = None,
    chat_template: Template | None = None,
    trust_remote_code: bool = False,
    dtype: Dtype = "auto",
    device: str = "auto",
) -> LoadedModel:
    """Load a chat model for inference.

    Args:
        source: A model folder, or a name on the Hugging Face Hub.
        revision: Branch, tag or commit; Hub names only.
        adapter: A PEFT adapter (folder or Hub name) to merge into the weights.
        chat_template: A template in place of the tokenizer's own, see :data:`Template`.
        trust_remote_code: Run Python code that comes with the checkpoint.
        dtype: ``auto`` is bfloat16 on a GPU that has it and float32 elsewhere.
        device: ``auto`` is the first GPU if there is one, else the CPU; or a torch device name.

    Raises:
        UsageError: The model cannot be loaded; one line says why and what to do.
    """
    target = device_of(device)
    precision = _precision(dtype, target)
    folder, commit = fetch(source, revision, trust_remote_code=trust_remote_code)
    config = checked_config(folder, trust_remote_code=trust_remote_code)
    weights = checked_weights(folder)
    addition = None if adapter is None else _checked_adapter(adapter)
    tokenizer = _load_tokenizer(folder, chat_template, trust_remote_code=trust_remote_code)
    model = _load_weights(folder, precision, trust_remote_code=trust_remote_code)
    if addition is not None:
        model = with_adapter(model, addition)
    model.to(target).eval()
    identity = {
        "kind": "local",
        "weights": content_key([[path.name, _digest(path)] for path in weights]),
        "config": content_key(_content(config)),
        "tokenizer": _tokenizer_hash(tokenizer),
        "template": template_hash(tokenizer),
        "stops": sorted(end_of_turn_ids(tokenizer, model)),
        "adapter": None if addition is None else _adapter_hash(addition),
        "dtype": str(precision).removeprefix("torch."),
        "revision": commit,
    }
    return LoadedModel(model=model, tokenizer=tokenizer, source=str(source), identity=identity)


def adapted(loaded: LoadedModel, adapter: str | Path) -> LoadedModel:
    """Return a loaded model with a PEFT adapter on top of what it has; ``loaded`` must not be used afterwards.

    Raises:
        UsageError: It is no adapter, or does not fit.
    """
    folder = _checked_adapter(adapter)
    model = with_adapter(loaded.model, folder).to(loaded.model.device).eval()
    earlier = loaded.identity.get("adapter")
    own = _adapter_hash(folder)
    identity = {**loaded.identity, "adapter": own if earlier is None else content_key(earlier, own)}
    return replace(loaded, model=model, identity=identity)


def with_adapter(model: Any, folder: Path, *, merge: bool = True) -> Any:
    """Return ``model`` with the PEFT adapter in ``folder``, merged into the weights where its type allows it.

    ``model`` itself is changed. Merged and unmerged give the same logits up to rounding.

    Raises:
        UsageError: The adapter does not fit the model, or changes the prompt and not the weights.
    """
    from peft import PeftConfig, PeftModelForCausalLM

    try:
        config = PeftConfig.from_pretrained(str(folder))
    except Exception as error:
        raise UsageError(
            f"the adapter_config.json in {folder} cannot be read: {first_line(error)}"
        ) from error
    if config.is_prompt_learning:
        raise UsageError(
            f"the adapter in {folder} is of type {config.peft_type.value}, which changes the prompt; "
            "give one that changes weights, such as LoRA"
        )
    with quietly():
        try:
            wrapped = PeftModelForCausalLM(model, config)
            loaded = wrapped.load_adapter(str(folder), "default")
        except Exception as error:
            raise UsageError(
                f"the adapter in {folder} does not fit the model: {first_line(error)}"
            ) from error
        strays = [*loaded.missing_keys, *loaded.unexpected_keys]
        if strays:
            raise UsageError(
                f"the adapter in {folder} does not fit the model: {len(strays)} tensors have no counterpart "
                f"there, first {strays[0]}; give the base model it was trained on"
            )
        if merge and hasattr(wrapped, "merge_and_unload"):
            return wrapped.merge_and_unload(safe_merge=True)
    return wrapped


def device_of(name: str) -> torch.device:
    """Return a device by name; ``auto`` is the first GPU if there is one, else the CPU.

    Raises:
        UsageError: It cannot be used here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f'device "{name}" cannot be used here: {first_line(error)}; try "cpu"') from error
    return device


def _precision(dtype: str, device: torch.device) -> torch.dtype:
    # On a CPU "auto" stays with float32 whatever the checkpoint was saved in: bfloat16 has 8 bits of
    # mantissa, so batched and single runs would part at near ties, and without AVX512-BF16 it is slower.
    if dtype == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in known:
        raise UsageError(
            f'unknown dtype "{dtype}": give auto, float32 or bfloat16.{did_you_mean(dtype, known)}'
        )
    return known[dtype]


def fetch(
    source: str | Path, revision: str | None, *, trust_remote_code: bool = False
) -> tuple[Path, str | None]:
    """Return the folder of ``source`` and its commit on the Hub (``None`` for a folder of the user's own).

    Raises:
        UsageError: There is no such folder or model, or the Hub cannot be reached.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if revision is not None:
            raise UsageError(f'revision "{revision}" was given, but {path} is a folder: drop --revision')
        return path, None
    if path.exists():
        raise UsageError(f"{path} is a file: give the folder that holds config.json and the weights")
    if not isinstance(source, str) or not _HUB_NAME.fullmatch(source):
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(f"no model folder {path}: give an existing one.{did_you_mean(path.name, siblings)}")
    return _download(source, revision, trust_remote_code=trust_remote_code)


def _download(name: str, revision: str | None, *, trust_remote_code: bool) -> tuple[Path, str]:
    # Pickle files are never even downloaded, and code only if it was asked for.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    wanted = [*_HUB_FILES, "*.py"] if trust_remote_code else _HUB_FILES
    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=wanted, ignore_patterns=_HUB_COPIES
        )
    except GatedRepoError as error:
        raise UsageError(
            f'"{name}" is gated on the Hub: accept its terms there and log in (hf auth login)'
        ) from error
    except RepositoryNotFoundError as error:
        raise UsageError(
            f'"{name}" is neither a folder here nor a model on the Hub (private ones need hf auth login)'
        ) from error
    except RevisionNotFoundError as error:
        raise UsageError(f'"{name}" has no revision "{revision}" on the Hub') from error
    except Exception as error:
        raise UsageError(
            f'"{name}" is no folder here, and the Hub cannot be reached for a model of that name '
            f"({type(error).__name__}): give the path of a model folder, or go online once"
        ) from error
    return Path(folder), Path(folder).name


def checked_config(folder: Path, *, trust_remote_code: bool) -> dict[str, Any]:
    """Return the content of config.json after all that can be known without opening weights was checked.

    Raises:
        UsageError: It is missing or damaged, or the checkpoint brings code that was not asked for.
    """
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UsageError(
                f"{folder} holds an adapter: give its base model, and this folder with --adapter"
            )
        raise UsageError(f"{folder} has no config.json: give the folder of a Hugging Face checkpoint")
    config = _read_json(folder / "config.json")
    tokenizer_config = folder / "tokenizer_config.json"
    texts = {"config.json": config}
    if tokenizer_config.is_file():
        texts["tokenizer_config.json"] = _read_json(tokenizer_config)
    for name, text in texts.items():
        if text.get("auto_map") and not trust_remote_code:
            raise UsageError(
                f"{folder} wants to run its own Python code (auto_map in {name}), which is refused unless "
                "asked for: read that code, then add --trust-remote-code"
            )
    return config


def checked_weights(folder: Path) -> list[Path]:
    """Return the safetensors files of the model, each with a sound header, sorted by name.

    Raises:
        UsageError: One is missing or damaged, or there are pickle files only.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = _read_json(index).get("weight_map", {})
        names = sorted(set(map(str, shards.values())))
    else:
        names = ["model.safetensors"] if (folder / "model.safetensors").is_file() else []
    if not names:
        raise _no_weights(folder)
    for name in names:
        _check_tensors(folder / name)
    return [folder / name for name in names]


def _no_weights(folder: Path, expected: str = "model.safetensors") -> UsageError:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        return UsageError(
            f"{folder} holds only pickle weights ({pickles[0]}), which can run code when opened, and is "
            f"refused: convert them to {expected}"
        )
    return UsageError(f"{folder} has no weights: expected {expected}")


def _check_tensors(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"{path} is missing: the index names it; download the checkpoint again")
    try:
        with safe_open(str(path), framework="pt") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"{path} cannot be read as safetensors ({first_line(error)}): download or save it again"
        ) from error


def _checked_adapter(adapter: str | Path) -> Path:
    folder, _ = fetch(adapter, None)
    if not (folder / "adapter_config.json").is_file():
        raise UsageError(f"{folder} is not a PEFT adapter: it has no adapter_config.json")
    if not (folder / "adapter_model.safetensors").is_file():
        raise _no_weights(folder, "adapter_model.safetensors")
    _check_tensors(folder / "adapter_model.safetensors")
    _read_json(folder / "adapter_config.json")
    return folder


def read_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Return the tokenizer in a folder.

    Raises:
        UsageError: There is none that can be loaded.
    """
    from transformers import AutoTokenizer

    try:
        with quietly():
            return AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=trust_remote_code
            )
    except Exception as error:
        raise UsageError(f"the tokenizer in {folder} cannot be loaded: {first_line(error)}") from error


def read_weights(
    kind: Any, folder: Path, dtype: torch.dtype, *, what: str, trust_remote_code: bool = False
) -> tuple[Any, list[str]]:
    """Return a model, and the tensors that its files lack: transformers fills them with random numbers and goes on.

    Args:
        kind: A class of ``transformers`` for models of all architectures, e.g. ``AutoModel``.
        folder: With config and weights.
        dtype: Of the weights in memory.
        what: Names the model in the error.
        trust_remote_code: Run Python code that comes with the checkpoint.

    Raises:
        UsageError: It cannot be loaded.
    """
    try:
        with quietly():
            model, report = kind.from_pretrained(
                str(folder),
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
            )
    except Exception as error:
        raise UsageError(f"the {what} in {folder} cannot be loaded: {first_line(error)}") from error
    return model, sorted(report["missing_keys"])


def _load_tokenizer(folder: Path, template: Template | None, *, trust_remote_code: bool) -> Any:
    tokenizer = read_tokenizer(folder, trust_remote_code=trust_remote_code)
    if template is not None:
        tokenizer.chat_template = template(tokenizer) if callable(template) else _template_text(template)
    if not tokenizer.chat_template:
        raise UsageError(
            f"the tokenizer in {folder} has no chat template: give one, --chat-template FILE.jinja"
        )
    try:
        encode(tokenizer, user("x"))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"the chat template of {folder} does not render ({first_line(error)}): give another, "
            "--chat-template FILE.jinja"
        ) from error
    return tokenizer


def _template_text(template: str | Path) -> str:
    if isinstance(template, str) and ("{{" in template or "{%" in template):
        return template
    path = Path(template).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the chat template {path} cannot be read: {first_line(error)}") from error


def _load_weights(folder: Path, dtype: torch.dtype, *, trust_remote_code: bool) -> Any:
    from transformers import AutoModelForCausalLM

    model, missing = read_weights(
        AutoModelForCausalLM, folder, dtype, what="model", trust_remote_code=trust_remote_code
    )
    if missing:
        raise UsageError(
            f"the weights in {folder} do not fit config.json: {len(missing)} tensors are missing, first "
            f"{missing[0]}; expected a causal language model, saved whole"
        )
    return model


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not readable JSON: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} must hold a JSON object, not {type(value).__name__}")
    return value


def _digest(path: Path) -> str:
    """Return the sha256 of a file; within the process a file of the same size and time is read once."""
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _digests:
        _digests[key] = file_sha256(path)
    return _digests[key]


def _adapter_hash(folder: Path) -> str:
    config = _content(_read_json(folder / "adapter_config.json"))
    return content_key(config, _digest(folder / "adapter_model.safetensors"))


def _content(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _NOT_CONTENT}


def _tokenizer_hash(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return content_key(backend.to_str() if backend is not None else tokenizer.get_vocab())


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the loaders' own bars and warnings: what matters in them is checked and raised as an error."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, short enough to stand inside another line."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text if len(text) <= 200 else text[:199] + "…"
