"""Classes of C that nobody has used yet: they have no attributes so far, nor an order of bases."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import _socket
from weighbridge.accounting.references import namespace_of, referenced, stored_in
assert list(referenced(_socket)) is not None
assert stored_in(_socket.socket).get("nothing of the sort") is None
print(namespace_of(_socket)["__name__"])
"""


def test_a_class_that_was_never_made_ready_is_looked_at() -> None:
    """On Python 3.11 the class of sockets is like that until the first one is made."""
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("_socket", "")
