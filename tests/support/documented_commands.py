"""Which test runs each command that the pages show in a block: the walk of test_docs_run, or another test."""

from __future__ import annotations

import re

# Run there in small, in this order, after the lines of `make quickstart`.
WALKED = (
    "make quickstart",
    "python -m alexnet_tf.predict --workdir runs/quickstart photograph.jpg",
    "python -m alexnet_tf.predict --export runs/quickstart/export photograph.jpg",
    "python -m alexnet_tf.visualize gradcam --workdir runs/quickstart --out figures --image photograph.jpg",
    "python -m pipelines.prepare --data folder:photographs --size 224 --out records",
    "python -m pipelines.prepare --verify records",
    "python -m pipelines.samples --data folder:photographs --out pictures --count 6",
    "python -m pipelines.inspect --data folder:photographs --out inspected",
    "python -m alexnet_tf.train --recipe small_data --data records:records --workdir runs/mine",
    "python -m alexnet_tf.evaluate --workdir runs/mine --crops 10",
    "python -m alexnet_tf.predict --workdir runs/mine photograph.jpg",
    "python -m alexnet_tf.export --workdir runs/mine --export-dir export",
    "python -m serving.client --server localhost:8501 photograph.jpg",
    "python -m serving.client --server localhost:8501 --overlay overlays photograph.jpg",
    "python -m serving.client --server localhost:8501 --status",
    "python -m serving.client --server localhost:8501 --metadata",
    "python -m serving.check --server localhost:8501 --grpc localhost:8500 --export export",
    """(printf '{"instances": [{"b64": "'; base64 -w0 photograph.jpg; printf '"}]}') | """
    "curl -d @- localhost:8501/v1/models/alexnet:predict",
)
# Run by another test, with other pictures and a smaller network.
RUN_BY = {
    # What `make quickstart` runs, into other folders.
    "python -m alexnet_tf.evaluate --workdir runs/quickstart --crops 1 10": "test_the_quickstart_runs",
    "python -m alexnet_tf.visualize report --workdir runs/quickstart --out .": "test_the_quickstart_runs",
    "python -m alexnet_tf.export --workdir runs/quickstart --export-dir export": "test_the_quickstart_runs",
    "python -m alexnet_tf.train --recipe small_data --data folder:photographs --workdir runs/first": (
        "test_a_file_that_vanishes_after_the_scan_is_named"
    ),
    "python -m alexnet_tf.train --recipe small_data --data records:records --workdir runs/longer "
    "--set epochs=10 --set learning_rate=0.01": "test_a_run_leaves_its_record",
    "python -m alexnet_tf.train --recipe small_data --data records:records --workdir runs/five --seeds 5": (
        "test_each_run_of_a_sweep_is_that_of_its_seed"
    ),
    "python -m alexnet_tf.evaluate --workdir runs/five --crops 10": "test_the_average_beside_its_members",
    "python -m alexnet_tf.evaluate --workdir runs/one runs/other": (
        "test_an_ensemble_averages_runs_each_with_its_own_preparation"
    ),
    "python -m alexnet_tf.launch --workers 2 --restarts 3 -- --recipe paper --data records:records "
    "--workdir runs/paper": "test_a_death_is_told_and_the_restart_goes_on",
    "python -m alexnet_tf.train --recipe paper --data records:records --workdir runs/towers "
    "--devices towers": "test_training_is_that_of_one_device",
    "python -m serving.server --model_name=alexnet --model_base_path=export --port=8500 "
    "--rest_api_port=8501": "test_a_launch_line_serves_both_ways_and_drains_on_sigterm",
    "python -m serving.server --model_name=alexnet --model_base_path=export --rest_api_port=8501 "
    "--enable_batching --batching_parameters_file=deploy/tf-serving/batching.config": (
        "test_batching_joins_requests_of_both_transports"
    ),
}
# The suite itself.
ITSELF = ("make test",)
# What makes them small. The network of `make quickstart` is the real one on smaller pictures.
_SMALLER = (
    (r"--recipe quickstart", "--recipe smoke --set crop=67 --set resize=80"),
    (r"--recipe small_data", "--recipe smoke --set variant=merged --set resize=224 --set pad=16"),
    (r"--data synthetic\b", "--data synthetic:48,24"),
    (r"(serving\.check .*)", r"\1 photograph.jpg"),  # instead of three that are drawn
)


def in_small(command: str) -> str:
    """A command that takes seconds and does the same."""
    for documented, smaller in _SMALLER:
        command = re.sub(documented, smaller, command)
    return command
