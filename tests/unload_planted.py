"""Loads a planted plugin twice, as a leaver and as a bystander, unloads the leaver, and prints what came of it as JSON.

python unload_planted.py PLUGIN_FILE safe|all|none NAME...
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from weighbridge.fabricate import write_distribution
from weighbridge.host import Host


def main(file: Path, cut: Any, names: list[str]) -> dict[str, Any]:
    """What the receipt says, and whether the bystander noticed anything."""
    source = file.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        for name in names:
            write_distribution(Path(folder), name, source, attribute="", package=name, distribution=name)
        host = Host(path=[folder])
        for name in names:
            host.load(name)
            use = getattr(sys.modules[name], "use", None)
            if use is not None:
                use()
            del use
        bystander = sys.modules.get("bystander")
        before = bystander.intact() if bystander else True
        threads = threading.active_count()
        receipt = host.unload("leaver", cut=cut)
        return {
            "state": receipt.state,
            "ties": sorted({one.tie for one in receipt.ties}),
            "outcomes": sorted({one.outcome for one in receipt.ties}),
            "findings": [f"{one.tie}: {one.place} holds {one.held} ({one.outcome} {one.note})" for one in receipt.ties],
            "survivors": [
                f"{one.kind} {one.name} <- {' <- '.join(one.chain)} [{one.tie}]" for one in receipt.survivors
            ],
            "failures": list(receipt.failures),
            "before": before,
            "after": bystander.intact() if bystander else True,
            "threads": threading.active_count() - threads,
        }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])), flush=True)
    os._exit(0)  # what was planted may not let the interpreter end
