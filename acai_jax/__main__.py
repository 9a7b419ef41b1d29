"""`python -m acai_jax` is the command `acai-jax`."""

from acai_jax.commands.main import main

if __name__ == "__main__":
    main()
