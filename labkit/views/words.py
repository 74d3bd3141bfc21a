"""Numbers become words: addresses, counts and errors as a reader wants them."""

import errno as _errno

_SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

_ERRORS = {
    "EFAULT": "an address of the buffer is not mapped, or does not allow this access",
    "EINVAL": "the address, the offset or the length breaks a rule of alignment",
    "EIO": "the device could not do it",
    "ENOMEM": "there was no memory left to do it",
    "EAGAIN": "it would have had to wait, and was told not to",
    "EREMOTEIO": "the memory belongs to a peer device that this path cannot reach",
    "ENOSPC": "the device ends before the place that was asked for",
    "EOPNOTSUPP": "this memory or this device does not support it",
    "EBADF": "the file is not open for this",
    "ENODEV": "the device is gone",
    "ENODATA": "the medium has lost these bytes",
    "ETIMEDOUT": "the device did not answer in time",
    "EINTR": "a signal came first",
    "EPERM": "it is not allowed",
}


def address(addr: int) -> str:
    """Return an address in hex, in groups of four digits: 0x1_4022_0000."""
    return f"0x{addr:_x}"


def number(count: int) -> str:
    """Return a count for the middle of a sentence: words up to ten, digits in groups above."""
    return _SMALL[count] if 0 <= count < len(_SMALL) else f"{count:,}"


def count(n: int, noun: str, plural: str = "") -> str:
    """Return `n` things: 'one phyr', 'seven phyrs', '241 phyrs'."""
    return f"{number(n)} {noun if n == 1 else plural or noun + 's'}"


def errno_name(ret: int) -> str:
    """Return '-EFAULT' for -14, and '-errno 999' for a number without a name."""
    return "-" + _errno.errorcode.get(-ret, f"errno {-ret}")


def errno_sentence(ret: int) -> str:
    """Return what a negative errno says, in plain words and without a full stop."""
    return _ERRORS.get(errno_name(ret)[1:], "the call was refused")


def capital(text: str) -> str:
    """Return `text` with its first letter in upper case, and the rest as it is."""
    return text[:1].upper() + text[1:]
