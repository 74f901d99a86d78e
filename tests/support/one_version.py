"""A repository of one loaded version: what a core needs, without a lifecycle."""

import contextlib

from serving.errors import Code, ServingError, invalid
from serving.model import session as saved_model
from serving.model.servable import Servable
from serving.specs import ServableId, State, VersionStatus


class OneVersion:
    """Serves the version folder `path` as `name`; the label `stable` is its."""

    def __init__(self, name, path, **options):
        session = saved_model.load(str(path))
        self.runs = []
        self.reloaded = []
        self.servable_id = ServableId(name, int(path.name))
        self.loaded = Servable(
            self.servable_id,
            str(path),
            session.signatures,
            session,
            lambda api, seconds: self.runs.append(api),
            **options,
        )

    @contextlib.contextmanager
    def servable(self, spec):
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        if spec.label not in (None, "stable"):
            raise invalid(f"Unrecognized servable version label: {spec.label}")
        if spec.name != self.servable_id.name:
            raise ServingError(Code.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
        if spec.version not in (None, self.servable_id.version):
            raise ServingError(
                Code.NOT_FOUND, f"Servable not found for request: Specific({spec.name}, {spec.version})"
            )
        yield self.loaded

    def statuses(self, name, version=None):
        if name != self.servable_id.name:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return [VersionStatus(self.servable_id.version, State.AVAILABLE)]

    def reload(self, config):
        self.reloaded.append(config)

    def models(self):
        return [self.servable_id.name]

    def labels(self, name):
        return {"stable": self.servable_id.version}

    def retry(self, name, version):
        raise ServingError(Code.FAILED_PRECONDITION, f"version {version} of {name} has not failed")

    def ready(self):
        return True
