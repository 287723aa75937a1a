"""Runs one command and ends it, with everything that it started, when the process that asked for it is gone.

`python -m paeplatform.pages.keeper COMMAND...`. Standard input is the read end of a pipe whose only write end the
parent holds: however the parent ends, `kill -9` included, the kernel closes that end, and the keeper reads the end of
the file. Nothing is asked or noted down, so there is no moment at which the parent's death is missed, and no process
id that may meanwhile belong to another.

A process of its own, and not a thread in the service: it works while the service is stopped or busy in C code, and
any program can be kept, unchanged. It imports next to nothing and needs some 10 MB.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

GRACE_S = 5.0
TICK_S = 0.2
_LIFELINE = 0  # standard input
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Keeper:
    """One command and its descendants, in the process group that this process leads.

    Args:
        command: the program and its arguments. It gets no standard input, hence no end of the pipe.
        grace_s: seconds that processes get to end after each step of the ending.
    """

    def __init__(self, command: Sequence[str], grace_s: float = GRACE_S) -> None:
        self._command, self._grace_s = list(command), grace_s
        self._pid = 0
        self._code: int | None = None
        self._parent_is_gone = False

    def run(self) -> int:
        """Runs the command to its end, or to the parent's; returns the command's exit code."""
        _adopt_orphans()
        # Whoever signals the group means the service: the keeper stays until the last one has ended. A handler, unlike
        # an ignored signal, is not inherited by the command.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        self._pid = subprocess.Popen(self._command, stdin=subprocess.DEVNULL).pid
        self._wait(lambda: self._code is not None or self._parent_is_gone)
        if not self._parent_is_gone:  # what an interrupted service leaves behind is ending too
            self._wait(lambda: self._parent_is_gone, self._grace_s)
        if self._any_left():
            os.killpg(0, signal.SIGTERM)
            self._wait(lambda: False, self._grace_s)
        if self._any_left():
            os.killpg(0, signal.SIGKILL)  # the keeper too
        return self._code or 0

    def _wait(self, until: Callable[[], bool], seconds: float = float("inf")) -> None:
        """Waits until a condition holds, nothing is left, or the time has passed."""
        deadline = time.monotonic() + seconds
        while self._any_left() and not until() and time.monotonic() < deadline:
            if self._parent_is_gone:
                time.sleep(TICK_S)  # the closed pipe stays readable
            elif select.select([_LIFELINE], [], [], TICK_S)[0] and not os.read(_LIFELINE, 4096):
                self._parent_is_gone = True
                sys.stderr.write(f"the process that started this is gone: ending {' '.join(self._command)}\n")
                sys.stderr.flush()

    def _any_left(self) -> bool:
        """Buries the dead; returns whether a child or an adopted orphan still lives."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self._pid:
                    code = os.waitstatus_to_exitcode(status)
                    self._code = code if code >= 0 else 128 - code  # as a shell writes a signal
        return False


def _adopt_orphans() -> None:
    """Makes this process the parent of what its descendants leave behind, so that it knows when all have ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(Keeper(sys.argv[1:]).run())
