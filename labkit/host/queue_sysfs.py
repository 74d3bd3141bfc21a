"""The queues of this machine, as sysfs tells of them to everybody: no root is needed, and nothing is changed."""

from pathlib import Path

SYS_BLOCK = Path("/sys/block")


def queues(root: Path = SYS_BLOCK) -> dict[str, dict[str, int | str]]:
    """Return the limits of every block device that has any bytes, by its name; {} on a machine without sysfs.

    Values are numbers where sysfs has numbers, else text, such as 'write back'.
    """
    found = {}
    for disk in sorted(root.glob("*")):
        if _read(disk / "size") not in {"", "0"}:
            found[disk.name] = {path.name: _value(_read(path)) for path in sorted((disk / "queue").glob("*"))}
    return {name: {key: value for key, value in told.items() if value != ""} for name, told in found.items() if told}


def _read(path: Path) -> str:
    """Return the text of a file of sysfs, '' for one that is not there, is a directory, or may not be read."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _value(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
