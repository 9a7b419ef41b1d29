"""The command `acai-jax`: a file for each subcommand, its arguments, and what it prints.

A subcommand is a frozen dataclass: its fields are the arguments, their docstrings the help. `run`
calls one public function and reports. JAX, TFDS and matplotlib take seconds to import: what needs
them is imported in `run`, so that --help and mistyped commands do not wait.
"""
