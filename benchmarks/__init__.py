"""Each benchmark prints a table with its peers beside us, and writes JSON."""
