"""The training program: several heads at once, each of them independent of the others."""
