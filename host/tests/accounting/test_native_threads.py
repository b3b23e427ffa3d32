"""Threads of compiled libraries are seen; Python's own are not mistaken for them."""

from __future__ import annotations

import _thread
import ctypes
import sys
import threading

import pytest

from weighbridge.accounting import tasks
from weighbridge.accounting.tasks import Tasks

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="it is known on Linux only")


@linux_only
def test_a_thread_that_python_did_not_start_is_native() -> None:
    """It is there as long as it runs, and gone when it has ended."""
    before = Tasks.now()
    libc, thread = ctypes.CDLL(None), ctypes.c_ulong()
    seconds = ctypes.c_void_p(2)
    assert libc.pthread_create(ctypes.byref(thread), None, libc.sleep, seconds) == 0
    started = Tasks.now().since(before)
    assert libc.pthread_join(thread, None) == 0
    assert len(started) == 1
    assert not started & Tasks.now().unknown


@linux_only
def test_threads_of_python_are_not_native() -> None:
    """Neither those of the threading module, nor those that were started past it."""
    before, go_on = Tasks.now(), threading.Event()
    running = [threading.Event(), threading.Event()]

    def run(event: threading.Event) -> None:
        event.set()
        go_on.wait()
        ended.release()

    ended = threading.Semaphore(0)
    thread = threading.Thread(target=run, args=(running[0],))
    thread.start()
    _thread.start_new_thread(run, (running[1],))
    for event in running:
        assert event.wait(30)
    found = Tasks.now().since(before)
    go_on.set()
    thread.join()
    ended.acquire(timeout=30)
    assert found == frozenset()


def test_where_the_system_does_not_tell_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is invented."""
    monkeypatch.setattr(tasks, "_FOLDER", "/nowhere/at/all")
    assert Tasks.now().unknown == frozenset()
