"""Whatever tasks do to their memory, in whatever order: every invariant of memory holds, and the trace tells all.

4,000 steps: 80 lives of 50. A step is a system call of a task, a fault, a write of the CPU or of a device, a pin under
any policy, a registration, a pin that is split, a merge of equal pages, or a migration; what it may refuse, it may. A
rule of the model that breaks (InvariantError) is a failure.
"""

import contextlib
import importlib.util
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from labkit.errors import BadInput, SyscallError

_SPEC = importlib.util.spec_from_file_location("world", Path(__file__).with_name("world.py"))
world = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(world)

_ANY = st.integers(0, 1 << 16)
_FEW = st.integers(1, 24)
_POLICY = st.sampled_from(["page", "folio", "range", "lease", "none"])
_MOST_TASKS, _MOST_VMAS, _MOST_PINS = 4, 8, 4


class Life(RuleBasedStateMachine):
    """Some tasks on 64 MiB."""

    @initialize()
    def boot(self):
        self.world = world.World()

    @invariant()
    def everything_holds(self):
        if hasattr(self, "world"):
            self.world.look()

    def teardown(self):
        if hasattr(self, "world"):
            self.world.end()

    def some(self, task, where, pages):
        """Return (mm, address, pages) of a part of one mapping of one task, whole units of hugetlb not asked for."""
        mm = self.world.alive[task % len(self.world.alive)]
        if not mm.space.vmas:
            return None
        vma = mm.space.vmas[where % len(mm.space.vmas)]
        first = where // 8 % vma.pages
        return mm, vma.start + first * world.PAGE, min(pages, vma.pages - first)

    def do(self, verb, part, *args, **more):
        if part is not None:
            with contextlib.suppress(SyscallError, BadInput):
                getattr(self.world, verb)(*part, *args, **more)

    @rule(task=_ANY, pages=st.sampled_from([1, 3, 16, 100, 600]), order=st.sampled_from([0, 0, 4, 9]),
          prot=st.sampled_from(["rw-", "rw-", "r--"]))  # fmt: skip
    def mmap(self, task, pages, order, prot):
        mm = self.world.alive[task % len(self.world.alive)]
        if len(mm.space.vmas) < _MOST_VMAS:
            self.world.mmap(mm, pages, order, prot)

    @rule(
        task=_ANY,
        which=_ANY,
        pages=st.integers(1, 48),
        prot=st.sampled_from(["rw-", "rw-", "r--"]),
        shared=st.booleans(),
    )
    def mmap_file(self, task, which, pages, prot, shared):
        mm = self.world.alive[task % len(self.world.alive)]
        if len(mm.space.vmas) < _MOST_VMAS:
            self.world.mmap_file(mm, which, pages, prot, shared=shared)

    @rule(task=_ANY, pages=st.integers(1, 2))
    def mmap_hugetlb(self, task, pages):
        mm = self.world.alive[task % len(self.world.alive)]
        if len(mm.space.vmas) < _MOST_VMAS:
            self.do("mmap_hugetlb", (mm, pages))

    @rule(which=_ANY, pages=st.integers(0, 48))
    def truncate(self, which, pages):
        self.world.truncate(which, pages)

    @rule(task=_ANY, where=_ANY, pages=_FEW)
    def munmap(self, task, where, pages):
        self.do("munmap", self.some(task, where, pages))

    @rule(task=_ANY, where=_ANY, pages=_FEW, prot=st.sampled_from(["r--", "rw-", "---"]))
    def mprotect(self, task, where, pages, prot):
        self.do("mprotect", self.some(task, where, pages), prot)

    @rule(task=_ANY, where=_ANY, pages=_FEW)
    def madvise_dontneed(self, task, where, pages):
        self.do("dontneed", self.some(task, where, pages))

    @rule(task=_ANY, where=_ANY, pages=_FEW)
    def read_fault(self, task, where, pages):
        self.do("touch", self.some(task, where, pages), write=False)

    @rule(task=_ANY, where=_ANY, pages=_FEW)
    def write(self, task, where, pages):
        self.do("store", self.some(task, where, pages))

    @rule(task=_ANY, where=_ANY)
    def write_all(self, task, where):
        self.do("store", self.some(task, where % 8, 1 << 20))

    @rule(task=_ANY, where=_ANY, pages=_FEW, policy=_POLICY, write=st.booleans())
    def pin(self, task, where, pages, policy, write):
        if len(self.world.pins) < _MOST_PINS:
            self.do("pin", self.some(task, where, pages), policy, write=write)

    @rule(task=_ANY, where=_ANY, pages=_FEW)
    def register(self, task, where, pages):
        if len(self.world.pins) < _MOST_PINS:
            self.do("register", self.some(task, where, pages))

    @precondition(lambda self: self.world.pins)
    @rule(which=_ANY, page=_FEW)
    def split_token(self, which, page):
        token = list(self.world.pins)[which % len(self.world.pins)]
        nbytes = sum(length for _, length in self.world.frames.ledger.held[token].ranges)
        if page * world.PAGE < nbytes:
            self.world.split(token, page)

    @rule(task=_ANY, where=_ANY, pages=_FEW)
    def ksm(self, task, where, pages):
        self.do("ksm", self.some(task, where, pages))

    @precondition(lambda self: self.world.pins)
    @rule(which=_ANY)
    def unpin(self, which):
        self.world.unpin(list(self.world.pins)[which % len(self.world.pins)])

    @precondition(lambda self: self.world.pins)
    @rule(which=_ANY)
    def dma(self, which):
        self.world.dma(list(self.world.pins)[which % len(self.world.pins)])

    @rule(task=_ANY)
    def fork(self, task):
        if len(self.world.alive) < _MOST_TASKS:
            mm = self.world.alive[task % len(self.world.alive)]
            self.do("fork", (mm,))

    @precondition(lambda self: len(self.world.alive) > 1)
    @rule(task=_ANY)
    def exit(self, task):
        self.world.exit(self.world.alive[task % len(self.world.alive)])

    @rule(task=_ANY, where=_ANY, pages=_FEW)
    def migrate(self, task, where, pages):
        self.do("migrate", self.some(task, where, pages))


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=80, stateful_step_count=50, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip
