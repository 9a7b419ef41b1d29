"""Simulated alerts of ZTF and LSST with known labels, from physics and published figures.

No real pixel or packet is in here. Each object is drawn from its own seed, so that the same call
makes the same alerts, whatever the number of processes.
"""

from acai_jax.simulate.alert import SimulatedAlert
from acai_jax.simulate.run import DEFAULT_PROPORTIONS, simulate_packets, write_alerts

__all__ = ["DEFAULT_PROPORTIONS", "SimulatedAlert", "simulate_packets", "write_alerts"]
