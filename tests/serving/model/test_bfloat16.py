"""What a server says of --mixed_precision=bfloat16 on processors that multiply in it, and on others."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from serving import model_server
from serving.model import bfloat16
from serving.model_server import ModelServer
from serving.settings.flags import Flags
from tests.support import saved_models

ROOT = Path(__file__).resolve().parents[3]
CPUINFO = Path("/proc/cpuinfo")
MULTIPLIES = CPUINFO.exists() and any(flag in CPUINFO.read_text() for flag in ("avx512_bf16", "amx_bf16"))
BEGINNING = "warning: --mixed_precision=bfloat16: this processor "
WARNS = """
from serving.model import bfloat16; from serving import model_server
from serving.settings.flags import Flags
flags = Flags(model_base_path="/models", mixed_precision="bfloat16")
print(bfloat16.warning(model_server.session_config(flags)))
"""


@pytest.fixture
def config():
    return model_server.session_config(Flags(model_base_path="/models", mixed_precision="bfloat16"))


def test_the_factor_is_said():
    assert bfloat16.slowdown_warning(0.010, 0.079) == (
        f"{BEGINNING}multiplies in bfloat16 7.9 times slower than in float32 (measured on one convolution); "
        "float32 is faster here"
    )


@pytest.mark.parametrize(("seconds", "said"), [(0.005, ""), (0.010, ""), (0.0119, ""), (0.013, BEGINNING)])
def test_a_small_difference_is_none(seconds, said):
    assert bfloat16.slowdown_warning(0.010, seconds)[: len(BEGINNING)] == said


def test_times_decide(config, monkeypatch):
    monkeypatch.setattr(bfloat16, "measure", lambda config: (1.0, 3.0))
    assert "3.0 times slower" in bfloat16.warning(config)
    monkeypatch.setattr(bfloat16, "measure", lambda config: (1.0, 0.5))
    assert bfloat16.warning(config) == ""


def test_a_processor_that_cannot_do_it_at_all(config, monkeypatch):
    def refuse(config):
        raise tf.errors.AbortedError(None, None, "no\nprimitive")

    monkeypatch.setattr(bfloat16, "measure", refuse)
    assert bfloat16.warning(config) == (
        f"{BEGINNING}cannot compute a convolution in bfloat16, so that most requests will fail "
        "(no primitive); leave the flag out"
    )


def test_the_shortest_of_some_rounds_counts(config, monkeypatch):
    times = iter([5.0, 9.0, 2.0, 8.0, 3.0, 4.0, 7.0, 6.0])
    monkeypatch.setattr(bfloat16, "_seconds", lambda session, maps, feeds: next(times))
    monkeypatch.setattr(bfloat16, "LONGEST_SECONDS", 1e9)
    monkeypatch.setattr(tf.compat.v1.Session, "run", lambda *arguments: None)
    assert bfloat16.measure(config) == (2.0, 4.0)


def test_one_session_computes_in_float32_and_the_other_as_the_server_s_do(config, monkeypatch):
    seen = []
    monkeypatch.setattr(bfloat16, "_seconds", lambda session, *rest: seen.append(session._config) or 1.0)
    monkeypatch.setattr(tf.compat.v1.Session, "run", lambda *arguments: None)
    bfloat16.measure(config)
    toggles = [one.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 for one in seen[:2]]
    assert toggles == [rewriter_config_pb2.RewriterConfig.OFF, rewriter_config_pb2.RewriterConfig.ON]
    assert seen[1] == config


@pytest.mark.parametrize("precision", ["", "bfloat16"])
def test_the_server_measures_only_with_the_flag(tmp_path, caplog, monkeypatch, precision):
    measured = []
    monkeypatch.setattr(bfloat16, "measure", lambda config: measured.append(config) or (1.0, 8.0))
    saved_models.half_plus(tmp_path / "m")
    flags = Flags(model_base_path=str(tmp_path / "m"), mixed_precision=precision)
    with caplog.at_level(logging.WARNING, "serving"), ModelServer(flags, host="127.0.0.1", pick_ports=True):
        pass
    said = [line for line in caplog.messages if "bfloat16" in line]
    assert len(measured) == len(said) == (1 if precision else 0)
    assert all(line.startswith(BEGINNING) and "8.0 times slower" in line for line in said)


def warns(**environment):
    """What a process of its own says, perhaps with oneDNN told to take the processor for an older one."""
    inherited = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    return subprocess.run(
        [sys.executable, "-c", WARNS],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        timeout=120,
    ).stdout.strip()


@pytest.mark.skipif(not MULTIPLIES, reason="this processor does not multiply in bfloat16")
def test_a_processor_that_multiplies_in_bfloat16_is_not_warned_of():
    assert warns() == ""


@pytest.mark.skipif(not MULTIPLIES, reason="only an emulation of the emulation, on such a processor")
def test_an_older_processor_is_warned_of():
    """Without AVX-512 oneDNN has no such convolution, with the first AVX-512 it emulates it."""
    assert warns(ONEDNN_MAX_CPU_ISA="AVX2").startswith(BEGINNING)
    assert "times slower than in float32" in warns(ONEDNN_MAX_CPU_ISA="AVX512_CORE")
