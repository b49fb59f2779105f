"""How fast this machine maps, and how that compares with what others write around a model.

Every run is a process of its own: the same model, tiles, overlap, batch and precision, from files to a file.
"""

from mmovseg_geo.benchmark.compare import WAYS, compare, lines

__all__ = ["WAYS", "compare", "lines"]
