"""MLflow's pages as a command: no server outlives it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from orchestrator.plan.study import Study
from orchestrator.tracking.views import _ended_by_signals

SERVE = "import sys; from pathlib import Path; from orchestrator.tracking.views import ui; "


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_either_signal_interrupts_even_where_a_shell_had_it_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), _ended_by_signals():
            os.kill(os.getpid(), number)
            signal.pause()
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_terminated_command_takes_its_server_with_it(recorded: Study) -> None:
    code = SERVE + "sys.exit(ui(Path(sys.argv[1]), 0, lambda line: print(line, flush=True)))"
    command = subprocess.Popen([sys.executable, "-c", code, recorded.workspace], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:(\d+)/", command.stdout.readline())
    assert found is not None
    command.terminate()
    assert command.wait(60) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(found[1])), timeout=5)
