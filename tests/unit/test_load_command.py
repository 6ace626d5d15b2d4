"""Locust's command line and environment."""

from __future__ import annotations

from lab.load import locust_command, locust_environment


def command(**changes) -> list[str]:
    arguments = {
        "python": "python",
        "locustfile": "loadtest/locustfile.py",
        "host": "http://127.0.0.1:8000",
        "users": 10,
        "spawn_rate": 2.5,
        "bound_s": 30.2,
        "stop_timeout_s": 65,
        "csv_prefix": "/run/locust",
        **changes,
    }
    return locust_command(**arguments)


def test_command_of_one_process_has_no_master():
    found = command()
    assert found[:5] == ["python", "-m", "locust", "-f", "loadtest/locustfile.py"]
    assert found[found.index("--run-time") + 1] == "31s"
    assert found[found.index("--spawn-rate") + 1] == "2.5"
    assert not [word for word in found if "master" in word or word == "--processes"]


def test_command_of_several_processes_stays_on_loopback():
    found = command(processes=3, master_port=5999)
    assert found[found.index("--processes") + 1] == "3"
    assert found[found.index("--master-bind-host") + 1] == "127.0.0.1"
    assert found[found.index("--master-port") + 1] == "5999"


def test_environment_drops_settings_of_another_run():
    base = {"LOCUST_USERS": "999", "PATH": "/bin", "HOME": "/root"}
    found = locust_environment("insert", "/logs", 9646, base)
    assert found == {
        "PATH": "/bin",
        "HOME": "/logs",
        "SCENARIO": "insert",
        "LOADTEST_DIR": "/logs",
        "LOCUST_METRICS_PORT": "9646",
    }
