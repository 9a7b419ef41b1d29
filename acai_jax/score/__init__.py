"""Alerts in, score table out."""
