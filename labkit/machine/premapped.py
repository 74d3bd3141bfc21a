"""Buffers that are pinned and mapped for the machine's device before any IO: the registry of premapped (DMABUF-1)."""

import errno
from functools import partial
from itertools import count
from typing import Protocol

from labkit.errors import SyscallError
from labkit.host.signals import whole
from labkit.kernel.currency.ops import Currency, Kiocb
from labkit.kernel.currency.premapped import Registration
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.rq_map import RequestMaps
from labkit.kernel.mm.backing.provider import Provider, provider_of
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.gup.follow import FOLL_LONGTERM, FOLL_PIN
from labkit.kernel.mm.gup.phyrs import UserPhyrs, get_user_phyrs, pin_phyrs, put_user_phyrs
from labkit.kernel.mm.pin.page import PAGE
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.machine.volume import FileVolume
from labkit.scatter.phyr import Phyrs
from labkit.scatter.premapped import DmaVecs
from labkit.scenario import Scenario
from labkit.trace.snapshot import PinState
from labkit.units import Sector


class Parts(Protocol):
    """As much of a machine as its registry needs."""

    scenario: Scenario
    frames: Frames
    mms: list[Mm]
    volume: FileVolume

    @property
    def nvme(self) -> object | None:
        """Return the driver, where it is NVMe's: no other takes device addresses."""

    @property
    def maps(self) -> RequestMaps | None:
        """Return what the driver has mapped."""


class Premapped:
    """The registered buffers of one machine. None takes simulated time: it is not the IO's, and is counted apart."""

    def __init__(self, parts: Parts) -> None:
        """Serve the device of `parts`."""
        self._parts = parts
        self.buffers: dict[tuple[int, int], Registration] = {}
        """By number of the address space, and user address."""
        self._providers: dict[int, Provider] = {}
        """Whose memory a registration is, by its number, where it is somebody's."""
        self._rqs = count(-1, -1)

    def lookup(self, iocb: Kiocb, addr: int, nbytes: int) -> Registration:
        """Return what holds [addr, addr + nbytes), whole mappings being registered with the first IO to them.

        Raises SyscallError EFAULT where a buffer ends before that, or nothing is mapped; as `register`.
        """
        self._check_file()
        found = self.find(iocb.mm, addr)
        if found is None:
            vma = iocb.mm.space.find_vma(addr)
            if vma is None:
                raise SyscallError("premapped", f"addr={addr:#x}", "is not mapped (MM-4)", errno.EFAULT)
            found = self.register(iocb.mm, vma.start, vma.end - vma.start)
        if addr + nbytes > found.addr + found.nbytes:
            what = f"addr={addr:#x} + {nbytes}"
            rule = f"ends beyond the {found.nbytes} bytes that are registered at {found.addr:#x} (DMABUF-1)"
            raise SyscallError("premapped", what, rule, errno.EFAULT)
        return found

    def find(self, mm: Mm, addr: int) -> Registration | None:
        """Return the buffer of `mm` that holds `addr`, mapped still or not."""
        mine = (each for (owner, _), each in self.buffers.items() if owner == mm.task)
        return next((each for each in mine if each.addr <= addr < each.addr + each.nbytes), None)

    @whole()
    def register(self, mm: Mm, addr: int, nbytes: int) -> Registration:
        """Pin [addr, addr + nbytes) for the long term (REG-1), and map it for the device, to be read and written.

        A provider keeps its own memory, and may take it back (move_notify). What was registered there until now is let
        go of. Raises SyscallError: EOPNOTSUPP for a file or a device that takes no device addresses, and for memory
        that is bounced; what pinning says (EFAULT, ENOMEM, EAGAIN, ENODEV), and mapping (EINVAL, EIO, ENOMEM). Nothing
        is registered, pinned or mapped then.
        """
        maps = self._check_file()
        self.unregister(mm, addr)
        found = get_user_phyrs(mm, addr, nbytes, write=True, flags=FOLL_PIN | FOLL_LONGTERM, mms=self._parts.mms)
        vma = mm.space.find_vma(addr)
        provider = provider_of(vma) if vma is not None else None
        token = self._pin(mm, addr, found) if provider is None else 0
        try:
            rq, dma = self._map(maps, found.phyrs)
        except BaseException:
            self._unpin(mm, token)
            raise
        buffer = self.buffers[mm.task, addr] = Registration(addr, found.phyrs, dma, rq, token)
        if provider is not None:
            self._providers[rq] = provider
            provider.importers[rq] = partial(self.unregister, mm, addr)
        return buffer

    @whole()
    def unregister(self, mm: Mm, addr: int) -> None:
        """Give up the buffer of `mm` that holds `addr`; IO that uses it ends first. Without one, nothing happens."""
        found = self.find(mm, addr)
        if found is not None:
            del self.buffers[mm.task, found.addr]
            found.dead = True
            self.put(found)

    def unpin_early(self, mm: Mm, addr: int) -> tuple[PinState, ...]:
        """Unpin the buffer that holds `addr`, and leave it mapped, as a bug would; return what was held."""
        found = self.find(mm, addr)
        if found is None or not found.token:
            return ()
        pin, found.token = mm.ledger.held[found.token], 0
        put_user_phyrs(mm, pin.token)
        return (pin,)

    def unregister_all(self, mm: Mm) -> None:
        """Give up every buffer of `mm`, whose task ends."""
        for _, addr in [key for key in self.buffers if key[0] == mm.task]:
            self.unregister(mm, addr)

    @whole()
    def put(self, found: Registration) -> None:
        """Unmap and unpin `found` if it is dead and unused; a second call does nothing. Errors: as unpinning."""
        maps = self._parts.maps
        if not found.dead or found.users or maps is None or found.rq not in maps.held:
            return
        maps.unmap(_request(found.rq, found.phyrs))
        if found.rq in self._providers:
            self._providers.pop(found.rq).importers.pop(found.rq, None)
        if found.token:
            self._unpin(self._parts.mms[self._parts.frames.ledger.task_of(found.token)], found.token)

    def _check_file(self) -> RequestMaps:
        """Return the driver's mappings. Raises EOPNOTSUPP for what takes no device addresses (DMABUF-1)."""
        parts, scenario = self._parts, self._parts.scenario
        maps = parts.maps if parts.nvme is not None else None
        for what, bad in (
            (f"device={scenario.device}", maps is None),
            (f"stack={scenario.stack}", scenario.stack != "none"),
            (f"fs={scenario.fs}", parts.volume.filesystem is not None),
        ):
            if bad:
                rule = "takes no device addresses: the raw device of NVMe alone does (DMABUF-1)"
                raise SyscallError("premapped", what, rule, errno.EOPNOTSUPP)
        if scenario.backend == "swiotlb" or maps is None:
            raise _bounced("dma=swiotlb")
        return maps

    def _pin(self, mm: Mm, addr: int, found: UserPhyrs) -> int:
        """Pin RAM page by page, as a registered buffer is (REG-1); return the token."""
        token, cost = pin_phyrs(mm, found.phyrs, PAGE, 0)
        self._parts.frames.emit((
            "GupPin", self._parts.frames.now(), 0, token, PAGE.name, addr, found.phyrs.vecs, found.ptes, cost.atomics,
            cost.struct_pages, cost.bytes_held, cost.cache_lines, mm.task, found.faults,
        ))  # fmt: skip
        return token

    def _unpin(self, mm: Mm, token: int) -> None:
        if not token:
            return
        frames, cost = self._parts.frames, put_user_phyrs(mm, token)
        try:
            frames.emit(("GupUnpin", frames.now(), 0, token, cost.atomics, cost.struct_pages))
        finally:
            frames.release_orphans()

    def _map(self, maps: RequestMaps, phyrs: Phyrs) -> tuple[int, DmaVecs]:
        """Map `phyrs` both ways; return the mapping's number and device addresses. Errors: RequestMaps.map."""
        request = _request(next(self._rqs), phyrs)
        maps.map(request)
        mapping = maps.held[request.rq]
        if mapping.bounced:
            maps.unmap(request)
            raise _bounced("memory that the device does not reach")
        return request.rq, DmaVecs.of(mapping.dma, maps.ops.dev.name)


def registry_of(currency: Currency) -> Premapped | None:
    """Return the registry of `currency`, or of what it stands before; None where nothing is mapped beforehand."""
    found = getattr(getattr(currency, "inner", currency), "registry", None)
    return found if isinstance(found, Premapped) else None


def _bounced(what: str) -> SyscallError:
    """Return the refusal of memory that would be copied: of a mapping that lasts, no IO says when (DMABUF-1)."""
    rule = "would be bounced, and nothing copies for an IO that was mapped before (DMABUF-1, SWI-3)"
    return SyscallError("premapped", what, rule, errno.EOPNOTSUPP)


def _request(rq: int, phyrs: Phyrs) -> Request:
    """Return what the driver is asked to map: no request, so its number is below 0."""
    return Request(rq, 0, -1, Sector(0), (phyrs.vecs, phyrs.nbytes, len(phyrs)), phyrs.cls, write=False)
