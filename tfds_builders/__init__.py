"""Where TFDS's own command finds the builders of `acai_jax.datasets.builders`."""
