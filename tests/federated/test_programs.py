"""Flower's programs: how they are found, spoken to and ended. Most of it needs no Flower."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prunus.cli import main
from prunus.errors import TrainingError
from prunus.federated import programs, superlink
from prunus.federated.programs import Programs, marked

CHILD = "import time; print('up', flush=True); time.sleep(600)"
LEAVES = f"""
import subprocess, sys, signal
subprocess.Popen([sys.executable, '-c', {CHILD!r}], start_new_session=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
{CHILD}
"""


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Programs that need no Flower."""
    monkeypatch.setattr(programs, "needs_flower", lambda: None)
    monkeypatch.setattr(programs, "_GRACE", 1.0)
    with Programs(tmp_path / "programs") as here:
        yield here


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_program_ends_with_children_that_left_it_and_signals_that_it_ignores(started):
    process = started.start("stubborn", sys.executable, "-c", LEAVES)
    until(lambda: started.log("stubborn").count("up") == 2)
    assert len(marked(f"{started._mark}/stubborn")) == 2
    started.stop("stubborn")
    assert process.poll() is not None and not marked(f"{started._mark}/stubborn")


def test_programs_end_with_the_block_even_after_an_error(started):
    with pytest.raises(RuntimeError), started:
        process = started.start("one", sys.executable, "-c", CHILD)
        raise RuntimeError
    assert process.poll() is not None


def test_sigterm_ends_them_too(tmp_path):
    kept = tmp_path / "mark"
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from prunus.federated import programs\n"
        "programs.needs_flower = lambda: None\n"
        "with programs.ended_in_order(), programs.Programs(Path(sys.argv[1])) as here:\n"
        "    process = here.start('sleeper', 'sleep', '600')\n"
        "    Path(sys.argv[2]).write_text(str(process.pid))\n"
        "    process.wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, tmp_path / "home", kept])
    while not (kept.exists() and kept.read_text()):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.terminate()
    assert parent.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(kept.read_text()), 0)


def test_a_call_gives_what_was_said_this_time_or_says_what_went_wrong(started):
    assert started.call("x", sys.executable, "-c", "print(1)").strip() == "1"
    assert started.call("x", sys.executable, "-c", "print(2)").strip() == "2"
    with pytest.raises(TrainingError, match=r"failed \(3\): because"):
        started.call("x", sys.executable, "-c", "print('because'); raise SystemExit(3)")
    with pytest.raises(TrainingError, match=r"did not end in 0\.5 s"):
        started.call("x", sys.executable, "-c", CHILD, seconds=0.5)
    with pytest.raises(TrainingError, match="'flower-nothing' is not there"):
        started.start("x", "flower-nothing")


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("10.0.0.5", "10.0.0.5", 8000),
        ("edge:81", "edge", 81),
        ("[::1]", "[::1]", 8000),
        ("[::1]:9", "[::1]", 9),
    ],
)
def test_an_address_may_leave_its_port_out(given, host, port):
    assert superlink._split(given) == (host, port)


@pytest.mark.parametrize(
    ("address", "given", "expected"),
    [
        ("127.0.0.1:81", "runs", Path("runs").absolute()),
        ("edge:81", "runs", Path("~/runs")),
        ("edge", "/srv/runs", Path("/srv/runs")),
    ],
)
def test_a_folder_is_one_of_the_machine_of_the_superlink(address, given, expected):
    assert superlink.there(address, given) == expected


@pytest.mark.parametrize("given", ["edge:", "edge:x", ":80"])
def test_an_address_that_is_none_is_refused(given):
    with pytest.raises(ValueError, match="HOST or HOST:PORT"):
        superlink._split(given)


def test_a_connection_is_plain_on_this_machine_only(tmp_path):
    def written(certificate, here):
        superlink.write_connection(tmp_path, "edge:1", certificate, here)
        return (tmp_path / "config.toml").read_text(encoding="utf-8")

    assert "insecure = true" in written(None, True)
    assert "insecure" not in written(None, False)
    secure = written(tmp_path / "ca.crt", True)
    assert "insecure" not in secure and str(tmp_path / "ca.crt") in secure


def test_flower_is_understood_among_its_warnings_and_when_it_refuses():
    assert superlink.run_of('warning: x\n{"success": true, "run-id": "7"}\nbye') == "7"
    with pytest.raises(TrainingError, match="took no run: no such app"):
        superlink.run_of('{"success": false, "error-message": "no such app"}')
    with pytest.raises(TrainingError, match="not answered in JSON: Traceback"):
        superlink.run_of("Traceback")


def test_rounds_are_told_once_each_and_only_when_they_are_whole(tmp_path):
    log, seen = tmp_path / "rounds.jsonl", []
    look = superlink.told(log, seen.append)
    look()
    log.write_text('{"round": 0}\n{"round"')
    look()
    log.write_text('{"round": 0}\n{"round": 1}\n')
    look()
    look()
    assert seen == [{"round": 0}, {"round": 1}]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--connect", "edge", "--simulate"], "three ways"),
        (["--app", "x", "--connect", "edge"], "three ways"),
        (["--certificate", "ca.crt"], "--certificate goes with --connect"),
        (["--connect", "edge:port"], "HOST or HOST:PORT"),
        (["--simulate"], "pip install 'prunus[fed-sim]'"),
        (["--connect", "edge"], "pip install 'prunus[fed]'"),
    ],
)
def test_the_command_says_what_is_wrong_before_anything_is_done(
    recipe, tmp_path, capsys, monkeypatch, more, message
):
    monkeypatch.setattr(superlink, "find_spec", lambda name: None)
    monkeypatch.setattr(programs, "find_spec", lambda name: None)
    file = tmp_path / "small.toml"
    file.write_text(recipe().to_toml())
    assert main(["federate", str(file), "--dir", str(tmp_path / "runs"), *more]) == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "runs").rglob("rounds.jsonl"))


@pytest.fixture
def answers(monkeypatch):
    """Answer for Flower's command line: what `flwr run` and then each `flwr list` say."""
    monkeypatch.setattr(programs, "needs_flower", lambda: None)
    monkeypatch.setattr(superlink, "_ASK", 0.0)

    def answer(*statuses):
        left = [{"success": True, "run-id": "7"}]
        left += [{"success": True, "runs": [{"run-id": "7", "status": s}]} for s in statuses]
        monkeypatch.setattr(Programs, "call", lambda *given, **options: json.dumps(left.pop(0)))
        return left

    return answer


def test_a_run_elsewhere_is_waited_for_and_its_result_left_there(
    recipe, tmp_path, capsys, answers, monkeypatch
):
    left = answers("pending", "running", "finished:completed")
    file = tmp_path / "small.toml"
    file.write_text(recipe().to_toml())
    monkeypatch.chdir(tmp_path)
    arguments = ["federate", str(file), "--dir", "runs", "--connect", "edge:81"]
    arguments += ["--certificate", "ca.crt"]
    assert main(arguments) == 2 and "no certificate at" in capsys.readouterr().err
    (tmp_path / "ca.crt").touch()
    assert main([*arguments, "--nodes", "2", "--timeout", "9"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert not left and "the result lies on the SuperLink's machine, below ~/runs" in said
    (app,) = (tmp_path / "runs").rglob("app/pyproject.toml")
    assert 'directory = "~/runs"' in app.read_text()
    assert "nodes = 2" in app.read_text() and "seconds = 9.0" in app.read_text()
    (config,) = (tmp_path / "runs").rglob("config.toml")
    assert "edge:81" in config.read_text() and "ca.crt" in config.read_text()


def test_a_run_that_failed_elsewhere_is_an_error(recipe, tmp_path, answers):
    answers("running", "finished:failed")
    with pytest.raises(
        TrainingError, match="ended as 'finished:failed' on the SuperLink at edge:8"
    ):
        superlink.connect(recipe(), "edge:80", tmp_path)


def test_a_superlink_that_goes_away_is_an_error_after_a_while(recipe, tmp_path, answers):
    left = answers("running", *["gone"] * 3)
    for silent in left[2:]:
        del silent["runs"]
        silent |= {"success": False, "error-message": "no route"}
    with pytest.raises(TrainingError, match="does not answer: no route"):
        superlink.connect(recipe(), "edge:80", tmp_path)
    left = answers("gone", "gone", "finished:completed")
    for silent in left[1:3]:
        del silent["runs"]
    assert superlink.connect(recipe(), "edge:80", tmp_path) is None


def test_a_superlink_that_is_not_there_is_an_error(recipe, tmp_path, capsys):
    pytest.importorskip("flwr", reason="needs Flower: pip install '.[fed]'")
    file = tmp_path / "small.toml"
    file.write_text(recipe().to_toml())
    address = f"127.0.0.1:{programs.free_port()}"
    arguments = ["federate", str(file), "--dir", str(tmp_path / "runs"), "--connect", address]
    assert main(arguments) == 1
    assert "SuperLink is unavailable" in capsys.readouterr().err


def test_a_run_is_not_done_twice_at_once(recipe, tmp_path):
    from prunus.federated import execute, federate
    from prunus.files import alone

    told = recipe()
    with (
        alone(execute.directory_of(told, tmp_path)),
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(BlockingIOError, match="another process is at work"),
    ):
        patch.setattr(execute, "_ENDING", 0.3)
        federate(told, tmp_path)


def test_the_module_of_a_loopback_explains_itself():
    pytest.importorskip("flwr", reason="needs Flower: pip install '.[fed]'")
    command = [sys.executable, "-m", "prunus.federated.loopback", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--nodes" in said and "SuperNodes" in said
