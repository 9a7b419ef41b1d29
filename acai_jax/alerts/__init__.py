"""Bytes become alert packets, and packets become arrays."""
