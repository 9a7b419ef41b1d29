"""How fast alerts are simulated and written; how real they look is said by `benchmarks.reality`.

    python -m benchmarks.simulation

Results go to benchmarks/results/simulation-<device>.json.
"""

import argparse
import statistics
import tempfile
import time

from rich.console import Console

from acai_jax.simulate import simulate_packets, write_alerts
from benchmarks import timing


def seconds_to_write(alerts: int, seed: int) -> float:
    """`write_alerts` with a process per core, starting them included."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_alerts(folder, alerts, seed)
        return time.perf_counter() - start


def cpu_seconds(alerts: int, seed: int) -> float:
    """CPU time of simulation alone, in this process."""
    start = time.process_time()
    for _ in simulate_packets(alerts, seed):
        pass
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast alerts are simulated.")
    parser.add_argument("--alerts", type=int, default=1000, help="in each round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    alerts = arguments.alerts
    rates = [alerts / seconds_to_write(alerts, seed) for seed in range(arguments.rounds)]
    cpu = [1000 * cpu_seconds(alerts, seed) / alerts for seed in range(arguments.rounds)]
    rate, milliseconds = statistics.median(rates), statistics.median(cpu)
    Console().print(f"simulated and written: {rate:,.0f} alerts/s; {milliseconds:.1f} ms CPU each")
    found = {"alerts_per_second": rate, "rates": rates, "cpu_milliseconds": cpu, "alerts": alerts}
    timing.write_results("simulation", [found])


if __name__ == "__main__":
    main()
