"""Commands as processes of their own that start with all imports done.

Importing what a command needs takes longer than most commands do. So one process imports everything
once, and is forked for each command that a test runs. The command has its own arguments,
environment, files, signals and exit status, and its interpreter shuts down as usual. What comes
before the fork, starting and importing, is tested where commands are started as a user does it: in
tests/cli/test_main.py, test_run.py, test_demo.py and by the oracle.

`Starter` is the tests' side. Run as a program, this module is the process that is forked, which
holds no thread and no connection. It is forked twice for each command, so that a watcher can wait
for the command::

    a test ──(arguments, environment, files)──▶ this process ──fork──▶ a watcher ──fork──▶ a command
       ◀──────────────────(process id, then exit status)──────────────────┘
"""

import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Self

from archiver.cli import main

ROOT = Path(__file__).parent.parent.parent
MOST_BYTES = 1 << 20


class Started:
    """A command that runs; the end of the block kills it if it has not ended."""

    def __init__(self, told: IO[bytes]) -> None:
        self._told = told
        self.pid = int(told.readline())
        self._status: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait()
        self._told.close()

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, unless it was seen to end."""
        if self._status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait until the command ends; returns its exit status as `subprocess` does."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(int(self._told.readline()))
        return self._status


class Starter:
    """Starts commands by forking a process that has already imported them."""

    def __init__(self) -> None:
        self.constants: dict[str, object] = {}
        """Values that replace constants in commands, such as shorter waits, by module and name."""
        self._control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.forks", str(its.fileno())],
                cwd=ROOT,
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # not seekable, like the outputs that commands get
            )

    def close(self) -> None:
        """End the process that is forked; commands that run go on."""
        self._control.close()
        self._process.communicate()

    def start(self, arguments: Sequence[str], environ: Mapping[str, str], *files: int) -> Started:
        """Start a command whose standard input, output and error are *files*."""
        reader, writer = os.pipe()
        asked = json.dumps([arguments, dict(environ), self.constants]).encode()
        socket.send_fds(self._control, [asked], [*files, writer])
        os.close(writer)
        return Started(os.fdopen(reader, "rb", buffering=0))

    def run(
        self, arguments: Sequence[str], environ: Mapping[str, str]
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command without input to its end; return its status and what it wrote."""
        (out, its_out), (err, its_err) = os.pipe(), os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        with self.start(arguments, environ, nothing, its_out, its_err) as started:
            for file in (nothing, its_out, its_err):
                os.close(file)
            told = _read(out, err)
            return subprocess.CompletedProcess(list(arguments), started.wait(), *told)


def _read(*files: int) -> list[bytes]:
    """Read pipes until nobody can write to them any more, close them, and return what came."""
    told = dict.fromkeys(files, b"")
    with selectors.DefaultSelector() as selector:
        for file in files:
            selector.register(file, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                chunk = os.read(key.fd, 65536)
                told[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return list(told.values())


def _serve(control: socket.socket) -> None:
    """Fork for each command that is requested; return only in the process of a command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for watchers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        asked, files, _, _ = socket.recv_fds(control, MOST_BYTES, 4)
        if not asked:
            sys.exit()
        *standard, told = files
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _watch(standard, told)
            _become(*json.loads(asked))
            return
        for file in files:
            os.close(file)


def _watch(standard: Sequence[int], told: int) -> None:
    """Fork again, and report the command's pid and exit status; return only in the command."""
    pid = os.fork()
    for number, file in enumerate(standard):
        if pid == 0:
            os.dup2(file, number)
        # Only the command may keep these open: a reader waits until every writer has closed.
        os.close(file)
    if pid == 0:
        os.close(told)
        return
    os.write(told, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(told, b"%d\n" % status)
    os._exit(0)


def _become(
    arguments: Sequence[str], environ: Mapping[str, str], constants: Mapping[str, object]
) -> None:
    """Make this process look as if it had been started with these."""
    for place, value in constants.items():
        module, _, name = place.rpartition(".")
        assert hasattr(sys.modules[module], name), place
        setattr(sys.modules[module], name, value)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    sys.argv = [str(main.__file__), *arguments]
    # Python's streams were set up for the files that it started with; all else looks at the files
    # when it needs to know.
    assert isinstance(sys.stdout, TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())


if __name__ == "__main__":
    for group in main.COMMANDS.values():
        for module, _ in group.values():
            import_module(module)
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    main.main()
