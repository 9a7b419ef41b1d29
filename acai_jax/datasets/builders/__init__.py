"""TFDS builders: importing one of the packages below registers its dataset."""
