"""Folders that appear, vanish and break in any order: what must be available once all is at rest.

The model that the repository is held against knows nothing of threads, states or times.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from serving.errors import Code, ServingError
from serving.lifecycle.repository import ModelServerConfig, Repository
from serving.lifecycle.settings import RepositorySettings
from serving.monitoring import memory as process_memory
from serving.settings.messages import parse_text
from serving.specs import ModelSpec, State
from tests.support.fake_servables import SECONDS, FakeLoader, at_rest, serving_threads, wait_for

POLICIES = {
    "latest {}": lambda folders: set(sorted(folders)[-1:]),
    "latest { num_versions: 2 }": lambda folders: set(sorted(folders)[-2:]),
    "all {}": lambda folders: set(folders),
    "specific { versions: [1, 3] }": lambda folders: folders & {1, 3},
}
VERSIONS = st.integers(1, 4)


class Folders(RuleBasedStateMachine):
    """One model; every rule is followed by a look into its base path."""

    def __init__(self):
        super().__init__()
        self.collect, process_memory.release_memory = process_memory.release_memory, lambda: None
        self.root = Path(tempfile.mkdtemp())
        (self.root / "m").mkdir()
        self.loader = FakeLoader()
        self.repository = Repository(
            self.loader,
            RepositorySettings(ModelServerConfig(), file_system_poll_wait_seconds=-1, max_num_load_retries=0),
        )
        self.repository.start()
        # What the model knows: folders and those of them that cannot be loaded, whether the base path is
        # there, the policy, what is wanted since the last look that saw it, available, given up.
        self.folders, self.broken, self.there = set(), set(), True
        self.wanted, self.available, self.failed = set(), set(), set()
        self.configure("latest {}")

    def teardown(self):
        self.repository.stop(SECONDS)
        process_memory.release_memory = self.collect
        shutil.rmtree(self.root)
        assert serving_threads() == []
        assert self.loader.open == []

    @rule(version=VERSIONS, broken=st.booleans())
    def appears(self, version, broken):
        if self.there and version not in self.folders:
            (self.root / "m" / str(version)).mkdir()
            self.folders.add(version)
            self.mends(version, broken)

    @rule(version=VERSIONS)
    def vanishes(self, version):
        if self.there and version in self.folders:
            (self.root / "m" / str(version)).rmdir()
            self.folders.remove(version)
            self.poll()

    @rule(version=VERSIONS, broken=st.booleans())
    def mends(self, version, broken):
        """Or breaks: no matter to what is loaded, or was given up."""
        self.loader.errors.pop(version, None)
        self.broken.discard(version)
        if broken:
            self.loader.fail(version)
            self.broken.add(version)
        self.poll()

    @rule()
    def base_path_vanishes_or_comes_back(self):
        here, away = self.root / "m", self.root / "away"
        here.rename(away) if self.there else away.rename(here)
        self.there = not self.there
        self.poll()

    @rule(policy=st.sampled_from(sorted(POLICIES)))
    def configure(self, policy):
        self.policy = policy
        text = (
            f"model_config_list {{ config {{ name: 'm' base_path: '{self.root}/m' "
            "model_platform: 'tensorflow' "
            f"model_version_policy {{ {policy} }} }} }}"
        )
        self.repository._catalog.apply(parse_text(text, ModelServerConfig()))
        self.poll()

    @rule(version=VERSIONS)
    def retry(self, version):
        try:
            self.repository.retry("m", version)
        except ServingError:
            assert version not in self.failed
        else:
            assert version in self.failed
            self.failed.remove(version)
            self.poll()

    def poll(self):
        self.repository.poll()
        wait_for(self.repository._manager, lambda: at_rest(self.repository._manager))
        if self.there:
            self.wanted = POLICIES[self.policy](self.folders)
        self.failed &= self.wanted
        new = self.wanted - self.available - self.failed
        self.failed |= new & self.broken
        unwanted = self.available - self.wanted
        self.available = (self.available & self.wanted) | (new - self.broken)
        if self.wanted and not self.available and unwanted:
            self.available = {max(unwanted)}

    @invariant()
    def what_is_available(self):
        statuses = self._statuses()
        assert {s.version for s in statuses if s.state == State.AVAILABLE} == self.available
        assert set(self.loader.open) == self.available
        assert [s.version for s in statuses] == sorted((s.version for s in statuses), reverse=True)

    @invariant()
    def what_failed(self):
        failed = {s.version for s in self._statuses() if s.code == Code.DATA_LOSS}
        assert self.failed <= failed
        assert not failed & self.available

    @invariant()
    def the_latest_answers(self):
        assert self.repository.ready() == bool(self.available)
        if self.available:
            with self.repository.servable(ModelSpec("m")) as servable:
                assert servable.predict() == max(self.available)

    def _statuses(self):
        return self.repository._manager.statuses("m")


Folders.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestFolders = Folders.TestCase
