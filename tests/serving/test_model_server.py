"""What the flags become: TensorFlow's configuration and the list of models."""

import pytest

from serving import model_server
from serving.errors import ServingError
from serving.settings.flags import Flags

ON = 1  # RewriterConfig.Toggle


def test_threads_of_a_session():
    config = model_server.session_config(Flags(tensorflow_session_parallelism=3))
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (3, 3)
    config = model_server.session_config(
        Flags(tensorflow_intra_op_parallelism=1, tensorflow_inter_op_parallelism=2)
    )
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (1, 2)


def test_a_session_config_file_and_what_flags_say_on_top(tmp_path):
    path = tmp_path / "session.config"
    path.write_text("intra_op_parallelism_threads: 5 inter_op_parallelism_threads: 7")
    flags = Flags(tensorflow_session_config_file=str(path), tensorflow_inter_op_parallelism=2)
    config = model_server.session_config(flags)
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (5, 2)
    path.write_text("intra: 5")
    with pytest.raises(ServingError, match=r"Error parsing text-format tensorflow.ConfigProto: 1:1"):
        model_server.session_config(flags)


def test_memory_of_a_gpu_and_precision():
    config = model_server.session_config(
        Flags(per_process_gpu_memory_fraction=0.5, mixed_precision="bfloat16")
    )
    assert config.gpu_options.per_process_gpu_memory_fraction == 0.5
    assert config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 == ON
    plain = model_server.session_config(Flags())
    assert plain.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 != ON


def test_a_relative_base_path_starts_where_the_user_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (model,) = model_server.model_config(
        Flags(model_name="m", model_base_path="export")
    ).model_config_list.config
    assert (model.name, model.base_path) == ("m", f"{tmp_path}/export")


def test_a_configuration_file_wins(tmp_path):
    path = tmp_path / "models.config"
    path.write_text('model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" } }')
    config = model_server.model_config(Flags(model_base_path="/other", model_config_file=str(path)))
    assert [model.name for model in config.model_config_list.config] == ["a"]
