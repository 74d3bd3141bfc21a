"""What is plugged into a machine beside its block device: memory of other kinds, which comes when it is wanted."""

import errno
from collections.abc import Callable
from functools import cached_property
from itertools import accumulate

from labkit.errors import BadInput, SyscallError
from labkit.hardware.pcie import Pcie
from labkit.hardware.ram import RAM
from labkit.host.memory.arena import arena
from labkit.kernel.mm.backing.grant import FOREIGN, Scratch, map_grant_pages, map_grant_phyrs, scattered
from labkit.kernel.mm.backing.hugetlb import HugetlbPool
from labkit.kernel.mm.backing.memremap import DevicePrivate, DevPagemap
from labkit.kernel.mm.backing.provider import Provider
from labkit.kernel.mm.backing.remap_pfn import PfnMapping
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.page_alloc.free_area import UNMOVABLE
from labkit.kernel.mm.page_alloc.memory_hotplug import MEMORY_BLOCK, online_movable
from labkit.scatter.memory_class import MemoryClass
from labkit.scatter.payload import Range, Ranges, ranges_of
from labkit.units import PAGE_SHIFT, PUD_ORDER, PhysAddr

_LEAST_BAR, _LEAST_CXL = 2 << 20, 64 << 20
_POOL_SHARE = 4
"""hugetlb sets aside one part in so many of RAM when it is first asked: vm.nr_hugepages."""


class Slots:
    """The slots of one machine. Each buffer of a device's memory has a device of its own, with a BAR that holds it."""

    def __init__(
        self, frames: Frames, ram: RAM, pcie: Pcie, xen: Callable[[dict[int, int]], None], *, page: bool
    ) -> None:
        """Plug into `frames`, `ram` and the tree of `pcie`.

        `xen(p2m)` lets DMA see through guest frames; `page`: IO needs struct pages.
        """
        self.frames, self.ram, self.pcie, self._xen, self._page = frames, ram, pcie, xen, page
        self.plugged: dict[str, PfnMapping | DevPagemap] = {}
        """By name, as /proc/iomem would have it: gpu0, gpu1, vfio0, ..."""
        self.kept = 0
        """Frames that drivers have for good."""
        self._pools: dict[int, HugetlbPool] = {}
        self._scratch_at: dict[str, tuple[Range, ...]] = {}
        """Where the made-up pages of a grant stand, by its name."""

    def bar(self, kind: str, nbytes: int) -> PfnMapping:
        """Plug in a device whose BAR holds `nbytes`, without struct pages; its driver registers it for IO (MISS-4)."""
        name, size = self._name(kind), 1 << (max(nbytes, _LEAST_BAR) - 1).bit_length()
        start = self._add(name, size, struct_pages=False)
        self.pcie.plug(name, start, size)
        provider = Provider(name, start, size, MemoryClass("mmio", name))
        self.frames.emit(("MemremapPages", self.frames.now(), 0, name, start, size, 0, 0, 0))
        device = self.plugged[name] = PfnMapping(self.frames, kind, ((start, size),), provider)
        return device

    def hidden(self, nbytes: int) -> PfnMapping:
        """Leave `nbytes` of RAM to guests alone (mem=, /dev/mem); who runs them answers for IO to it."""
        name = self._name("hidden")
        start = self._add(name, nbytes, struct_pages=False)
        provider = Provider(name, start, nbytes, MemoryClass("ram", name), revocable=False)
        device = self.plugged[name] = PfnMapping(self.frames, "hidden", ((start, nbytes),), provider)
        return device

    def pfnmap(self, kind: str, nbytes: int) -> PfnMapping:
        """Let a driver map `nbytes` of kernel memory by frame number, and answer to nobody for it."""
        runs = kernel_pages(self.frames, nbytes)
        self.kept += nbytes >> PAGE_SHIFT
        return PfnMapping(self.frames, kind, runs)

    def pagemap(self, kind: str, nbytes: int) -> DevPagemap:
        """Plug in a device whose memory has struct pages (MM-27)."""
        name = self._name(kind)
        start = self._add(name, nbytes, struct_pages=True)
        if kind == "device-private":
            private = self.plugged[name] = DevicePrivate(self.frames, start, nbytes)
            return private
        provider = None
        if kind == "p2pdma":
            self.pcie.plug(name, start, nbytes)
            provider = Provider(name, start, nbytes, MemoryClass("mmio", name), struct_pages=True)
        device = self.plugged[name] = DevPagemap(self.frames, kind, start, nbytes, name=name, provider=provider)
        return device

    def grant(self, nbytes: int) -> PfnMapping | DevPagemap:
        """Let another domain grant `nbytes`: as made-up pages where IO needs those, else as machine addresses."""
        name = self._name("foreign")
        start = self._add(name, nbytes, struct_pages=False)
        runs = scattered(start, nbytes)
        self._xen(self.p2m)
        if self._page:
            scratch = Scratch(self._scratch(name, runs, nbytes), self.p2m)
            self.plugged[name] = map_grant_pages(self.frames, runs, scratch, name)
        else:
            self.plugged[name] = map_grant_phyrs(self.frames, runs, Provider(name, start, nbytes, FOREIGN))
        return self.plugged[name]

    @cached_property
    def p2m(self) -> dict[int, int]:
        """Guest frame to machine frame, for those that are not their own."""
        return {}

    def pool(self, order: int) -> HugetlbPool:
        """Return the hugetlb pool of pages of 2**`order` frames, set aside when it is first asked for."""
        if order not in self._pools:
            share = self.frames.buddy.managed // _POOL_SHARE >> order
            self._pools[order] = HugetlbPool(self.frames, max(share, int(order == PUD_ORDER)), order)
        return self._pools[order]

    def cxl(self, nbytes: int) -> None:
        """Plug in a CXL module with at least `nbytes` that are free, and online it as ZONE_MOVABLE."""
        free = sum(zone.nr_free for zone in self.frames.buddy.zones if zone.name == "Movable") << PAGE_SHIFT
        if free < 2 * nbytes:
            size = -(-max(2 * nbytes, _LEAST_CXL) // MEMORY_BLOCK) * MEMORY_BLOCK
            online_movable(self.frames.buddy, self._add(self._name("cxl"), size, struct_pages=True), size)

    def unplug(self, name: str) -> tuple[int, ...]:
        """Take a device away. Return the tokens of pins that its owner must wait for; then call it again.

        Raises BadInput ENOENT for a name that is not plugged in, SyscallError EBUSY for pages that are pinned.
        """
        device = self.plugged.get(name)
        if device is None:
            raise BadInput("machine", f"name={name!r}", f"is not one of {', '.join(self.plugged)}", errno.ENOENT)
        if isinstance(device, PfnMapping):
            held = device.revoke()
            if held:
                return held
            start, nbytes = device.runs[0][0], device.nbytes
            self.frames.emit(("MemunmapPages", self.frames.now(), 0, name, start, nbytes))
        else:
            device.memunmap()
        del self.plugged[name]
        self._remove(name)
        return ()

    def _remove(self, name: str) -> None:
        """Take the addresses of `name` away, and those of the pages that were made up for it."""
        memblock = self.frames.buddy.memblock
        if any(node.name == name for node in self.pcie.bars):
            self.pcie.unplug(name)
        for region in memblock.devices:
            if region.name == name:
                self.ram.revoke(memblock.remove(PhysAddr(region.start)).start)
        for at, (start, nbytes) in enumerate(self._scratch_at.pop(name, ())):
            self.ram.revoke(start)
            for pfn in range(start >> PAGE_SHIFT, (start + nbytes) >> PAGE_SHIFT):
                del self.p2m[pfn]
            if not at:
                memblock.remove(PhysAddr(start))

    def _add(self, name: str, nbytes: int, *, struct_pages: bool) -> PhysAddr:
        """Give `name` addresses and bytes. Raises SyscallError ENOSPC, ENOMEM, BadInput; nothing has changed then."""
        memory = arena(nbytes)
        start = self.frames.buddy.memblock.add_device(name, nbytes, struct_pages)
        try:
            self.ram.add(start, memory, name)
        except (BadInput, SyscallError):
            self.frames.buddy.memblock.remove(start)
            raise
        return start

    def _scratch(self, name: str, runs: tuple[Range, ...], nbytes: int) -> PhysAddr:
        """Return guest addresses that lead the CPU to the bytes of machine `runs`, in their order."""
        start = self.frames.buddy.memblock.add_device("Xen scratch", nbytes, True)
        ends = accumulate((length for _, length in runs), initial=int(start))
        self._scratch_at[name] = tuple((at, length) for at, (_, length) in zip(ends, runs, strict=False))
        for (at, length), (addr, _) in zip(self._scratch_at[name], runs, strict=True):
            self.ram.add(at, self.ram.view(addr, length), "Xen scratch")
        return start

    def _name(self, kind: str) -> str:
        taken = {region.name for region in self.frames.buddy.memblock.devices}
        return next(name for i in range(len(taken) + 1) if (name := f"{kind}{i}") not in taken)


def kernel_pages(frames: Frames, nbytes: int) -> Ranges:
    """Take `nbytes` from the allocator page by page, for the kernel and for good. Raises SyscallError ENOMEM."""
    starts, sizes = frames.buddy.alloc_bulk(0, nbytes >> PAGE_SHIFT, UNMOVABLE)
    if int(sizes.sum()) << PAGE_SHIFT < nbytes:
        if len(starts):
            frames.buddy.free_bulk(starts, sizes, 0)
        raise SyscallError("vmalloc", f"{nbytes} bytes", "are not to be had", errno.ENOMEM)
    return ranges_of(starts << PAGE_SHIFT, sizes << PAGE_SHIFT)
