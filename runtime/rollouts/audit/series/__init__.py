"""Watchers: what shows only over a series of rollouts. One file each; a new one is a file, and its name here."""

from runtime.rollouts.audit.series.echo import EchoTrap
from runtime.rollouts.audit.series.efficiency import EfficiencyCollapse
from runtime.rollouts.audit.series.partial import PartialInputs
from runtime.rollouts.audit.series.watcher import Watcher

__all__ = ["WATCHERS", "EchoTrap", "EfficiencyCollapse", "PartialInputs", "Watcher"]

WATCHERS: tuple[type[Watcher], ...] = (EchoTrap, EfficiencyCollapse)
