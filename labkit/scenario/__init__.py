"""A run as a value: what it is of, and the link that carries it from one reader to the next."""

from labkit.scenario.scenario import FOLIO_ORDER, KINDS, Hazard, Scenario, parse_bytes

__all__ = ["FOLIO_ORDER", "KINDS", "Hazard", "Scenario", "parse_bytes"]
