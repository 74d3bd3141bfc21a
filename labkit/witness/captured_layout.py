"""The memory of a capture, as its file has it: user pages, frames, folios, and no more of them than an IO has."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from labkit.units import PAGE_SIZE

_Page = Annotated[int, Field(ge=0, lt=1 << 63, multiple_of=PAGE_SIZE)]
_MOST_PAGES = 1 << 20
"""Pages of a layout at most: 4 GiB, twice of what one call moves."""
_Pages = Annotated[int, Field(ge=1, le=_MOST_PAGES)]
_FolioPages = Annotated[int, Field(ge=1, le=1 << 18)]
"""Pages of a folio: 1 GiB at most."""
_MOST_FRAMES = 1 << 23
"""Frames of all folios at most: every page of a buffer may lie in another one."""
_Flags = list[Annotated[int, Field(ge=0, lt=64)] | str]
"""Bits of /proc/kpageflags, or their names."""
_Pfn = Annotated[int, Field(ge=0, lt=1 << 40)]
_PfnOrNone = Annotated[int, Field(ge=-1, lt=1 << 40)]


class Part(BaseModel):
    """A part of a capture: what it has beyond the format is let be."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class CapturedLayout(Part):
    """User pages and their frames, before the IO, and after it where that differs."""

    page_size: Literal[4096] = 4096
    before: list[tuple[_Page, _PfnOrNone, _Pages]]
    after: list[tuple[_Page, _PfnOrNone, _Pages]] | None = None
    large_folios: list[tuple[_Pfn, _FolioPages] | tuple[_Pfn, _FolioPages, _Flags]] = []
    stable: bool = True

    @model_validator(mode="after")
    def _few(self) -> Self:
        """Refuse more pages than any IO has."""
        if max(sum(row[2] for row in rows) for rows in (self.before, self.after or ())) > _MOST_PAGES:
            raise PydanticCustomError("layout", f"more than {_MOST_PAGES} pages are told of")
        if sum(folio[1] for folio in self.large_folios) > _MOST_FRAMES:
            raise PydanticCustomError("layout", f"more than {_MOST_FRAMES} frames of large folios are told of")
        return self
