"""The network, for one head and for banks of heads, and its weights."""
