"""What every test gets: a HOME of its own, and a loopback box when it asks for one."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from box import Box
from hypothesis import HealthCheck, settings

# An example that took long says that the machine is busy, and nothing of what is tested.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


def pytest_configure() -> None:
    """Who started us may ignore interrupts (a shell's `&`) or a hang-up (nohup), and so would all that we start."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts programs and boxes gets three minutes where it asks for nothing else: a bound costs only when red."""
    folder = Path(__file__).parent / "integration"
    for item in items:
        if folder in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(180))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that was skipped is a failure: a tier that cannot run must not look green."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", ())) if reporter else 0
    if skipped and os.environ.get("CI") == "true":
        reporter.write_line(f"CI: {skipped} skipped; every tier has to run here", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or touches the user's files, agent or settings."""
    folders = {
        "HOME": "home",
        "XDG_STATE_HOME": "home/.local/state",
        "XDG_CONFIG_HOME": "home/.config",
        "XDG_DATA_HOME": "home/.local/share",
    }
    for name, folder in folders.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(name, str(tmp_path / folder))
    for name in tuple(os.environ):
        if name == "SSH_AUTH_SOCK" or name.startswith("BABYSIT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make_box(tmp_path: Path) -> Iterator[Callable[..., Box]]:
    """`make_box(name="gpu1", **options of Box.start)` starts a box; all of them end with the test."""
    reason = Box.available()
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    boxes: list[Box] = []

    def make(name: str = "gpu1", **options: Any) -> Box:
        boxes.append(Box.start(tmp_path / f"box-{name}", name=name, **options))
        return boxes[-1]

    try:
        yield make
    finally:
        for box in boxes:
            box.stop()


@pytest.fixture
def box(make_box: Callable[..., Box]) -> Box:
    """One box with an ordinary user."""
    return make_box()
