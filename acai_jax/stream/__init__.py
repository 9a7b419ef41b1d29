"""Alerts from Kafka, scored as they come; scores to tables and topics, each alert once."""
