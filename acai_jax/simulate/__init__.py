"""Simulated ZTF alerts with known labels, from physics and the survey's published figures.

No real pixel or packet is in here. Each object is drawn from its own seed, so that the same call
makes the same alerts, whatever the number of processes.
"""

from acai_jax.simulate.packets import SimulatedAlert
from acai_jax.simulate.run import DEFAULT_PROPORTIONS, simulate_packets, write_alerts

__all__ = ["DEFAULT_PROPORTIONS", "SimulatedAlert", "simulate_packets", "write_alerts"]
