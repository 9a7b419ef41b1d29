"""The command `acai-jax`: a file for each longer subcommand, and what they show."""
