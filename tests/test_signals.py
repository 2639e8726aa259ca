"""What a hang-up does, of a terminal that is closed: small processes, without a training."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

START = "import fcntl, sys, termios, time; from flowlab import signals\n"
TERMINAL = "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"  # the process is hung up with it
END = "print('interrupted', flush=True); open('code', 'w').write(str(code)); sys.exit(code)"
BY_EXCEPTION = f"""
signals.leave_by_exception()
try:
    print('ready', flush=True)
    time.sleep(60)
except SystemExit as stop:
    code = stop.code
    time.sleep(0.5)  # a shell sends its own SIGHUP after that of the terminal
{END}
"""
NOTED = f"""
noted = signals.Noted(); noted.start(); print('ready', flush=True)
while not noted.signum:
    time.sleep(0.1)
time.sleep(0.5)
noted.stop(); code = 128 + noted.signum
{END}
"""


@pytest.mark.parametrize("program", [BY_EXCEPTION, NOTED])
def test_a_closed_terminal_ends_a_program_that_still_speaks(program: str, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", START + TERMINAL + program],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    assert os.read(ours, 100).startswith(b"ready")
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=20) == 129
    assert (tmp_path / "code").read_text() == "129"


def test_nohup_keeps_a_program_from_it() -> None:
    program = "signals.leave_at_once(); print('ready', flush=True); time.sleep(0.5)"
    process = subprocess.Popen(
        ["bash", "-c", 'trap "" HUP; exec "$@"', "-", sys.executable, "-c", START + program],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=20) == 0
    process.stdout.close()
