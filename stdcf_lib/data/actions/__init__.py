"""The six KTH actions performed by rendered bodies, at any tempo: the embedded default of the tempo story."""

from stdcf_lib.data.actions.clips import Actions, duration, render

__all__ = ["Actions", "duration", "render"]
