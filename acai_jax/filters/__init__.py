"""Filters over score tables: SQL, and MongoDB pipelines."""
