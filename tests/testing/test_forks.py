import signal
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.testing.forks import Fork, call


def program(folder: Path, code: str) -> list[str]:
    path = folder / "program.py"
    path.write_text(code)
    return [str(path)]


def test_a_program_has_the_arguments_folder_environment_and_streams_it_was_given(tmp_path: Path) -> None:
    code = "import os, sys\nprint(sys.argv[1:], os.getcwd(), dict(os.environ), sys.stdin.read())\nsys.exit('no')"
    done = call(program(tmp_path, code), ["a", "b"], cwd=tmp_path, env={"NAME": "value"})
    assert (done.returncode, done.stderr) == (1, "no\n")
    assert done.stdout == f"['a', 'b'] {tmp_path} {{'NAME': 'value'}} \n"


def test_a_module_is_run_as_by_python(tmp_path: Path) -> None:
    done = call(("-m", "penstock"), ["--version"], cwd=tmp_path)
    assert (done.returncode, done.stdout.split()[0]) == (0, "penstock")


def test_a_program_is_killed_signalled_and_waited_for(tmp_path: Path) -> None:
    running = Fork(program(tmp_path, "import time\ntime.sleep(600)"), log=tmp_path / "log", umask=0o027)
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(0.01)
    assert running.poll() is None
    running.send_signal(signal.SIGKILL)
    assert running.wait(60) == running.returncode == -signal.SIGKILL
    running.kill()  # ends nothing, as it has ended


def test_a_fork_has_a_umask_of_its_own_and_draws_numbers_of_its_own(tmp_path: Path) -> None:
    code = "import random\nopen('made', 'w').close()\nprint(random.random())"
    runs = [Fork(program(tmp_path, code), log=tmp_path / name, cwd=tmp_path, umask=0o077) for name in "ab"]
    assert [run.wait(60) for run in runs] == [0, 0]
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a").read_text() != (tmp_path / "b").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_fork_does_not_outlive_the_tests(tmp_path: Path) -> None:
    code = "import ctypes\nfound = ctypes.c_int()\nctypes.CDLL(None).prctl(2, ctypes.byref(found))\nprint(found.value)"
    assert call(program(tmp_path, code)).stdout == f"{int(signal.SIGKILL)}\n"
