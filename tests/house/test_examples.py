"""The notebooks in examples/: valid, without outputs, of public names only, and every cell runs in small.

A notebook's code cells are run as one script by a plain interpreter: what they do is tested, and no
Jupyter server is needed for it.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
NOTEBOOKS = tuple(sorted((ROOT / "examples").glob("*.ipynb")))
PARAMETERS = "parameters"
TINY_RUN = {
    "WORKDIR": "runs/tiny",
    "RECIPE": "smoke",
    "VARIANT": "half",
    "TRAINING_PICTURES": 24,
    "VALIDATION_PICTURES": 12,
    "EPOCHS": 1.0,
    "BATCH_SIZE": 8,
}
# Values for each notebook's settings, and some of what its cells must then say.
SMALL = {
    "the_network_from_python": {"PICTURES": 12, "SHOWN": 4, "VARIANTS": ["half"]},
    # In this order: the second finds the first one's run, as a reader's would.
    "train_and_explain": {**TINY_RUN, "EVALUATIONS": 1, "EXPLAINED": 2},
    "serve_and_ask": {**TINY_RUN, "PICTURES": 2, "REQUESTS": 2},
}
SAID = {
    "the_network_from_python": (
        "60,965,224 parameters",
        "724 million multiply-adds",
        "conv1 11, pool1 19, conv2 51, pool2 67, conv3 99, conv4 131, conv5 163, pool5 195 pixels",
        "bias_rate          paper: 1.0           original: 2.0",
        "half               59,798,312 parameters",
    ),
    "train_and_explain": ("step 3/3", "ten crops averaged", "filters.png", "saliency.png"),
    "serve_and_ask": (
        '"predictions"',
        "\n400 ",
        "\n404 ",
        "same names:  True",
        "same scores: True",
        "version 1\n",
        '"AVAILABLE"',
        "\nUNAVAILABLE\n",
    ),
}
# What README and docs promise to keep; a notebook that reads other modules ages with the package.
PUBLIC = {
    "alexnet_tf": {"checkpoint", "model", "recipe", "run_record"},
    "alexnet_tf.run_record": {"Run"},
    "alexnet_tf.visualize": {"gradcam", "network", "overlays", "pictures"},
    "pipelines": {"dataset"},
    "pipelines.config": {"DataConfig"},
    "pipelines.sources": {"open_source"},
    "serving.client": {"ServingError", "connect"},
    "serving.server": {"create_server"},
}


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in {name.partition(".")[0] for name in PUBLIC}


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def with_values(settings: str, values: dict[str, object]) -> str:
    """A settings cell's source with other values; each must have been there."""
    tree = ast.parse(settings)
    left = dict(values)
    for node in tree.body:
        assert isinstance(node, ast.Assign), ast.unparse(node)
        (target,) = node.targets
        if target.id in left:
            node.value = ast.parse(repr(left.pop(target.id)), mode="eval").body
    assert not left, f"settings that the notebook lacks: {', '.join(left)}"
    return ast.unparse(tree)


def script(path: Path) -> str:
    """All code cells, each behind a line that names it, with small values in the settings."""
    parts = []
    for cell in code_cells(read(path)):
        settings = PARAMETERS in cell.metadata.get("tags", [])
        source = with_values(cell.source, SMALL[path.stem]) if settings else cell.source
        parts.append(f"print('cell {cell.id}', flush=True)\n{source}\n")
    return "\n".join(parts)


def test_every_notebook_has_small_values():
    assert {path.stem for path in NOTEBOOKS} == set(SMALL) == set(SAID)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_small_and_without_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(notebook))
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert notebook.cells[0].source.startswith("# ")
    assert path.stat().st_size < 40_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_code_cell_and_no_other_holds_the_settings(path):
    tagged = [PARAMETERS in cell.metadata.get("tags", []) for cell in code_cells(read(path))]
    assert tagged == [True] + [False] * (len(tagged) - 1)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_public_names_only(path):
    offences = []
    for cell in code_cells(read(path)):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                offences += [alias.name for alias in node.names if is_ours(alias.name)]
            elif isinstance(node, ast.ImportFrom) and is_ours(node.module):
                legal = PUBLIC.get(node.module, set())
                offences += [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in legal]
    assert not offences


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the notebooks run, one after the other."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_cell_runs(name, folder):
    path = ROOT / "examples" / f"{name}.ipynb"
    file = folder / f"{name}.py"
    file.write_text(script(path), encoding="utf-8")
    environment = {
        **os.environ,
        "MPLBACKEND": "Agg",
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    done = subprocess.run(
        [sys.executable, str(file)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    assert [words for words in SAID[name] if words not in done.stdout] == [], done.stdout
