"""Fixtures that several modules share."""

import os
import shutil
import signal
from pathlib import Path

import hypothesis
import pytest

from pipelines import progress

# Before anything imports TensorFlow: its notices would bury the tests' own output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# How long an example takes to draw or to run says something of the machine, nothing of the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _silent(monkeypatch):
    """No word of progress among the lines that tests look at, however slow the machine is."""
    monkeypatch.setattr(progress, "SILENCE", 1e9)


@pytest.fixture
def hearing():
    """Signals that the shell has this process ignore, in the background or under nohup, are heard again."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    ignored = [number for number in usual if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, usual[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def told(monkeypatch):
    """What is told of counted work, as (what, done, total)."""
    calls = []
    reached = progress.Phase.reached

    def note(self, done, total=None):
        reached(self, done, total)
        calls.append((self.what, self.done, self.total))

    monkeypatch.setattr(progress.Phase, "reached", note)
    return calls


def write_class_folders(root, counts):
    """Writes small JPEGs of slightly different sizes, `counts` of each class."""
    from tests.support.pictures import encoded, textured

    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture = textured(20, 30 + number % 3, seed=1000 * label + number)
            (root / name / f"{number:04d}.jpg").write_bytes(encoded(picture, "JPEG", quality=90))
    return root


@pytest.fixture
def class_folder(tmp_path):
    """A function from {class: pictures} to the folder in which it has written them."""
    return lambda counts, below="data": write_class_folders(tmp_path / below, counts)


@pytest.fixture(scope="session")
def _small_set(tmp_path_factory):
    """Class folders in `data` and their records in `records`, written once."""
    from pipelines.config import DataConfig
    from tests.support.small_records import SIDE, write

    root = tmp_path_factory.mktemp("small")
    write_class_folders(root / "data", {"cat": 20, "dog": 20})
    write(DataConfig(f"folder:{root}/data", resize=SIDE, crop=SIDE), root / "records")
    return root


@pytest.fixture
def pictures_config(_small_set, tmp_path):
    """Two class folders of 20 pictures each, to be used at 16 pixels."""
    from pipelines.config import DataConfig
    from tests.support.small_records import SIDE

    shutil.copytree(_small_set / "data", tmp_path / "data")
    return DataConfig(f"folder:{tmp_path}/data", resize=SIDE, crop=SIDE)


@pytest.fixture
def records_folder(_small_set, tmp_path):
    """Their records: 37 training pictures in five shards and three validation pictures in one."""
    return Path(shutil.copytree(_small_set / "records", tmp_path / "records"))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Paths of PEM files: `ca`, and a certificate with its key for `server` and `client`."""
    from tests.support.certificates import write_certificates

    return write_certificates(tmp_path_factory.mktemp("tls"))
