"""The store in object storage: what it takes, what it says when the service says no, and what it leaves."""

from __future__ import annotations

import gc
import http.server
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from obstore.store import LocalStore, MemoryStore
from weighbridge_hookspecs import ConfigurationError, ContextClosed, StorageDamaged, StorageFailed

from weighbridge.leases.object_store import ObjectBucket


def test_an_address_opens_a_bucket(tmp_path: Path) -> None:
    """What obstore understands as an address is one, with its options."""
    with ObjectBucket(f"file://{tmp_path}/objects", mkdir=True) as bucket:
        bucket.namespace("kettle").put("tea/green", b"hot")
    assert (tmp_path / "objects" / "kettle" / "tea!2Fgreen").read_bytes() == b"hot"
    with ObjectBucket("memory:///") as bucket:
        assert bucket.namespace("kettle").get("tea") is None


def test_object_storage_is_used_like_this(tmp_path: Path) -> None:
    """What the page on the store shows works as it stands."""
    address, options = f"file://{tmp_path}", dict[str, Any](mkdir=True)
    # snippet: remote
    with ObjectBucket(address, **options) as bucket:  # such as "s3://bucket/prefix", region="eu-west-1"
        store = bucket.namespace("kettle")
        store.put("teas/green", b"80")
        assert store.get("teas/green") == b"80"
    # end snippet


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("bogus://x", {}),
        ("no address", {}),
        ("file:///no/such/folder", {}),
        ("memory:///", {"colour": "red"}),
        ("", {}),
    ],
)
def test_an_address_that_nobody_understands_is_refused(address: str, options: dict[str, Any]) -> None:
    """The error has one line, names the address and says where addresses are described."""
    with pytest.raises(ConfigurationError, match="cannot be opened") as caught:
        ObjectBucket(address, **options)
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "obstore.store.from_url" in str(caught.value)


def test_without_obstore_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address needs the extra, and the advice names it."""
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'weighbridge\[remote\]'"):
        ObjectBucket("s3://bucket")


def test_a_bound_on_a_namespace_is_refused() -> None:
    """Nobody here knows what others put into the bucket, and a bound that does not hold is worse than none."""
    with pytest.raises(ConfigurationError, match="takes no max_bytes"):
        ObjectBucket(MemoryStore()).namespace("kettle", max_bytes=123 * 8)


def test_what_is_not_known_is_none() -> None:
    """Keys, bytes and files would take a request for each thousand objects, so they are not counted."""
    held = ObjectBucket(MemoryStore()).namespace("kettle").statistics()
    assert (held.keys, held.bytes, held.files, held.max_bytes) == (None, None, None, None)


def test_objects_of_others_are_no_keys(tmp_path: Path) -> None:
    """What somebody else put under the prefix is passed over, in whatever way it is named."""
    objects = LocalStore(tmp_path)
    store = ObjectBucket(objects).namespace("kettle")
    store.put("tea", b"green")
    for name in ("a b", "folder/file", "!", "!GG", "!ff", "!FF", "x!2f", "é"):
        objects.put(f"kettle/{name}", b"theirs")
    assert list(store.keys()) == ["tea"]


def test_an_object_that_is_larger_than_a_value_is_not_read() -> None:
    """Somebody else may have put a gigabyte there; it is refused by its size, and can be deleted."""
    objects = MemoryStore()
    store = ObjectBucket(objects, max_value_bytes=10).namespace("kettle")
    objects.put("kettle/tea", b"x" * 11)
    with pytest.raises(StorageDamaged, match=r"kettle/tea .*wanted 10 bytes at most, had 11 bytes"):
        store.get("tea")
    store.delete("tea")
    assert store.get("tea") is None


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """A put that the system refuses says so, and is not counted."""
    store = ObjectBucket(LocalStore(tmp_path / "objects", mkdir=True)).namespace("kettle")
    (tmp_path / "objects").rmdir()
    (tmp_path / "objects").write_bytes(b"")
    with pytest.raises(StorageFailed, match="did not put 'tea' into the store 'kettle'"):
        store.put("tea", b"green")
    assert store.statistics().puts == 0


class Refusal(http.server.BaseHTTPRequestHandler):
    """A service that says no to everything."""

    def refuse(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = refuse

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_service_that_says_no_is_an_error_of_one_line(refusing: str) -> None:
    """Every call fails with what the service said, and neither the key nor the signature of the account is told."""
    bucket = ObjectBucket(
        "s3://bucket",
        endpoint=refusing,
        region="us-east-1",
        access_key_id="name",
        secret_access_key="very-secret",
        client_options={"allow_http": True, "timeout": timedelta(seconds=30)},
        retry_config={"max_retries": 0},
    )
    store = bucket.namespace("kettle")
    calls: tuple[tuple[str, Callable[[], object]], ...] = (
        ("get 'tea' of", lambda: store.get("tea")),
        ("put 'tea' into", lambda: store.put("tea", b"green")),
        ("delete 'tea' from", lambda: store.delete("tea")),
        ("list", lambda: list(store.keys())),
    )
    for words, call in calls:
        with pytest.raises(StorageFailed, match=f"did not {words} the store 'kettle'") as caught:
            call()
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "403" in str(caught.value) or "PermissionDenied" in str(caught.value)
    bucket.close()


def test_a_secret_in_an_address_is_not_told() -> None:
    """An address may carry a key behind a question mark or before its host; errors leave both out."""
    with pytest.raises(ConfigurationError) as caught:
        ObjectBucket("bogus://name:very-secret@bucket/path?sig=very-secret")
    assert str(caught.value).count("bogus://...@bucket/path?...") >= 1
    assert "secret" not in str(caught.value)


def test_a_bucket_of_the_parent_is_not_used_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads of obstore are not there in a child, which would wait for them for ever."""
    bucket = ObjectBucket(MemoryStore())
    store = bucket.namespace("kettle")
    monkeypatch.setattr("weighbridge.leases.object_store.os.getpid", lambda: -1)
    with pytest.raises(ContextClosed, match="which forked this one"):
        store.get("tea")


def test_two_hundred_buckets_leave_nothing(tmp_path: Path) -> None:
    """Once the threads of obstore are there, neither descriptors nor threads nor bytes come with a bucket."""
    process = psutil.Process()

    def step() -> None:
        with ObjectBucket(f"file://{tmp_path}") as bucket:
            store = bucket.namespace("kettle")
            store.put("tea", b"green")
            assert list(store.keys()) == ["tea"]
            store.delete("tea")

    def held() -> tuple[int, int]:
        gc.collect()
        return tracemalloc.get_traced_memory()[0], len(process.open_files())

    for _ in range(20):
        step()
    tracemalloc.start()
    try:
        step()
        before = held()
        for _ in range(200):
            step()
        after = held()
    finally:
        tracemalloc.stop()
    assert after[1] == before[1]
    assert after[0] - before[0] < 200 * 8  # less than one pointer for each
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
