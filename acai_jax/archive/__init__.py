"""Nights of public archives."""
