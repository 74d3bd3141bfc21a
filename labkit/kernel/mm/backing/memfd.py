"""Files that are memory and have no disk: memfd_create, memfd_secret, and KVM's guest_memfd."""

import errno

from labkit.errors import SyscallError
from labkit.kernel.mm.backing.filemap import AddressSpace, mmap_file
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.units import UserAddr


def memfd_create(frames: Frames, nbytes: int, order: int = 0) -> AddressSpace:
    """Return a memfd of `nbytes` bytes: shmem without a name (mm/memfd.c). Errors: AddressSpace."""
    return AddressSpace(frames, "memfd", nbytes, order=order, kind="memfd")


def memfd_secret(frames: Frames, nbytes: int) -> AddressSpace:
    """Return a file of `nbytes` that the kernel itself has no mapping of (mm/secretmem.c): GUP refuses it."""
    return AddressSpace(frames, "secretmem", nbytes, kind="secretmem")


class GuestMemfd(AddressSpace):
    """Memory of a virtual machine (virt/kvm/guest_memfd.c): `private` to the guest, or shared with who runs it."""

    def __init__(self, frames: Frames, nbytes: int, *, private: bool) -> None:
        """Open one; without GUEST_MEMFD_FLAG_MMAP it is `private`, and nobody maps it."""
        super().__init__(frames, "guest_memfd", nbytes, kind="guest-memfd")
        self.private = private

    def mmap(self, mm: Mm, nbytes: int, prot: str = "rw-") -> UserAddr:
        """Map it. Raises SyscallError ENODEV for private memory; else as mmap_file."""
        if self.private:
            raise SyscallError("mmap", self.name, "is private to its guest, and nobody maps it", errno.ENODEV)
        return mmap_file(mm, self, nbytes, prot)
