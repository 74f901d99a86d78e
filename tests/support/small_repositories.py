"""Repositories over real folders, whose servables weigh nothing."""

import threading

from serving.errors import ServingError
from serving.lifecycle.repository import ModelServerConfig
from serving.settings.messages import parse_text
from serving.specs import ModelSpec
from tests.support.fake_servables import SECONDS, at_rest, states, wait_for


def add(base, *versions):
    for version in versions:
        (base / str(version)).mkdir(parents=True)


def config(base, *names, more=""):
    """A configuration of models in folders of their names below `base`."""
    entries = (
        f"config {{ name: '{name}' base_path: '{base}/{name}' model_platform: 'tensorflow' {more} }}"
        for name in names
    )
    return parse_text(f"model_config_list {{ {' '.join(entries)} }}", ModelServerConfig())


def label(name, version):
    return f"version_labels {{ key: '{name}' value: {version} }}"


def chosen(repository, *spec, **fields):
    with repository.servable(ModelSpec(*spec, **fields)) as servable:
        return servable.predict()


def rest(repository, name="m"):
    """States once nothing is under way after a look."""
    repository.poll()
    wait_for(repository._manager, lambda: at_rest(repository._manager, name))
    return states(repository._manager, name)


class Call(threading.Thread):
    """A call that blocks, and what came of it."""

    def __init__(self, function, *arguments):
        super().__init__()
        self.error = None
        self._call = lambda: function(*arguments)
        self.start()

    def run(self):
        try:
            self._call()
        except ServingError as error:
            self.error = error

    def over(self):
        self.join(SECONDS)
        assert not self.is_alive()
        return self.error
