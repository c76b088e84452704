"""What this machine has: cores, memory, disk, number formats, accelerators, versions, extras."""

from __future__ import annotations

import os
import platform
import re
import shutil
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "numpy", "scipy")
_CGROUP = Path("/sys/fs/cgroup")


def machine_facts() -> dict[str, Any]:
    """Return everything ``toxoid doctor`` knows, in JSON values; what cannot be found out is None."""
    from toxoid import __version__

    return {
        "toxoid": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_facts(),
        "memory_gb": memory_facts(),
        "disk_free_gb": disk_facts(),
        "torch": torch_facts(),
        "packages": {name: version_of(name) for name in _PACKAGES},
        "extras": extras(),
        "data_folder": data_folder(),
    }


def cpu_facts() -> dict[str, Any]:
    """Return the processor's name, its cores, those that we may use, and its bf16 instructions."""
    text = _read(Path("/proc/cpuinfo"))
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return {
        "name": name[1] if name else platform.processor() or None,
        "cores": os.cpu_count(),
        "usable": usable_cores(_read(_CGROUP / "cpu.max")),
        "bf16": bf16_instructions(text),
    }


def usable_cores(cpu_max: str) -> int:
    """Return the cores this process may use: by affinity, and by the quota of its container.

    Args:
        cpu_max: The text of the cgroup's ``cpu.max``: ``"<quota> <period>"`` or ``"max <period>"``, in µs.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = re.match(r"(\d+) (\d+)", cpu_max)
    return min(allowed, max(1, int(quota[1]) // int(quota[2]))) if quota else allowed


def bf16_instructions(cpuinfo: str) -> list[str]:
    """Return which bf16 instruction sets a ``/proc/cpuinfo`` text names; without one, bf16 does not pay."""
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    named = set(flags[1].split()) if flags else set()
    return [name for name in ("avx512_bf16", "amx_bf16", "bf16") if name in named]


def memory_facts() -> dict[str, float | None]:
    """Return total and available memory in GB, within the container's limit."""
    text = _read(Path("/proc/meminfo"))
    found = {
        key: int(value) / 1024**2 for key, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)
    }
    total, available = found.get("MemTotal"), found.get("MemAvailable")
    limit = _read(_CGROUP / "memory.max").strip()
    if limit.isdecimal() and total is not None and available is not None:
        bound = int(limit) / 1024**3
        total, available = min(total, bound), min(available, bound)
    return {"total": _rounded(total), "available": _rounded(available)}


def disk_facts() -> dict[str, float | None]:
    """Return the free space in GB here and where models are downloaded to."""
    cache = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return {"here": _free(Path.cwd()), "model_cache": _free(cache)}


def torch_facts() -> dict[str, Any]:
    """Return torch's version, threads and accelerators, or why it does not load."""
    try:
        import torch
    except Exception as error:  # a broken installation is what a doctor is for
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    gpus = [
        {
            "name": torch.cuda.get_device_name(index),
            "memory_gb": _rounded(torch.cuda.get_device_properties(index).total_memory / 1024**3),
            "bf16": torch.cuda.is_bf16_supported(),
        }
        for index in range(torch.cuda.device_count())
    ]
    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "mps": bool(torch.backends.mps.is_available()),
    }


def version_of(package: str) -> str | None:
    """Return the installed version of a package; None if it is not installed."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def extras() -> dict[str, list[str]]:
    """Return, for each extra of toxoid, the packages that are missing (none: it is installed)."""
    try:
        required = metadata.requires("toxoid") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in required:
        match = re.match(r"""([A-Za-z0-9._-]+).*;.*extra\s*==\s*['"]([^'"]+)['"]""", line)
        if match:
            missing = found.setdefault(match[2], [])
            if version_of(match[1]) is None:
                missing.append(match[1])
    return found


def data_folder() -> str | None:
    """Return the folder in which public data sets are found; None if there is none."""
    from toxoid.data.loading import data_folders
    from toxoid.errors import UsageError

    with suppress(UsageError):
        return next((str(folder.resolve()) for folder in data_folders() if folder.is_dir()), None)
    return None


def _free(folder: Path) -> float | None:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with suppress(OSError):
        return _rounded(shutil.disk_usage(folder).free / 1024**3)
    return None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text("utf-8", errors="replace")
    return ""
