"""Today's currency between request and device: an entry for each segment, half memory and half device address."""

SG_BYTES = 32
"""sizeof(struct scatterlist), Linux 6.18 (BTF)."""
SG_CHUNK_SIZE = 128
"""Entries of one chunk; the last one of all but the last chunk leads to the next (SG-2)."""


def chunks(entries: int) -> list[int]:
    """Return how many entries each chunk of a table for `entries` has, links counted (SG-2)."""
    out: list[int] = []
    while entries > SG_CHUNK_SIZE:
        out.append(SG_CHUNK_SIZE)
        entries -= SG_CHUNK_SIZE - 1
    return [*out, entries] if entries else out


def table_bytes(entries: int) -> int:
    """Return the bytes of a table for `entries` segments, links counted (SG-2)."""
    return SG_BYTES * sum(chunks(entries))
