"""What happens to mappings and their pages: faults, copies, forks, moves, merges."""
