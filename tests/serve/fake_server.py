"""A server on a free port whose model is fake: ``python -m tests.serve.fake_server SETTINGS PACE CUT TIMES``."""

from __future__ import annotations

import json
import sys

from tests.serve.backends import FakeBackend
from toxoid.serve.server import run_server
from toxoid.serve.service import Service
from toxoid.serve.settings import load_settings


def main(settings: str, pace: str, cut: str, times: str) -> None:
    """Serve until stopped; the first line of standard output is the URL."""
    backend = FakeBackend(lambda request, i: "x" * int(cut) * int(times), cut=int(cut), pace=float(pace))
    served = Service(backend, load_settings(given={"port": 0, **json.loads(settings)}))
    served.reload = lambda: backend.swap(None)
    run_server(served, lambda url: print(url, flush=True))  # noqa: T201
    print(json.dumps({"finished": backend.finished, "swapped": backend.swapped}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
